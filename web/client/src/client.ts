// The client: one object for a server and a user.

import { durationFromMs, timestampDate } from "@bufbuild/protobuf/wkt";

import { Connection, type ConnectionOptions, type LimitOptions } from "./calls.js";
import { createToken, type TokenLimits, type TokenScope } from "./device-tokens.js";
import { AssetlaneError } from "./errors.js";
import type { ScopedToken } from "./gen/assetlane/v1/access_service_pb.js";
import type { Asset } from "./gen/assetlane/v1/asset_pb.js";
import type { Upload, UploadStatus } from "./gen/assetlane/v1/upload_pb.js";
import type { CompleteUploadResponse, RequestUploadRequest, RequestUploadResponse, SignedPart, StoredPart } from "./gen/assetlane/v1/upload_service_pb.js";
import type { Prepared } from "./prepare.js";
import { ReadUrls, variantOf } from "./read-urls.js";
import { Semaphore } from "./semaphore.js";
import { shareAssets, shareSession } from "./shared-watch.js";
import { platformSender, type SendToStore } from "./store.js";
import { UploadTask, uuid, type UploadOptions, type UploadServer } from "./upload.js";
import { AssetsCursor, follow, SessionCursor, UploadCursor, type AssetEvent, type UploadEvent, type WatchOptions } from "./watch.js";

export interface ClientOptions extends ConnectionOptions {
  /** The device or process that uploads: its uploads can be watched together. Default: a new one for each client. */
  readonly sessionId?: string | undefined;
  /** How many PUTs of all uploads are under way at once. Default: 3, as HTTP/1.1 gives a page six connections to a host. */
  readonly parallel?: number | undefined;
}

export interface SharedWatchOptions extends WatchOptions {
  /**
   * Whether all tabs of this browser with the same user watch over one connection.
   * Default: true where the browser has Web Locks and BroadcastChannel, and the token names its user.
   */
  readonly shared?: boolean | undefined;
}

export class AssetlaneClient implements UploadServer {
  readonly connection: Connection;
  readonly sessionId: string;
  readonly send: SendToStore;
  readonly slots: Semaphore;
  readonly #readUrls: ReadUrls;

  constructor(options: ClientOptions) {
    const { sessionId = uuid(), parallel = 3 } = options;
    if (!Number.isInteger(parallel) || parallel < 1) throw new RangeError(`parallel is at least 1, not ${parallel}`);
    this.connection = new Connection(options);
    this.sessionId = sessionId;
    this.slots = new Semaphore(parallel);
    this.send = platformSender(options.fetch ?? ((...given) => globalThis.fetch(...given)));
    this.#readUrls = new ReadUrls((assetIds, withinMs) => this.refreshAssets(assetIds, { ifExpiresWithinMs: withinMs }));
  }

  // Uploads

  /** Brings a file in. The upload has begun when you get it; wait for its `asset`. */
  upload(file: Blob, options: UploadOptions = {}): UploadTask {
    return new UploadTask(this, file, { sessionId: this.sessionId, ...options });
  }

  /** Goes on with an upload whose preparation was kept: see Outbox. */
  uploadPrepared(file: Blob, options: UploadOptions, prepared: Prepared | undefined, onPrepared: (prepared: Prepared) => Promise<void>): UploadTask {
    return new UploadTask(this, file, { sessionId: this.sessionId, ...options }, prepared, onPrepared);
  }

  async requestUpload(request: RequestUploadRequest, limits?: LimitOptions): Promise<RequestUploadResponse> {
    return this.connection.call((options) => this.connection.uploads.requestUpload(request, options), limits);
  }

  async signParts(uploadId: string, variant: string, parts: readonly { partNumber: number; sha256?: Uint8Array<ArrayBuffer> }[], limits?: LimitOptions): Promise<SignedPart[]> {
    const request = { uploadId, variant, parts: [...parts] };
    return (await this.connection.call((options) => this.connection.uploads.signParts(request, options), limits)).parts;
  }

  /** Returns every part that the store has. */
  async listParts(uploadId: string, variant: string, limits?: LimitOptions): Promise<StoredPart[]> {
    const found: StoredPart[] = [];
    for (let pageToken = ""; ; ) {
      const request = { uploadId, variant, pageToken };
      const page = await this.connection.call((options) => this.connection.uploads.listParts(request, options), limits);
      found.push(...page.parts);
      pageToken = page.nextPageToken;
      if (!pageToken) return found;
    }
  }

  async reportProgress(uploadId: string, sentBytes: Readonly<Record<string, number>>, limits?: LimitOptions): Promise<void> {
    const sent = Object.fromEntries(Object.entries(sentBytes).map(([name, bytes]) => [name, BigInt(bytes)]));
    await this.connection.call((options) => this.connection.uploads.reportProgress({ uploadId, sentBytes: sent }, options), limits);
  }

  /** The bytes are in the store: proves them and returns the asset, or the upload with its `failure`. */
  async completeUpload(uploadId: string, limits?: LimitOptions): Promise<CompleteUploadResponse> {
    return this.connection.call((options) => this.connection.uploads.completeUpload({ uploadId }, options), { timeoutMs: 150_000, ...limits });
  }

  async cancelUpload(uploadId: string, limits?: LimitOptions): Promise<Upload> {
    const { upload } = await this.connection.call((options) => this.connection.uploads.cancelUpload({ uploadId }, options), limits);
    return present(upload, "upload");
  }

  async getUpload(uploadId: string, limits?: LimitOptions): Promise<Upload> {
    const { upload } = await this.connection.call((options) => this.connection.uploads.getUpload({ uploadId }, options), limits);
    return present(upload, "upload");
  }

