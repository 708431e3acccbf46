import { create } from "@bufbuild/protobuf";
import { describe, expect, test, vi } from "vitest";

import { Cancelled } from "../src/errors.js";
import { PresignedRequestSchema } from "../src/gen/assetlane/v1/upload_pb.js";
import { sendByFetch, type StoreAnswer } from "../src/store.js";
import { put } from "../src/transfer.js";
import { storeOf } from "./fakes.js";

const URL_1 = "https://store.test/one?X-Amz-Signature=secret";
const signed = (url = URL_1, seconds?: bigint) => create(PresignedRequestSchema, { method: "PUT", url, headers: { "content-type": "text/plain", "content-length": "5" }, ...(seconds === undefined ? {} : { expireTime: { seconds } }) });
const body = new Blob(["hello"]);

async function sent(answers: (Partial<StoreAnswer> | (() => Partial<StoreAnswer>))[], renew = async () => signed("https://store.test/two"), attempts?: number, signal = new AbortController().signal, first = signed()) {
  const store = storeOf(...answers);
  const waits: number[] = [];
  const transfer = { send: store.send, renew, onSent: () => {}, signal, wait: async (ms: number) => void waits.push(ms), ...(attempts ? { attempts } : {}) };
  const outcome = await put(first, body, transfer).then((etag) => ({ etag }), (error: unknown) => ({ error: error as Record<string, unknown> & Error }));
  return { outcome, urls: store.urls, waits };
}

describe("a PUT", () => {
  test("returns the entity tag", async () => {
    expect((await sent([{ etag: "abc" }])).outcome).toEqual({ etag: "abc" });
  });

  test.each([0, 408, 409, 425, 429, 500, 502, 503])("is repeated after %i", async (status) => {
    const { outcome, urls, waits } = await sent([{ status }, { status }, { status: 200 }]);
    expect(outcome).toEqual({ etag: "" });
    expect(urls).toEqual([URL_1, URL_1, URL_1]);
    expect(waits).toHaveLength(2);
  });

  test("is repeated after S3's RequestTimeout, which is a 400", async () => {
    expect((await sent([{ status: 400, code: "RequestTimeout" }])).outcome).toEqual({ etag: "" });
  });

  test("that finds the object there is a success: an earlier try arrived", async () => {
    expect((await sent([{ status: 0 }, { status: 412 }])).outcome).toEqual({ etag: "" });
  });

  test("with a signature that is refused is signed again, once", async () => {
    expect((await sent([{ status: 403 }])).urls).toEqual([URL_1, "https://store.test/two"]);
    const { outcome, urls } = await sent([{ status: 403 }, { status: 403, code: "AccessDenied" }]);
    expect(urls).toHaveLength(2);
    expect(outcome).toMatchObject({ error: { reason: "STORE_REFUSED", status: 403, storeCode: "AccessDenied" } });
  });

  test("is signed again while signatures run out on a slow way, five times at most", async () => {
    const old = async () => signed(URL_1, 1n);
    const { urls, outcome } = await sent(Array.from({ length: 9 }, () => ({ status: 403 })), old, undefined, undefined, signed(URL_1, 1n));
    expect(urls).toHaveLength(6);
    expect(outcome).toMatchObject({ error: { reason: "STORE_REFUSED" } });
  });

  test.each([400, 404, 411, 413])("is not repeated after %i", async (status) => {
    const { outcome, urls } = await sent([{ status }]);
    expect(urls).toHaveLength(1);
    expect(outcome).toMatchObject({ error: { reason: "STORE_REFUSED", status } });
  });

  test("gives up after its attempts, and no error holds the URL", async () => {
    const { outcome, urls } = await sent(Array.from({ length: 3 }, () => ({ status: 0 })), undefined, 3);
    expect(urls).toHaveLength(3);
    expect(outcome).toMatchObject({ error: { reason: "STORE_UNREACHABLE", isTemporary: true } });
    expect(String("error" in outcome && outcome.error.stack)).not.toContain("Signature");
  });

  test("waits while the browser is offline, and counts no attempt", async () => {
    vi.stubGlobal("navigator", { onLine: false });
    const online = new EventTarget();
    vi.stubGlobal("addEventListener", online.addEventListener.bind(online));
    vi.stubGlobal("removeEventListener", online.removeEventListener.bind(online));
    try {
      const back = () => {
        setTimeout(() => {
          vi.stubGlobal("navigator", { onLine: true });
          online.dispatchEvent(new Event("online"));
        }, 10);
        return { status: 0 };
      };
      const { outcome, urls } = await sent([back, { status: 200 }], undefined, 1);
      expect(outcome).toEqual({ etag: "" });
      expect(urls).toHaveLength(2);
    } finally {
      vi.unstubAllGlobals();
    }
  });

  test("ends when its signal aborts", async () => {
    const stop = new AbortController();
    stop.abort(new Cancelled());
    expect((await sent([], undefined, undefined, stop.signal)).outcome).toMatchObject({ error: { reason: "CANCELLED" } });
  });
});

describe("sending with fetch", () => {
  test("sends the URL as it is, and no header that the platform sets", async () => {
    const calls: [unknown, RequestInit | undefined][] = [];
    const send = sendByFetch(async (url, init) => {
      calls.push([url, init]);
      return new Response("", { status: 200, headers: { etag: '"abc"' } });
    });
    const bytes: number[] = [];
    const answer = await send(signed("https://store.test/a%20b?x=%2F"), new Blob(["hello"], { type: "image/png" }), (sentBytes) => bytes.push(sentBytes), new AbortController().signal);
    expect(answer).toEqual({ status: 200, code: "", etag: "abc" });
    expect(calls[0]?.[0]).toBe("https://store.test/a%20b?x=%2F");
    expect([...new Headers(calls[0]?.[1]?.headers)]).toEqual([["content-type", "text/plain"]]);
    expect((calls[0]?.[1]?.body as Blob).type).toBe("");
    expect(bytes).toEqual([5]);
  });

  test("returns the store's own code, and status 0 when no answer came", async () => {
    const refused = sendByFetch(async () => new Response("<Error><Code>AccessDenied</Code></Error>", { status: 403 }));
    expect(await refused(signed(), body, () => {}, new AbortController().signal)).toMatchObject({ status: 403, code: "AccessDenied" });
    const lost = sendByFetch(async () => Promise.reject(new TypeError(`fetch of ${URL_1} failed`)));
    expect(await lost(signed(), body, () => {}, new AbortController().signal)).toMatchObject({ status: 0 });
  });
});
