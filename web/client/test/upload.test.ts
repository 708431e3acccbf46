import { Code } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";

import { AssetSchema } from "../src/gen/assetlane/v1/asset_pb.js";
import { UploadSchema, UploadStatus } from "../src/gen/assetlane/v1/upload_pb.js";
import { CompleteUploadResponseSchema, RequestUploadResponseSchema, SignedPartSchema, StoredPartSchema, type RequestUploadRequest } from "../src/gen/assetlane/v1/upload_service_pb.js";
import type { LimitOptions } from "../src/calls.js";
import { callFailed } from "../src/errors.js";
import { sha256 } from "../src/digest.js";
import { Semaphore } from "../src/semaphore.js";
import type { SendToStore } from "../src/store.js";
import { pathOf, UploadTask, type UploadServer, type UploadState } from "../src/upload.js";
import { refusal } from "./fakes.js";

const PART = 4;

/** A server that keeps what it is asked, and a store that keeps what it is sent. */
class FakeServer implements UploadServer {
  readonly slots = new Semaphore(2);
  readonly requests: RequestUploadRequest[] = [];
  readonly stored = new Map<string, string>();
  readonly puts: string[] = [];
  cancelled = 0;
  missing: string[][] = [];
  partCount = 0;
  hold: Promise<void> | undefined;

  send: SendToStore = async ({ url }, body, onSent, signal) => {
    if (this.hold) await Promise.race([this.hold, new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))]);
    signal.throwIfAborted();
    this.puts.push(url);
    this.stored.set(url, await body.text());
    onSent(body.size);
    return { status: 200, code: "", etag: "" };
  };

  async requestUpload(request: RequestUploadRequest) {
    this.requests.push(request);
    const writeTargets = request.variants.map(({ name }) => ({
      variant: name,
      way: this.partCount && name === "original"
        ? { case: "multipart" as const, value: { partSizeBytes: BigInt(PART), partCount: this.partCount } }
        : { case: "singlePut" as const, value: { method: "PUT", url: name } },
    }));
    return create(RequestUploadResponseSchema, { upload: { uploadId: "u1", status: UploadStatus.INITIALIZED }, writeTargets });
  }

  async signParts(_uploadId: string, variant: string, parts: readonly { partNumber: number }[], _limits?: LimitOptions) {
    return parts.map(({ partNumber }) => create(SignedPartSchema, { partNumber, request: { method: "PUT", url: `${variant}/${partNumber}` } }));
  }

  listed: { partNumber: number; sizeBytes: bigint; sha256: Uint8Array<ArrayBuffer> }[] = [];
  async listParts() {
    return this.listed.map((part) => create(StoredPartSchema, part));
  }

  async reportProgress() {}

  async completeUpload() {
    const missing = this.missing.shift();
    if (missing) {
      throw Object.assign(callFailed(refusal(Code.FailedPrecondition, "VARIANTS_MISSING")), { subjects: missing });
    }
    return create(CompleteUploadResponseSchema, { upload: { uploadId: "u1", status: UploadStatus.COMPLETED }, asset: create(AssetSchema, { assetId: "u1" }) });
  }

  async cancelUpload() {
    this.cancelled += 1;
    return create(UploadSchema, { uploadId: "u1", status: UploadStatus.CANCELLED });
  }
}

const bytes = (text: string) => new Blob([text], { type: "text/plain" });

