import { createHash, randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";

import { Backoff } from "../src/backoff.js";
import { sha256 } from "../src/digest.js";
import { mediaTypeOf } from "../src/media-types.js";
import { measures, sizesFor, STANDARD_CUTS } from "../src/pictures.js";
import { prepare } from "../src/prepare.js";
import { ReadUrls, variantOf } from "../src/read-urls.js";
import { AssetSchema, type Asset } from "../src/gen/assetlane/v1/asset_pb.js";
import { create } from "@bufbuild/protobuf";

const PNG = "\x89PNG\r\n\x1a\n";
const latin = (text: string) => new Blob([Uint8Array.from(text, (char) => char.charCodeAt(0))]);

describe("the media type", () => {
  test.each([
    ["image/jpeg", PNG, "image/png"],
    ["image/jpg", "\xff\xd8\xff\xe0", "image/jpg"],
    ["", PNG, "image/png"],
    ["application/octet-stream", "%PDF-1.7", "application/pdf"],
    ["", "anything", "application/octet-stream"],
    ["", "", "application/octet-stream"],
    ["text/plain", PNG, "text/plain"],
    ["image/svg+xml", "<svg/>", "image/svg+xml"],
    ["image/heic", "\0\0\0\x18ftypmif1", "image/heic"],
    ["video/webm;codecs=vp8,opus", "\x1aE\xdf\xa3", "video/webm;codecs=vp8,opus"],
    ["image/png", "BM is how this text begins", "image/png"],
    ["image/png", "RIFF\0\0\0\0WEBPVP8 ", "image/webp"],
  ])("declared %j with %j is %j", async (declared, head, type) => {
    expect(await mediaTypeOf(latin(head), declared)).toBe(type);
  });
});

test("SHA-256 is that of Node, for any number of pieces", async () => {
  for (const size of [0, 1, 4 * 1024 * 1024, 9 * 1024 * 1024 + 1]) {
    const data = randomBytes(size);
    expect(Buffer.from(await sha256(new Blob([data])))).toEqual(createHash("sha256").update(data).digest());
  }
});

describe("cuts", () => {
  test.each([
    [2000, 1000, ["small", "medium", "large"]],
    [900, 900, ["small", "medium", "large"]],
    [500, 100, ["small", "medium"]],
    [300, 300, ["small"]],
    [1, 1, ["small"]],
  ])("of %i x %i are %j", (width, height, names) => {
    expect(sizesFor(width, height, STANDARD_CUTS).map(({ name }) => name)).toEqual(names);
  });

  test.each([
    [2000, 1000, 300, 300, 150],
    [100, 50, 300, 100, 50],
    [10_000, 1, 300, 300, 1],
  ])("%i x %i within %i is %i x %i", (width, height, edge, widthPx, heightPx) => {
    expect(measures(width, height, edge)).toEqual({ widthPx, heightPx });
  });

  test("are the server's where there is no canvas, and nobody's where none are wanted", async () => {
    const picture = latin(PNG);
    expect((await prepare(picture, {})).serverCuts).toEqual(STANDARD_CUTS);
    expect((await prepare(picture, { cuts: "none" })).serverCuts).toEqual([]);
    const { serverCuts, notices } = await prepare(picture, { cuts: "canvas" });
    expect(serverCuts).toEqual([]);
    expect(notices.map(({ reason }) => reason)).toEqual(["CUTS_UNSUPPORTED"]);
  });
});

test("waits grow to their limit, never below what is asked", () => {
  const backoff = new Backoff(100, 1000, () => 1);
  expect([backoff.next(), backoff.next(), backoff.next(), backoff.next(), backoff.next(), backoff.next(50)]).toEqual([100, 200, 400, 800, 1000, 1050]);
  backoff.reset();
  expect(backoff.next()).toBe(100);
});

describe("read URLs", () => {
  const asset = (assetId: string, endsInS: number, revision = 1n): Asset => {
    const now = BigInt(Math.floor(Date.now() / 1000));
    return create(AssetSchema, { assetId, revision, expirationHours: 24, refreshTime: { seconds: now - 3600n }, expireTime: { seconds: now + BigInt(endsInS) } });
  };

  test("that live are left alone, those about to end are refreshed, a hundred in a call", async () => {
    const calls: string[][] = [];
    const urls = new ReadUrls(async (ids) => {
      calls.push([...ids]);
      return new Map(ids.map((id) => [id, asset(id, 3600, 2n)]));
    });
    const living = asset("living", 3600);
    expect(await urls.current(living)).toBe(living);
    const ending = Array.from({ length: 150 }, (_, index) => asset(`a${index}`, 10));
    const fresh = await Promise.all([...ending, ...ending].map((one) => urls.current(one)));
    expect(fresh.every(({ revision }) => revision === 2n)).toBe(true);
    expect(calls.map((ids) => ids.length)).toEqual([100, 50]);
    await urls.current(asset("a1", 10)); // known by now
    expect(calls).toHaveLength(2);
  });

  test("of one asset that cannot be refreshed are its own error", async () => {
    const urls = new ReadUrls(async (ids) => new Map(ids.map((id) => [id, id === "gone" ? new Error("ASSET_NOT_FOUND") : asset(id, 3600, 2n)])));
    const outcomes = await Promise.allSettled([urls.current(asset("gone", 1)), urls.current(asset("here", 1))]);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
  });

  test("of public assets never end", async () => {
    const urls = new ReadUrls(() => Promise.reject(new Error("nothing is to be refreshed")));
    const open = create(AssetSchema, { assetId: "p", variants: [{ name: "original" }, { name: "small" }] });
    expect(await urls.current(open)).toBe(open);
    expect(variantOf(open, "medium", "small")?.name).toBe("small");
    expect(variantOf(open, "preview")).toBeUndefined();
  });
});
