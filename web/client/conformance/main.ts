// Puts the package through the script in tests/conformance: a JSON object a line comes in, one goes out.
// tests/conformance/README.md is the protocol. ASSETLANE_WEB_URL is where the gateway is.

import { openAsBlob } from "node:fs";
import { createInterface } from "node:readline";

import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";

import { TokenOptionsSchema } from "../src/gen/assetlane/v1/access_service_pb.js";
import { AssetlaneClient, CallFailed, sha256, StoreFailed, UploadStatus, type Asset, type ScopedToken, type Upload, type WriteTarget } from "../src/index.js";
import { prepare } from "../src/prepare.js";
import { put } from "../src/transfer.js";
import { requestOf, uuid } from "../src/upload.js";

interface Change {
  readonly revision: number;
  readonly status: string;
}

const uid = process.env["ASSETLANE_UID"] ?? "ann";
const clientWith = (token: string | undefined) =>
  new AssetlaneClient({
    url: process.env["ASSETLANE_WEB_URL"] ?? "http://127.0.0.1:8080",
    token,
    protocol: process.env["ASSETLANE_WEB_PROTOCOL"] === "connect" ? "connect" : "grpc-web",
  });
let client = clientWith(process.env["ASSETLANE_TOKEN"]);
const targets = new Map<string, readonly WriteTarget[]>();
const watches = new Map<string, Promise<Change[]>>();

const verbs: Record<string, (given: any) => Promise<object>> = {
  hello: async () => ({ client: "web" }),

  async request_upload(given) {
    const file = await openAsBlob(given.file);
    const options = { uid: given.uid ?? uid, filePath: given.file_path, partition: given.partition, expirationHours: given.expiration_hours };
    const prepared = await prepare(file, { contentType: given.content_type, cuts: given.server_cuts ? "server" : "none" });
    const request = requestOf(given.request_id ?? uuid(), file, options, prepared);
    if (given.issue_token) request.issueToken = create(TokenOptionsSchema);
    const { upload, writeTargets, token } = await client.requestUpload(request);
    targets.set(upload!.uploadId, writeTargets);
    return { upload: uploadOf(upload), targets: writeTargets.map(({ variant }) => variant), ...(token && { token: tokenOf(token) }) };
  },

  async create_token(given) {
    const { upload_id: uploadId, read, write, lifetime_s: lifetimeS } = given;
    const scope = uploadId ? { uploadId } : { uid: given.uid ?? uid, read, write };
    return { token: tokenOf(await client.createToken(scope, { lifetimeMs: lifetimeS && lifetimeS * 1000 })) };
  },

  async use_token({ token }) {
    client = clientWith(token);
    return {};
  },

  async put(given) {
    const body = await openAsBlob(given.file);
    try {
      for (const { way } of targets.get(given.upload_id) ?? []) {
        if (way.case !== "singlePut") continue;
        const request = way.value;
        await put(request, body, { send: client.send, renew: async () => request, onSent: () => {}, signal: AbortSignal.timeout(60_000) });
      }
      return { stored: true };
    } catch (error) {
      if (error instanceof StoreFailed) return { stored: false };
      throw error;
    }
  },

  async complete_upload({ upload_id: uploadId }) {
    const { upload, asset } = await client.completeUpload(uploadId);
    return { upload: uploadOf(upload), asset: assetOf(asset) };
  },

  get_upload: async ({ upload_id: uploadId }) => ({ upload: uploadOf(await client.getUpload(uploadId)) }),
  cancel_upload: async ({ upload_id: uploadId }) => ({ upload: uploadOf(await client.cancelUpload(uploadId)) }),

  start_watch: (given) =>
    new Promise((begun, refused) => {
      const watch = (async () => {
        const changes: Change[] = [];
        for await (const event of client.watchUpload(given.upload_id, { afterRevision: BigInt(given.after_revision) })) {
          if (event.case !== "status" || !event.value.upload) continue;
          changes.push({ revision: Number(event.value.upload.revision), status: UploadStatus[event.value.upload.status] });
          begun({}); // only the first counts
        }
        return changes;
      })();
      watch.catch(refused);
      watches.set(given.watch, watch);
    }),

  finish_watch: async (given) => ({ events: await watches.get(given.watch) }),

  async read({ url }) {
    const response = await fetch(url);
    if (response.status !== 200) {
      await response.body?.cancel();
      return { http_status: response.status };
    }
    const body = await response.blob();
    return { http_status: 200, size_bytes: body.size, sha256: hex(await sha256(body)) };
  },

  get_asset: async ({ asset_id: assetId }) => ({ asset: assetOf(await client.getAsset(assetId)) }),
  refresh_asset: async ({ asset_id: assetId }) => ({ asset: assetOf(await client.refreshAsset(assetId)) }),

  async delete_asset({ asset_id: assetId }) {
    await client.deleteAsset(assetId);
    return {};
  },
};

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function uploadOf(upload: Upload | undefined) {
  return upload && {
    upload_id: upload.uploadId,
    status: UploadStatus[upload.status],
    revision: Number(upload.revision),
    history: upload.history.map(({ status }) => UploadStatus[status]),
    failure: upload.failure?.reason ?? "",
  };
}

function tokenOf({ token, expireTime }: ScopedToken) {
  return { token, expire_unix_s: Number(expireTime?.seconds) };
}

function assetOf(asset: Asset | undefined) {
  return asset && {
    asset_id: asset.assetId,
    partition: asset.partition,
    file_path: asset.filePath,
    expire_unix_s: asset.expireTime ? Number(asset.expireTime.seconds) : null,
    revision: Number(asset.revision),
    variants: asset.variants.map((variant) => ({
      name: variant.name,
      content_type: variant.contentType,
      size_bytes: Number(variant.sizeBytes),
      sha256: hex(variant.sha256),
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
    if (!(error instanceof CallFailed)) return { id, broken: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    const { code, reason, message, fields, subjects } = error;
    const name = Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
    return { id, refused: { code: name, reason, message, fields: Object.keys(fields), subjects } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(line))}\n`);
}
