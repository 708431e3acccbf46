// The media type of a file: browsers go by its name, stores and other browsers by its first bytes.

import { bytesOf } from "./digest.js";

const NEUTRAL = "application/octet-stream";
const HEAD_BYTES = 1024;

type Signature = readonly [type: string, offset: number, bytes: string];

// Only what is certain: a type that is not here is taken as it is declared, and the server looks at it.
const SIGNATURES: readonly Signature[] = [
  ["image/jpeg", 0, "\xff\xd8\xff"],
  ["image/png", 0, "\x89PNG\r\n\x1a\n"],
  ["image/gif", 0, "GIF87a"],
  ["image/gif", 0, "GIF89a"],
  ["image/bmp", 0, "BM"],
  ["image/tiff", 0, "II*\0"],
  ["image/tiff", 0, "MM\0*"],
  ["application/pdf", 0, "%PDF-"],
  ["application/gzip", 0, "\x1f\x8b\x08"],
];
const LOOKED_AT = /^(image|audio|video)\/|^application\/pdf$/;
/** Types whose bytes are those of another one: text that draws, containers with several names. */
const NOT_LOOKED_AT = /^image\/svg\+xml|^image\/(x-|vnd\.)/;

/**
 * Returns the type to promise: the declared one, unless its first bytes are certainly something else.
 * `declared` empty: what the bytes say, or `application/octet-stream`.
 */
export async function mediaTypeOf(file: Blob, declared: string): Promise<string> {
  const isChecked = !declared || declared === NEUTRAL || (LOOKED_AT.test(declared) && !NOT_LOOKED_AT.test(declared));
  if (!isChecked) return declared;
  const head = new Uint8Array(await bytesOf(file.slice(0, HEAD_BYTES)));
  const seen = sniffed(head);
  if (!declared || declared === NEUTRAL) return seen ?? NEUTRAL;
  return seen && essence(declared) !== seen ? seen : declared;
}

/** Returns the type that the first bytes certainly have. */
export function sniffed(head: Uint8Array): string | undefined {
  const found = SIGNATURES.find(([, offset, bytes]) => begins(head, offset, bytes));
  // Two letters are no proof: only a bitmap whose header has a known length is one.
  if (found?.[0] === "image/bmp" && ![12, 40, 52, 56, 64, 108, 124].includes(head[14] ?? 0)) return undefined;
  if (found) return found[0];
  if (begins(head, 0, "RIFF") && begins(head, 8, "WEBP")) return "image/webp";
  return undefined;
}

function begins(head: Uint8Array, offset: number, bytes: string): boolean {
  return [...bytes].every((char, index) => head[offset + index] === char.charCodeAt(0));
}

function essence(type: string): string {
  const [name = ""] = type.split(";");
  const lower = name.trim().toLowerCase();
  return lower === "image/jpg" || lower === "image/pjpeg" ? "image/jpeg" : lower;
}