describe("an upload", () => {
  test("promises what it sends, and reports its states", async () => {
    const server = new FakeServer();
    const states: UploadState[] = [];
    const task = new UploadTask(server, bytes("hello"), { filePath: "a.txt", expirationHours: 0, onProgress: ({ state }) => states.at(-1) !== state && states.push(state) });
    expect((await task.asset).assetId).toBe("u1");
    expect(states).toEqual(["requesting", "sending", "completing", "completed"]);
    const [request] = server.requests;
    expect(request).toMatchObject({ filePath: "a.txt", expirationHours: 0, requestId: task.requestId });
    expect(request?.variants[0]).toMatchObject({ name: "original", contentType: "text/plain", sizeBytes: 5n, promisesParts: true });
    expect(request?.variants[0]?.sha256).toEqual(await sha256(bytes("hello")));
    expect(server.stored.get("original")).toBe("hello");
    expect(task.progress).toMatchObject({ sentBytes: 5, sizeBytes: 5, status: UploadStatus.COMPLETED, uploadId: "u1" });
  });

  test("leaves expiration_hours out unless it is given: 0 is public", async () => {
    const server = new FakeServer();
    await new UploadTask(server, bytes("x"), {}).asset;
    expect(server.requests[0]?.expirationHours).toBeUndefined();
  });

  test("sends every part of a large file, each its own bytes", async () => {
    const server = new FakeServer();
    server.partCount = 3;
    await new UploadTask(server, bytes("aaaabbbbcc"), {}).asset;
    expect(Object.fromEntries(server.stored)).toEqual({ "original/1": "aaaa", "original/2": "bbbb", "original/3": "cc" });
  });

  test.each([
    [{ partsAtOnce: 1 }, 1],
    [{ partsAtOnce: 2 }, 2],
    [{ requestId: "r1" }, 1], // meant to go on after an interruption, which costs one part
    [{ requestId: "r1", partsAtOnce: 3 }, 3],
    [{}, 4],
  ])("with %j has %i parts under way at once", async (options, expected) => {
    const server = new FakeServer();
    const { send } = server;
    let underWay = 0;
    let most = 0;
    server.send = async (...args) => {
      most = Math.max(most, ++underWay);
      await new Promise((resolve) => setTimeout(resolve, 1));
      return send(...args).finally(() => (underWay -= 1));
    };
    server.partCount = 6;
    Object.assign(server, { slots: new Semaphore(8) });
    await new UploadTask(server, bytes("aaaabbbbccccddddeeeef"), options).asset;
    expect([server.puts.length, most]).toEqual([6, expected]);
  });

  test("signs the next part while one is under way, and no more", async () => {
    const server = new FakeServer();
    server.partCount = 4;
    const signed: number[] = [];
    const { signParts, send } = server;
    let both = () => {};
    server.signParts = (uploadId, variant, parts) => {
      signed.push(...parts.map(({ partNumber }) => partNumber));
      if (signed.length === 2) both();
      return signParts.call(server, uploadId, variant, parts);
    };
    const waiting = new Promise<void>((resolve) => (both = resolve));
    const seen: number[][] = [];
    server.send = async (...args) => {
      await waiting; // for ever, if the second were signed after the first has arrived
      await new Promise((resolve) => setTimeout(resolve, 5));
      seen.push([...signed]);
      return send(...args);
    };
    await new UploadTask(server, bytes("aaaabbbbccccdd"), { requestId: "r1" }).asset;
    expect(seen).toEqual([[1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4]]);
    expect(Object.fromEntries(server.stored)).toEqual({ "original/1": "aaaa", "original/2": "bbbb", "original/3": "cccc", "original/4": "dd" });
  });

  test("prepares parts again that a pause has stopped, sent or not", async () => {
    const server = new FakeServer();
    server.partCount = 3;
    let release = () => {};
    server.hold = new Promise((resolve) => (release = resolve));
    const signed: number[] = [];
    const { signParts } = server;
    let stopped = () => {};
    const pausing = new Promise<void>((resolve) => (stopped = resolve));
    server.signParts = async (uploadId, variant, parts, limits?: LimitOptions) => {
      signed.push(...parts.map(({ partNumber }) => partNumber));
      if (signed.length === 2) {
        await new Promise<void>((_, reject) => {
          limits?.signal?.addEventListener("abort", () => reject(new Error("aborted")));
          stopped();
        });
      }
      return signParts.call(server, uploadId, variant, parts);
    };
    const task = new UploadTask(server, bytes("aaaabbbbcc"), { requestId: "r1" });
    await pausing;
    task.pause();
    release();
    task.resume();
    await task.asset;
    expect(signed).toEqual([1, 2, 1, 2, 3]);
    expect(Object.fromEntries(server.stored)).toEqual({ "original/1": "aaaa", "original/2": "bbbb", "original/3": "cc" });
  });

  test("refuses a number of parts that sends nothing", () => {
    for (const partsAtOnce of [0, -1, 1.5, Number.NaN]) {
      expect(() => new UploadTask(new FakeServer(), bytes("x"), { partsAtOnce })).toThrow(/partsAtOnce is at least 1/);
    }
  });

  test("sends only parts that the store does not have, or has with other bytes", async () => {
    const server = new FakeServer();
    server.partCount = 3;
    server.listed = [
      { partNumber: 1, sizeBytes: 4n, sha256: await sha256(bytes("aaaa")) },
      { partNumber: 2, sizeBytes: 4n, sha256: await sha256(bytes("XXXX")) },
      { partNumber: 3, sizeBytes: 1n, sha256: new Uint8Array() },
    ];
    const task = new UploadTask(server, bytes("aaaabbbbcc"), {});
    await task.asset;
    expect([...server.puts].sort()).toEqual(["original/2", "original/3"]);
    expect(task.progress.sentBytes).toBe(10);
  });

  test("sends again what CompleteUpload misses", async () => {
    const server = new FakeServer();
    server.missing = [["original"]];
    await new UploadTask(server, bytes("hello"), {}).asset;
    expect(server.puts).toEqual(["original", "original"]);
    expect(server.requests[0]).toEqual(server.requests[1]);
  });

  test("gives up when it is missed again and again", async () => {
    const server = new FakeServer();
    server.missing = [["original"], ["original"], ["original"]];
    await expect(new UploadTask(server, bytes("hello"), {}).asset).rejects.toMatchObject({ reason: "VARIANTS_MISSING" });
    expect(server.puts).toHaveLength(3);
  });

  test("pauses before it is accepted, resumes, and is sent once", async () => {
    const server = new FakeServer();
    const task = new UploadTask(server, bytes("hello"), {});
    task.pause();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(task.progress.state).toBe("paused");
    expect(server.requests).toEqual([]);
    task.resume();
    await task.asset;
    expect(server.puts).toEqual(["original"]);
  });

  test("paused while it sends is sent again after", async () => {
    const server = new FakeServer();
    let release = () => {};
    server.hold = new Promise((resolve) => (release = resolve));
    const task = new UploadTask(server, bytes("hello"), {});
    await expect.poll(() => task.progress.state).toBe("sending");
    task.pause();
    release();
    server.hold = undefined;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(server.puts).toEqual([]);
    task.resume();
    await task.asset;
    expect(server.puts).toEqual(["original"]);
  });

  test("is cancelled here and at the server, by its method or by a signal", async () => {
    for (const bySignal of [false, true]) {
      const server = new FakeServer();
      server.hold = new Promise(() => {});
      const stop = new AbortController();
      const task = new UploadTask(server, bytes("hello"), { signal: stop.signal });
      await expect.poll(() => task.progress.state).toBe("sending");
      const ended = expect(task.asset).rejects.toMatchObject({ reason: "CANCELLED" });
      if (bySignal) stop.abort();
      else await task.cancel();
      await ended;
      await expect.poll(() => server.cancelled).toBe(1);
      expect(task.progress.state).toBe("cancelled");
    }
  });

  test("cancelled while it is paused ends", async () => {
    const server = new FakeServer();
    const task = new UploadTask(server, bytes("hello"), {});
    task.pause();
    const ended = expect(task.asset).rejects.toMatchObject({ reason: "CANCELLED" });
    await task.cancel();
    await ended;
    expect(server.requests).toEqual([]);
  });

  test("whose file has gone says so", async () => {
    const gone = Object.assign(bytes("x"), { slice: () => ({ arrayBuffer: () => Promise.reject(new DOMException("moved", "NotFoundError")) }) });
    await expect(new UploadTask(new FakeServer(), gone as Blob, {}).asset).rejects.toMatchObject({ reason: "FILE_UNREADABLE" });
  });
});

describe("the path of a file", () => {
  test.each([
    ["a.txt", "", "a.txt"],
    ["a.txt", "album/2026/a.txt", "album/2026/a.txt"],
    ["a\\b.txt", "", "a_b.txt"],
    ["", "", "unnamed"],
    ["x", "/../x//./y", "x/y"],
    ["e\u0301.txt", "", "\u00e9.txt"],
    ["tab\there.txt", "", "tab_here.txt"],
  ])("%j in %j is %j", (name, webkitRelativePath, path) => {
    expect(pathOf(Object.assign(new Blob([]), { name, webkitRelativePath }))).toBe(path);
  });
});
