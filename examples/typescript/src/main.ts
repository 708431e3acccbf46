// Brings one file in, watches it arrive, reads it back, and renews its read URLs: npm start -- ../dusk.jpg

import { randomUUID } from "node:crypto";
import { basename, extname } from "node:path";

import type { Asset } from "./gen/assetlane/v1/asset.js";
import { RefreshAssetRequest } from "./gen/assetlane/v1/asset_service.js";
import { CutMaker, uploadStatusToJSON, type WriteTarget } from "./gen/assetlane/v1/upload.js";
import { CompleteUploadRequest, RequestUploadRequest } from "./gen/assetlane/v1/upload_service.js";
import { COMPLETE_LIMIT_MS, Client } from "./client.js";
import { Refusal } from "./refusal.js";
import { promise, put, read, StoreRefused } from "./store.js";
import { watchUpload } from "./watch.js";

const TYPES: Record<string, string> = { ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp" };

async function main(path: string): Promise<void> {
  const client = new Client();
  try {
    const asset = await bringIn(client, path);
    for (const variant of asset.variants) {
      const { sizeBytes, sha256 } = await read(variant.readUrl);
      if (variant.sha256.length > 0 && !sha256.equals(variant.sha256)) {
        throw new Error(`${variant.name} came back as other bytes`);
      }
      const pixels = `${variant.widthPx} x ${variant.heightPx}`;
      console.log(`  ${variant.name.padEnd(9)} ${variant.contentType}, ${pixels}, ${sizeBytes} bytes, read back`);
    }
    // Read URLs run out. A refresh gives new ones, for everybody.
    const request = RefreshAssetRequest.fromPartial({ assetId: asset.assetId });
    const refreshed = await client.call(client.assets, client.assets.refreshAsset, request);
    console.log(`asset ${asset.assetId} reads until ${refreshed.asset?.expireTime?.toISOString()}`);
  } finally {
    client.close();
  }
}

/** Takes a file through the whole life of an upload. */
async function bringIn(client: Client, path: string): Promise<Asset> {
  const contentType = TYPES[extname(path).toLowerCase()] ?? "application/octet-stream";
  const request = RequestUploadRequest.fromPartial({
    requestId: randomUUID(), // makes the call safe to repeat; keep it to go on after a crash
    uid: client.uid,
    filePath: `examples/typescript/${basename(path)}`,
    variants: [await promise(path, contentType)],
    // The server cuts pictures: no image library is wanted here.
    cutPlan: contentType.startsWith("image/") ? { maker: CutMaker.CUT_MAKER_SERVER } : undefined,
  });
  const reply = await client.call(client.uploads, client.uploads.requestUpload, request);
  const uploadId = reply.upload!.uploadId;

  // A watch beside the work: here it only prints. A web page would follow it from another process.
  const watching = (async () => {
    for await (const { upload } of watchUpload(client, uploadId)) {
      console.log(`${upload!.revision} ${uploadStatusToJSON(upload!.status)}`);
    }
  })();
  const working = (async () => {
    for (const target of reply.writeTargets) await putOrRenew(client, request, target, path);
    const complete = CompleteUploadRequest.fromPartial({ uploadId });
    return client.call(client.uploads, client.uploads.completeUpload, complete, COMPLETE_LIMIT_MS);
  })();
  const [completed] = await Promise.all([working, watching]);
  if (!completed.asset) {
    throw new Error(`the upload failed: ${completed.upload?.failure?.message}`); // data, not a failed call
  }
  return completed.asset;
}

/** Sends the file, once more with a fresh signature when the first ran out meanwhile. */
async function putOrRenew(client: Client, request: RequestUploadRequest, target: WriteTarget, path: string): Promise<void> {
  try {
    await put(single(target), path);
  } catch (error) {
    if (!(error instanceof StoreRefused && error.isStale)) throw error;
    // The same request id: the same upload, signed again.
    const renewed = await client.call(client.uploads, client.uploads.requestUpload, request);
    const fresh = renewed.writeTargets.find(({ variant }) => variant === target.variant);
    if (!fresh) throw error;
    await put(single(fresh), path);
  }
}

function single({ way, variant }: WriteTarget) {
  if (way?.$case !== "singlePut") throw new Error(`${variant} is too large for this example: it does not send parts`);
  return way.value;
}

const [path] = process.argv.slice(2);
if (!path) {
  console.error("usage: npm start -- FILE");
  process.exit(2);
}
main(path).catch((error: unknown) => {
  console.error(error instanceof Refusal ? `${error.codeName} (${error.reason}): ${error.message}` : error);
  process.exit(1); // also ends the watch
});
