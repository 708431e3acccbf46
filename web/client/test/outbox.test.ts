import "fake-indexeddb/auto";
import { Code } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";

import type { AssetlaneClient } from "../src/client.js";
import { callFailed, StoreFailed } from "../src/errors.js";
import { AssetSchema, type Asset } from "../src/gen/assetlane/v1/asset_pb.js";
import { Outbox, type OutboxSettings } from "../src/outbox.js";
import type { Prepared } from "../src/prepare.js";
import type { UploadOptions } from "../src/upload.js";
import { refusal } from "./fakes.js";

type Outcome = Error | "hangs" | undefined;

/** A client whose uploads end as scripted. */
function clientThat(...outcomes: Outcome[]) {
  const requestIds: (string | undefined)[] = [];
  const given: (Prepared | undefined)[] = [];
  const prepared: Prepared = { variants: [], serverCuts: [], cutsRequired: false, checksums: true, color: "#010203", notices: [] };
  const uploadPrepared = (_file: Blob, options: UploadOptions, kept: Prepared | undefined, onPrepared: (prepared: Prepared) => Promise<void>) => {
    requestIds.push(options.requestId);
    given.push(kept);
    const outcome = outcomes.shift();
    const asset = (async (): Promise<Asset> => {
      if (!kept) await onPrepared(prepared);
      if (outcome === "hangs") await new Promise(() => {});
      if (outcome instanceof Error) throw outcome;
      return create(AssetSchema, { assetId: options.requestId ?? "" });
    })();
    return { asset, pause: () => {}, resume: () => {}, cancel: async () => {} };
  };
  return { client: { sessionId: "s", uploadPrepared } as unknown as AssetlaneClient, requestIds, given };
}

let databases = 0;
const settings = (more: Partial<OutboxSettings> = {}): OutboxSettings => ({ user: "ann", database: `outbox-${(databases += 1)}`, ...more });

describe("the outbox", () => {
  test("keeps a file until it is completed", async () => {
    const { client } = clientThat();
    const completed: string[] = [];
    const outbox = await Outbox.open(client, settings({ onCompleted: ({ name }) => completed.push(name) }));
    await outbox.add(new File(["x"], "x.txt"));
    await expect.poll(() => completed).toEqual(["x.txt"]);
    expect(await outbox.entries()).toEqual([]);
  });

  test("tries again with the same request and the same promise after what is temporary", async () => {
    const { client, requestIds, given } = clientThat(new StoreFailed("STORE_UNREACHABLE", "away", 0, ""), callFailed(refusal(Code.Unauthenticated, "TOKEN_EXPIRED")));
    const failed: [string, boolean][] = [];
    const outbox = await Outbox.open(client, settings({ onFailed: (_entry, { reason }, willRetry) => failed.push([reason, willRetry]) }));
    await outbox.add(new Blob(["x"]));
    await expect.poll(() => requestIds.length, { timeout: 20_000 }).toBe(3);
    expect(failed).toEqual([["STORE_UNREACHABLE", true], ["TOKEN_EXPIRED", true]]);
    expect(new Set(requestIds).size).toBe(1);
    expect(given.map((kept) => kept?.color)).toEqual([undefined, "#010203", "#010203"]);
    await expect.poll(async () => (await outbox.entries()).length).toBe(0);
  });

  test("makes a new upload of one that has expired", async () => {
    const { client, requestIds } = clientThat(callFailed(refusal(Code.FailedPrecondition, "UPLOAD_EXPIRED")));
    const outbox = await Outbox.open(client, settings());
    await outbox.add(new Blob(["x"]));
    await expect.poll(() => requestIds.length, { timeout: 20_000 }).toBe(2);
    expect(new Set(requestIds).size).toBe(2);
    await expect.poll(async () => (await outbox.entries()).length).toBe(0);
  });

  test("keeps what is refused for good, with the reason, until it is tried again or removed", async () => {
    const { client, requestIds } = clientThat(callFailed(refusal(Code.PermissionDenied, "PARTITION_READ_ONLY")), callFailed(refusal(Code.PermissionDenied, "PARTITION_READ_ONLY")));
    const outbox = await Outbox.open(client, settings());
    const { id } = await outbox.add(new Blob(["x"]));
    const reasons = async () => (await outbox.entries()).map(({ failure }) => failure?.reason);
    await expect.poll(reasons).toEqual(["PARTITION_READ_ONLY"]);
    await outbox.retry(id);
    await expect.poll(() => requestIds.length).toBe(2);
    await expect.poll(reasons).toEqual(["PARTITION_READ_ONLY"]);
    await outbox.remove(id);
    expect(await outbox.entries()).toEqual([]);
    await expect(outbox.retry(id)).rejects.toThrow("nothing in the outbox");
  });

  test("goes on after a closed page, and shows a user only their own files", async () => {
    const given = settings();
    const first = await Outbox.open(clientThat("hangs").client, given);
    await first.add(new File(["x"], "x.txt"));
    await first.close();
    const bob = clientThat();
    const other = await Outbox.open(bob.client, { ...given, user: "bob" });
    expect(await other.entries()).toEqual([]);
    expect(bob.requestIds).toEqual([]);
    const completed: string[] = [];
    await Outbox.open(clientThat().client, { ...given, onCompleted: ({ name }) => completed.push(name) });
    await expect.poll(() => completed).toEqual(["x.txt"]);
  });

  test("sends a few files at a time", async () => {
    const { client, requestIds } = clientThat("hangs", "hangs", "hangs");
    const outbox = await Outbox.open(client, settings({ parallel: 2 }));
    for (const text of ["a", "b", "c"]) await outbox.add(new Blob([text]));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(requestIds).toHaveLength(2);
  });
});
