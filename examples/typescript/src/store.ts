// Bytes to the store and back, with fetch. No error shows a URL: anybody who reads it could use it.

import { createHash } from "node:crypto";
import { createReadStream, openAsBlob } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import type { PresignedRequest, VariantPromise } from "./gen/assetlane/v1/upload.js";
import { pauseAfter } from "./client.js";

const PUT_ATTEMPTS = 5;
const WORTH_ANOTHER_TRY = new Set([408, 409, 429]);

/** What the store answered to a PUT or GET that it did not carry out. */
export class StoreRefused extends Error {
  constructor(readonly status: number) {
    super(`the store answered ${status}`);
  }

  /** Whether a freshly signed URL may help. */
  get isStale(): boolean {
    return this.status === 403;
  }
}

/**
 * Sends a file to the store exactly as it was signed, and again when the store or the way there is at fault.
 * Throws StoreRefused.
 */
export async function put(target: PresignedRequest, path: string): Promise<void> {
  const headers = new Headers(target.headers);
  // fetch sets it itself, from the body's length, which is the promised one.
  headers.delete("content-length");
  // A blob is read as it is sent, and unlike a stream it has a length and can be sent again. Its type would become
  // a header: openAsBlob gives it none.
  const body = await openAsBlob(path);
  for (let failures = 0; ; failures++) {
    let refused: StoreRefused | undefined;
    try {
      // The URL goes as it is; do not take it apart and put it together again.
      const response = await fetch(target.url, { method: target.method, headers, body, redirect: "error" });
      await response.arrayBuffer(); // so that the connection can be used again
      // 412: an earlier try arrived after all; CompleteUpload proves that it is the right object.
      if (response.ok || response.status === 412) return;
      refused = new StoreRefused(response.status);
      if (response.status < 500 && !WORTH_ANOTHER_TRY.has(response.status)) throw refused;
    } catch (error) {
      if (error === refused || failures + 1 === PUT_ATTEMPTS) throw error;
    }
    if (failures + 1 === PUT_ATTEMPTS) throw refused;
    await sleep(pauseAfter(failures, 0));
  }
}

/** Reads what stands behind a read URL and returns its length and SHA-256. Throws StoreRefused. */
export async function read(url: string): Promise<{ sizeBytes: number; sha256: Buffer }> {
  const response = await fetch(url);
  if (!response.ok || !response.body) {
    await response.body?.cancel();
    throw new StoreRefused(response.status);
  }
  return digested(response.body);
}

/** Describes a file as RequestUpload wants it: the store will refuse any other bytes. */
export async function promise(path: string, contentType: string): Promise<Partial<VariantPromise>> {
  return { name: "original", contentType, ...(await digested(createReadStream(path))) };
}

async function digested(chunks: AsyncIterable<Uint8Array>): Promise<{ sizeBytes: number; sha256: Buffer }> {
  const digest = createHash("sha256");
  let sizeBytes = 0;
  for await (const chunk of chunks) {
    digest.update(chunk);
    sizeBytes += chunk.length;
  }
  return { sizeBytes, sha256: digest.digest() };
}
