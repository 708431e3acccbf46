// One request to the object store, as it was signed. No error contains the URL: anybody who reads it could use it.

import type { PresignedRequest } from "./gen/assetlane/v1/upload_pb.js";

/** What the store answered. `status` 0: no answer came. */
export interface StoreAnswer {
  readonly status: number;
  /** The store's own error code, such as `AccessDenied`. */
  readonly code: string;
  /** The entity tag, without quotes; empty when the bucket's CORS rules do not expose it. */
  readonly etag: string;
}

export type OnSent = (sentBytes: number) => void;
/** Sends a body to the store. Rejects only with the signal's reason. */
export type SendToStore = (request: PresignedRequest, body: Blob, onSent: OnSent, signal: AbortSignal) => Promise<StoreAnswer>;

/** A request in which nothing moves for so long is given up. */
const STALL_MS = 120_000;
const ERROR_CODE = /<Code>\s*([A-Za-z0-9._-]{1,64})\s*<\/Code>/;
// A page cannot set these: the browser does, from the URL and the body, and what it sends is what was signed.
const AUTOMATIC = new Set(["content-length", "host"]);

/** Returns the way to send that fits the platform: XMLHttpRequest reports progress, fetch does not. */
export function platformSender(fetch: typeof globalThis.fetch): SendToStore {
  return typeof XMLHttpRequest === "function" ? sendByXhr : sendByFetch(fetch);
}

/** Sends with XMLHttpRequest, and reports progress while it does. */
export const sendByXhr: SendToStore = (request, body, onSent, signal) =>
  new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    let stall: ReturnType<typeof setTimeout> | undefined;
    const moved = () => {
      clearTimeout(stall);
      stall = setTimeout(() => xhr.abort(), STALL_MS);
    };
    const stop = () => xhr.abort();
    const end = () => {
      clearTimeout(stall);
      signal.removeEventListener("abort", stop);
      if (signal.aborted) reject(signal.reason);
      else resolve(answerOf(xhr.status, xhr.status ? xhr.responseText : "", xhr.status ? xhr.getResponseHeader("etag") : null));
    };
    if (signal.aborted) return reject(signal.reason);
    xhr.open(request.method, request.url);
    for (const [name, value] of Object.entries(request.headers)) {
      if (!AUTOMATIC.has(name.toLowerCase())) xhr.setRequestHeader(name, value);
    }
    xhr.upload.onprogress = (event) => {
      moved();
      onSent(Math.min(event.loaded, body.size));
    };
    xhr.onloadend = end;
    signal.addEventListener("abort", stop, { once: true });
    moved();
    // Without a type of its own: a body's type would replace the signed header where that is absent.
    xhr.send(untyped(body));
  });

/** Sends with fetch: for Node and React Native. Progress is reported when the answer has arrived. */
export function sendByFetch(fetch: typeof globalThis.fetch): SendToStore {
  return async (request, body, onSent, signal) => {
    const headers = new Headers(request.headers);
    for (const name of AUTOMATIC) headers.delete(name);
    try {
      // The URL goes as it is: decoding and encoding it again would break the signature.
      const response = await fetch(request.url, { method: request.method, headers, body: untyped(body), redirect: "error", signal });
      const answer = answerOf(response.status, await response.text(), response.headers.get("etag"));
      if (response.ok) onSent(body.size);
      return answer;
    } catch {
      signal.throwIfAborted();
      // Its text may hold the URL. What it means is the same in any case: no answer came.
      return answerOf(0, "", null);
    }
  };
}

function answerOf(status: number, text: string, etag: string | null): StoreAnswer {
  const code = status >= 300 ? (ERROR_CODE.exec(text.slice(0, 65_536))?.[1] ?? "") : "";
  return { status, code, etag: (etag ?? "").replaceAll('"', "") };
}

function untyped(body: Blob): Blob {
  return body.type ? body.slice(0, body.size, "") : body;
}