  /** Yields the caller's uploads, newest first. */
  async *listUploads(filter: { uid?: string; sessionId?: string; statuses?: UploadStatus[] } = {}, limits?: LimitOptions): AsyncGenerator<Upload, void, void> {
    for (let pageToken = ""; ; ) {
      const page = await this.connection.call((options) => this.connection.uploads.listUploads({ ...filter, pageToken }, options), limits);
      yield* page.uploads;
      pageToken = page.nextPageToken;
      if (!pageToken) return;
    }
  }

  /** Yields every status change of an upload after a revision, once and in order, and its progress; ends after the final one. */
  watchUpload(uploadId: string, options: WatchOptions & { afterRevision?: bigint } = {}): AsyncGenerator<UploadEvent, void, void> {
    return follow(this.connection, new UploadCursor(uploadId, options.afterRevision), options);
  }

  /** Yields every status change of all uploads of a session, those requested later included, until the signal or `return` ends it. */
  watchSession(sessionId = this.sessionId, options: SharedWatchOptions & { afterRevisions?: Readonly<Record<string, bigint>> } = {}): AsyncGenerator<UploadEvent, void, void> {
    const { shared, ...watch } = options;
    return shareSession(this.connection, sessionId, shared, watch, () => follow(this.connection, new SessionCursor(sessionId, options.afterRevisions), watch));
  }

  /** Makes a scoped token for one device. Only a service caller of the server's policy may: see createToken. */
  async createToken(scope: TokenScope, limits?: TokenLimits): Promise<ScopedToken> {
    return createToken(this.connection, scope, limits);
  }

  // Assets

  async getAsset(assetId: string, limits?: LimitOptions): Promise<Asset> {
    const { asset } = await this.connection.call((options) => this.connection.assets.getAsset({ assetId }, options), limits);
    return present(asset, "asset");
  }

  /** Yields the assets of a partition, newest first. */
  async *listAssets(partition: string, limits?: LimitOptions): AsyncGenerator<Asset, void, void> {
    for (let pageToken = ""; ; ) {
      const page = await this.connection.call((options) => this.connection.assets.listAssets({ partition, pageToken }, options), limits);
      yield* page.assets;
      pageToken = page.nextPageToken;
      if (!pageToken) return;
    }
  }

  /**
   * Yields every asset of a partition, `synced`, then every addition, refresh and deletion, until the signal or
   * `return` ends it. Throws CallFailed: RESUME_EXPIRED when the token is older than 7 days.
   */
  watchAssets(partition: string, options: SharedWatchOptions & { resumeToken?: string } = {}): AsyncGenerator<AssetEvent, void, void> {
    const { shared, resumeToken = "", ...watch } = options;
    const alone = () => follow(this.connection, new AssetsCursor(partition, resumeToken), watch);
    // Tabs with tokens of their own have different things to catch up on.
    return resumeToken ? alone() : shareAssets(this.connection, partition, shared, watch, alone);
  }

  /** Signs the read URLs of an asset again. `ifExpiresWithinMs`: only when they end within that time. */
  async refreshAsset(assetId: string, { ifExpiresWithinMs, ...limits }: LimitOptions & { ifExpiresWithinMs?: number } = {}): Promise<Asset> {
    const request = { assetId, ...(ifExpiresWithinMs === undefined ? {} : { ifExpiresWithin: durationFromMs(ifExpiresWithinMs) }) };
    const { asset } = await this.connection.call((options) => this.connection.assets.refreshAsset(request, options), limits);
    return present(asset, "asset");
  }

  /** Refreshes up to 100 assets in one call; an error in place of each that could not be. */
  async refreshAssets(assetIds: readonly string[], { ifExpiresWithinMs, ...limits }: LimitOptions & { ifExpiresWithinMs?: number } = {}): Promise<Map<string, Asset | AssetlaneError>> {
    const request = { assetIds: [...assetIds], ...(ifExpiresWithinMs === undefined ? {} : { ifExpiresWithin: durationFromMs(ifExpiresWithinMs) }) };
    const { results } = await this.connection.call((options) => this.connection.assets.batchRefreshAssets(request, options), limits);
    return new Map(
      results.map(({ assetId, outcome }) => [
        assetId,
        outcome.case === "asset" ? outcome.value : new AssetlaneError(outcome.value?.reason ?? "", outcome.value?.message ?? "The server gave no outcome"),
      ]),
    );
  }

  async deleteAsset(assetId: string, limits?: LimitOptions): Promise<void> {
    await this.connection.call((options) => this.connection.assets.deleteAsset({ assetId }, options), limits);
  }

  /**
   * Returns a URL of the asset that works now, refreshed when it is about to end: of the first variant that the asset
   * has among `variants`. `download`: the URL that saves the object under the file's name.
   */
  async readUrl(asset: Asset, variants: string | readonly string[] = "original", { download = false } = {}): Promise<string> {
    const names = typeof variants === "string" ? [variants] : variants;
    const variant = variantOf(await this.#readUrls.current(asset), ...names);
    if (!variant) throw new RangeError(`asset ${asset.assetId} has no ${names.join(", ")}: it has ${asset.variants.map(({ name }) => name).join(", ")}`);
    return download ? variant.downloadUrl : variant.readUrl;
  }
}

/** When the read URLs of an asset end; undefined: never. */
export function expiryOf({ expireTime }: Asset): Date | undefined {
  return expireTime && timestampDate(expireTime);
}

function present<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new AssetlaneError("CLIENT_TOO_OLD", `The server's answer has no ${name}`);
  return value;
}
