// SHA-256 of what need not fit into memory: crypto.subtle wants all of it at once, and a secure context.

import { createSHA256 } from "hash-wasm";

import { AssetlaneError } from "./errors.js";

const PIECE_BYTES = 4 * 1024 * 1024;

/** Returns the 32 bytes of the SHA-256 of a blob of any size, with constant memory. Throws FILE_UNREADABLE. */
export async function sha256(blob: Blob, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const hash = await createSHA256();
  hash.init();
  // Slices, not blob.stream(): React Native's blobs have none, and a slice can be as large as is fast.
  for (let start = 0; start < blob.size; start += PIECE_BYTES) {
    signal?.throwIfAborted();
    hash.update(new Uint8Array(await bytesOf(blob.slice(start, start + PIECE_BYTES))));
  }
  return Uint8Array.from(hash.digest("binary"));
}

/** Reads a blob. Throws FILE_UNREADABLE: the file was moved, changed or locked since it was picked. */
export async function bytesOf(blob: Blob): Promise<ArrayBuffer> {
  try {
    return await blob.arrayBuffer();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new AssetlaneError("FILE_UNREADABLE", `The file cannot be read any more: ${why}`, { cause: error });
  }
}
