// Puts the modules of this folder through the script in tests/conformance: a JSON object a line comes in, one goes
// out. tests/conformance/README.md is the protocol.

import { createInterface } from "node:readline";

import { CreateTokenRequest, type ScopedToken } from "./gen/assetlane/v1/access_service.js";
import type { Asset } from "./gen/assetlane/v1/asset.js";
import { CutMaker, uploadStatusToJSON, type Upload, type UploadStatus, type WriteTarget } from "./gen/assetlane/v1/upload.js";
import { RequestUploadRequest } from "./gen/assetlane/v1/upload_service.js";
import { COMPLETE_LIMIT_MS, Client } from "./client.js";
import { Refusal } from "./refusal.js";
import { promise, put, read, StoreRefused } from "./store.js";
import { watchUpload } from "./watch.js";

type Event = { revision: number; status: string };

let client = new Client();
const targets = new Map<string, WriteTarget[]>();
const watches = new Map<string, Promise<Event[]>>();

const verbs: Record<string, (given: any) => Promise<object>> = {
  hello: async () => ({ client: "typescript" }),

  async request_upload(given) {
    const request = RequestUploadRequest.fromPartial({
      requestId: given.request_id,
      uid: given.uid ?? client.uid,
      filePath: given.file_path,
      partition: given.partition,
      expirationHours: given.expiration_hours,
      variants: [await promise(given.file, given.content_type)],
      cutPlan: given.server_cuts ? { maker: CutMaker.CUT_MAKER_SERVER } : undefined,
      issueToken: given.issue_token ? {} : undefined,
    });
    const reply = await client.call(client.uploads, client.uploads.requestUpload, request);
    targets.set(reply.upload!.uploadId, reply.writeTargets);
    const variants = reply.writeTargets.map(({ variant }) => variant);
    return { upload: uploadOf(reply.upload), targets: variants, token: tokenOf(reply.token) };
  },

  async create_token(given) {
    const request = CreateTokenRequest.fromPartial({
      uid: given.upload_id ? "" : given.uid ?? client.uid,
      scope: given.upload_id
        ? { $case: "uploadId", value: given.upload_id as string }
        : { $case: "partitions", value: { read: (given.read ?? []) as string[], write: (given.write ?? []) as string[] } },
      lifetime: given.lifetime_s && { seconds: given.lifetime_s, nanos: 0 },
    });
    return { token: tokenOf(await client.createToken(request)) };
  },

  async use_token({ token }) {
    client.close();
    client = new Client(token);
    return {};
  },

  async put(given) {
    try {
      for (const { way } of targets.get(given.upload_id) ?? []) {
        if (way?.$case === "singlePut") await put(way.value, given.file);
      }
      return { stored: true };
    } catch (error) {
      if (error instanceof StoreRefused) return { stored: false };
      throw error;
    }
  },

  async complete_upload({ upload_id: uploadId }) {
    const reply = await client.call(client.uploads, client.uploads.completeUpload, { uploadId }, COMPLETE_LIMIT_MS);
    return { upload: uploadOf(reply.upload), asset: assetOf(reply.asset) };
  },

  async get_upload({ upload_id: uploadId }) {
    return { upload: uploadOf((await client.call(client.uploads, client.uploads.getUpload, { uploadId })).upload) };
  },

  async cancel_upload({ upload_id: uploadId }) {
    return { upload: uploadOf((await client.call(client.uploads, client.uploads.cancelUpload, { uploadId })).upload) };
  },

  async start_watch(given) {
    return new Promise((begun, refused) => {
      const watch = (async () => {
        const events: Event[] = [];
        for await (const { upload } of watchUpload(client, given.upload_id, given.after_revision)) {
          events.push({ revision: upload!.revision, status: statusOf(upload!.status) });
          begun({}); // only the first counts
        }
        return events;
      })();
      watch.catch(refused);
      watches.set(given.watch, watch);
    });
  },

  async finish_watch(given) {
    return { events: await watches.get(given.watch) };
  },

  async read(given) {
    try {
      const { sizeBytes, sha256 } = await read(given.url);
      return { http_status: 200, size_bytes: sizeBytes, sha256: sha256.toString("hex") };
    } catch (error) {
      if (error instanceof StoreRefused) return { http_status: error.status };
      throw error;
    }
  },

  async get_asset({ asset_id: assetId }) {
    return { asset: assetOf((await client.call(client.assets, client.assets.getAsset, { assetId })).asset) };
  },

  async refresh_asset({ asset_id: assetId }) {
    const request = { assetId, ifExpiresWithin: undefined };
    return { asset: assetOf((await client.call(client.assets, client.assets.refreshAsset, request)).asset) };
  },

  async delete_asset({ asset_id: assetId }) {
    return client.call(client.assets, client.assets.deleteAsset, { assetId });
  },
};

function statusOf(status: UploadStatus): string {
  return uploadStatusToJSON(status).replace("UPLOAD_STATUS_", "");
}

function uploadOf(upload: Upload | undefined) {
  return upload && {
    upload_id: upload.uploadId,
    status: statusOf(upload.status),
    revision: upload.revision,
    history: upload.history.map(({ status }) => statusOf(status)),
    failure: upload.failure?.reason ?? "",
  };
}

function tokenOf(token: ScopedToken | undefined) {
  return token && { token: token.token, expire_unix_s: Math.floor(token.expireTime!.getTime() / 1000) };
}

function assetOf(asset: Asset | undefined) {
  return asset && {
    asset_id: asset.assetId,
    partition: asset.partition,
    file_path: asset.filePath,
    expire_unix_s: asset.expireTime ? Math.floor(asset.expireTime.getTime() / 1000) : null,
    revision: asset.revision,
    variants: asset.variants.map((variant) => ({
      name: variant.name,
      content_type: variant.contentType,
      size_bytes: variant.sizeBytes,
      sha256: Buffer.from(variant.sha256).toString("hex"),
      width_px: variant.widthPx,
      height_px: variant.heightPx,
      read_url: variant.readUrl,
      download_url: variant.downloadUrl,
    })),
  };
}

async function answer(line: string): Promise<object> {
  const { id, do: verb, with: given } = JSON.parse(line);
  try {
    const play = verbs[verb];
    return play ? { id, ok: await play(given) } : { id, broken: `this client does not know how to ${verb}` };
  } catch (error) {
    if (!(error instanceof Refusal)) return { id, broken: String(error) };
    const { codeName: code, reason, message, fields, subjects } = error;
    return { id, refused: { code, reason, message, fields: Object.keys(fields), subjects } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(line))}\n`);
}
client.close();
