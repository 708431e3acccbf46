import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";

import { AssetService, WatchAssetsResponseSchema } from "../src/gen/assetlane/v1/asset_service_pb.js";
import { UploadStatus } from "../src/gen/assetlane/v1/upload_pb.js";
import { UploadService } from "../src/gen/assetlane/v1/upload_service_pb.js";
import { AssetsCursor, follow, SessionCursor, UploadCursor } from "../src/watch.js";
import { connectionTo, refusal } from "./fakes.js";

const change = (revision: number, status = UploadStatus.INITIALIZED, uploadId = "u") => ({ event: { case: "status" as const, value: { upload: { uploadId, revision: BigInt(revision), status } } } });

describe("a watch of an upload", () => {
  test("goes on after the last revision, repeats nothing, and ends after the final status", async () => {
    const asked: bigint[] = [];
    const connection = connectionTo((router) =>
      router.service(UploadService, {
        async *watchUpload(request) {
          asked.push(request.afterRevision);
          if (asked.length === 1) {
            yield change(1);
            yield { event: { case: "heartbeat" as const, value: {} } };
            yield change(2);
            throw refusal(Code.Unavailable, "SHUTTING_DOWN");
          }
          yield change(2); // a server that repeats
          yield change(3, UploadStatus.COMPLETED);
          await new Promise(() => {}); // and one that does not close
        },
      }),
    );
    const seen: bigint[] = [];
    for await (const event of follow(connection, new UploadCursor("u"), {})) if (event.case === "status") seen.push(event.value.upload?.revision ?? 0n);
    expect(seen).toEqual([1n, 2n, 3n]);
    expect(asked).toEqual([0n, 2n]);
  });

  test.each([
    [Code.NotFound, "UPLOAD_NOT_FOUND"],
    [Code.OutOfRange, "REVISION_AHEAD"],
    [Code.Unauthenticated, "TOKEN_MISSING"],
  ])("ends with the error %i %s", async (code, reason) => {
    const connection = connectionTo((router) => router.service(UploadService, { watchUpload: () => { throw refusal(code, reason); } }));
    await expect(follow(connection, new UploadCursor("u"), {}).next()).rejects.toMatchObject({ reason });
  });

  test("goes on with another token when one runs out", async () => {
    let streams = 0;
    const used: string[] = [];
    const connection = connectionTo(
      (router) =>
        router.service(UploadService, {
          async *watchUpload(_request, context) {
            used.push(context.requestHeader.get("authorization") ?? "");
            streams += 1;
            yield change(streams, streams === 3 ? UploadStatus.COMPLETED : UploadStatus.INITIALIZED);
            throw refusal(Code.Unauthenticated, "TOKEN_EXPIRED");
          },
        }),
      () => `t${streams}`,
    );
    const gaps: string[] = [];
    for await (const _ of follow(connection, new UploadCursor("u"), { onGap: (error) => gaps.push(error.reason) }));
    expect(used).toEqual(["Bearer t0", "Bearer t1", "Bearer t2"]);
    expect(gaps).toEqual(["TOKEN_EXPIRED", "TOKEN_EXPIRED"]);
  });

  test("that is left early ends its stream", async () => {
    let ended = false;
    const connection = connectionTo((router) =>
      router.service(UploadService, {
        async *watchUpload(_request, context) {
          context.signal.addEventListener("abort", () => (ended = true));
          yield change(1);
          await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
        },
      }),
    );
    for await (const _ of follow(connection, new UploadCursor("u"), {})) break;
    await expect.poll(() => ended).toBe(true);
  });

  test("returns when its signal aborts", async () => {
    const stop = new AbortController();
    const connection = connectionTo((router) =>
      router.service(UploadService, {
        async *watchUpload(_request, context) {
          yield change(1);
          await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
        },
      }),
    );
    const watch = follow(connection, new UploadCursor("u"), { signal: stop.signal });
    await watch.next();
    setTimeout(() => stop.abort(), 10);
    expect(await watch.next()).toEqual({ done: true, value: undefined });
  });
});

test("a watch of a session remembers the revision of each upload", async () => {
  const asked: Record<string, bigint>[] = [];
  const connection = connectionTo((router) =>
    router.service(UploadService, {
      async *watchUpload(request) {
        asked.push({ ...request.afterRevisions });
        if (asked.length === 1) {
          yield change(1, UploadStatus.PENDING, "a");
          yield change(3, UploadStatus.INITIALIZED, "b");
          throw refusal(Code.Unavailable, "SHUTTING_DOWN");
        }
        yield change(1, UploadStatus.PENDING, "a");
        yield change(2, UploadStatus.INITIALIZED, "a");
      },
    }),
  );
  const seen: string[] = [];
  for await (const event of follow(connection, new SessionCursor("s"), {})) {
    if (event.case === "status") seen.push(`${event.value.upload?.uploadId}${event.value.upload?.revision}`);
    if (seen.length === 3) break;
  }
  expect(seen).toEqual(["a1", "b3", "a2"]);
  expect(asked).toEqual([{}, { a: 1n, b: 3n }]);
});

test("a watch of a partition resumes by its newest token, sent by heartbeats too, and repeats no revision", async () => {
  const asked: string[] = [];
  const asset = (assetId: string, revision: number) => ({ case: "asset" as const, value: { asset: { assetId, revision: BigInt(revision) } } });
  const connection = connectionTo((router) =>
    router.service(AssetService, {
      async *watchAssets(request): AsyncGenerator<MessageInitShape<typeof WatchAssetsResponseSchema>> {
        asked.push(request.resumeToken);
        if (asked.length === 1) {
          yield { event: asset("a", 1), resumeToken: "t1" };
          yield { event: { case: "synced" as const, value: {} }, resumeToken: "t2" };
          yield { event: asset("b", 1), resumeToken: "t3" };
          yield { event: { case: "heartbeat" as const, value: {} }, resumeToken: "t4" };
          throw refusal(Code.Unavailable, "SHUTTING_DOWN");
        }
        yield { event: asset("b", 1), resumeToken: "t5" };
        yield { event: { case: "deleted" as const, value: { assetId: "a", revision: 2n } }, resumeToken: "t6" };
        yield { event: { case: "synced" as const, value: {} }, resumeToken: "t7" };
        yield { event: asset("b", 2), resumeToken: "t8" };
      },
    }),
  );
  const seen: string[] = [];
  for await (const event of follow(connection, new AssetsCursor("p"), {})) {
    seen.push(`${event.case} ${event.resumeToken}`);
    if (event.resumeToken === "t8") break;
  }
  expect(seen).toEqual(["asset t1", "synced t2", "asset t3", "deleted t6", "asset t8"]);
  expect(asked).toEqual(["", "t4"]);
});

describe("thousands of messages at once", () => {
  test("leave time to other tasks", async () => {
    const connection = connectionTo((router) =>
      router.service(UploadService, {
        async *watchUpload() {
          for (let revision = 1; revision < 50; revision++) yield change(revision);
          yield change(50, UploadStatus.COMPLETED);
        },
      }),
    );
    let seen = 0;
    const between: number[] = [];
    const look = setInterval(() => between.push(seen), 0);
    for await (const _ of follow(connection, new UploadCursor("u"), {})) {
      seen += 1;
      for (const endMs = performance.now() + 4; performance.now() < endMs; ); // what a page does with one
    }
    clearInterval(look);
    expect(between.filter((count) => count > 0 && count < 50).length).toBeGreaterThan(10);
  });
});
