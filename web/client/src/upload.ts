// One file on its way: prepared, requested, sent, completed; paused, resumed and cancelled on the way.

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { Code } from "@connectrpc/connect";

import { anySignal, sleep } from "./backoff.js";
import type { LimitOptions } from "./calls.js";
import { AssetlaneError, CallFailed, Cancelled, hasReason, UploadFailed } from "./errors.js";
import type { Asset } from "./gen/assetlane/v1/asset_pb.js";
import { CutMaker, UploadStatus, type MultipartTarget, type PresignedRequest, type Upload, type WriteTarget } from "./gen/assetlane/v1/upload_pb.js";
import { RequestUploadRequestSchema, type CompleteUploadResponse, type RequestUploadRequest, type RequestUploadResponse, type SignedPart, type StoredPart } from "./gen/assetlane/v1/upload_service_pb.js";
import { sha256 } from "./digest.js";
import { prepare, type Prepared, type PrepareOptions } from "./prepare.js";
import type { Semaphore } from "./semaphore.js";
import type { SendToStore } from "./store.js";
import { put, type Transfer } from "./transfer.js";

const COMPLETE_LIMIT_MS = 150_000; // the server looks at every object, and may be making cuts
const COMPLETE_ATTEMPTS = 3;
const REPORT_INTERVAL_MS = 400;
/** An upload that takes no longer is over before anybody could look. */
const REPORT_AFTER_MS = 500;
/** After a listing of parts: a store that counts in seconds must know which part is the newer one. */
const REPLACE_DELAY_MS = 1_000;
const PARTS_AT_ONCE = 4;

export type UploadState = "preparing" | "requesting" | "sending" | "paused" | "completing" | "completed" | "failed" | "cancelled";

export interface UploadProgress {
  readonly state: UploadState;
  /** Empty until the server has accepted the upload. */
  readonly uploadId: string;
  /** Bytes of all variants sent so far, the file and its cuts. Falls back when a try is repeated. */
  readonly sentBytes: number;
  /** Bytes of all variants; the file's alone while they are being prepared. */
  readonly sizeBytes: number;
  /** The status at the server, as of the last answer. */
  readonly status: UploadStatus;
}

export interface UploadOptions extends PrepareOptions {
  /** The path to file the asset under. Default: the file's path in its folder, or its name. */
  readonly filePath?: string | undefined;
  /** Default: the server's, `user/<uid>`. */
  readonly partition?: string | undefined;
  /** Default: `partition`. */
  readonly assetPartition?: string | undefined;
  /** How long read URLs live; 0: public, for ever. Default: 24. */
  readonly expirationHours?: number | undefined;
  readonly title?: string | undefined;
  readonly caption?: string | undefined;
  /** `#rrggbb`. Default: the average of the picture, where the canvas has seen it. */
  readonly color?: string | undefined;
  /** Anything else, as JSON. */
  readonly extra?: NonNullable<MessageInitShape<typeof RequestUploadRequestSchema>["details"]>["extra"];
  /** Whom the upload belongs to. Default: the token's subject. */
  readonly uid?: string | undefined;
  /** Default: the client's `sessionId`. */
  readonly sessionId?: string | undefined;
  /** Makes the upload go on where an earlier one with the same file and id stopped. Default: a new id. */
  readonly requestId?: string | undefined;
  /**
   * How many parts of the file are under way at once, within the client's `parallel`: what an interruption costs at
   * most. Default: 1 with a `requestId`, so that a closed browser costs one part; else 4.
   */
  readonly partsAtOnce?: number | undefined;
  readonly onProgress?: ((progress: UploadProgress) => void) | undefined;
  /** Cancels the upload. */
  readonly signal?: AbortSignal | undefined;
}

/** One part, hashed and signed. */
interface ReadyPart {
  readonly part: Blob;
  readonly sign: (signal: AbortSignal) => Promise<PresignedRequest>;
  /** Whether the store has another part with its number. */
  readonly isReplacing: boolean;
  /** Absent: the store has it already. */
  readonly request?: PresignedRequest;
}

/** What an upload needs of the client. */
export interface UploadServer {
  readonly send: SendToStore;
  readonly slots: Semaphore;
  requestUpload(request: RequestUploadRequest, limits?: LimitOptions): Promise<RequestUploadResponse>;
  signParts(uploadId: string, variant: string, parts: readonly { partNumber: number; sha256?: Uint8Array<ArrayBuffer> }[], limits?: LimitOptions): Promise<SignedPart[]>;
  listParts(uploadId: string, variant: string, limits?: LimitOptions): Promise<StoredPart[]>;
  reportProgress(uploadId: string, sentBytes: Readonly<Record<string, number>>, limits?: LimitOptions): Promise<void>;
  completeUpload(uploadId: string, limits?: LimitOptions): Promise<CompleteUploadResponse>;
  cancelUpload(uploadId: string, limits?: LimitOptions): Promise<Upload>;
}

/** One upload. It has begun when you get it; `asset` is what comes of it. */
export class UploadTask {
  /** The asset. Rejects with UploadFailed, CallFailed, StoreFailed, Cancelled, or FILE_UNREADABLE. */
  readonly asset: Promise<Asset>;
  readonly requestId: string;

  #state: UploadState = "preparing";
  #stateBeforePause: UploadState = "preparing";
  #uploadId = "";
  #status = UploadStatus.UNSPECIFIED;
  #sizeBytes: number;
  readonly #sent = new Map<string, number>();
  readonly #cancel = new AbortController();
  #pause = new AbortController();
  #resumed: { promise: Promise<void>; resolve: () => void } | undefined;
  #accepted: Promise<unknown> = Promise.resolve();
  #reportTimer: ReturnType<typeof setTimeout> | undefined;
  #reportsAt = 0;
  #isReporting = true;
  readonly #partsAtOnce: number;

  constructor(
    private readonly server: UploadServer,
    private readonly file: Blob,
    private readonly options: UploadOptions,
    /** What an earlier run prepared. */
    private prepared?: Prepared,
    private readonly onPrepared?: (prepared: Prepared) => Promise<void>,
  ) {
    const { partsAtOnce = options.requestId === undefined ? PARTS_AT_ONCE : 1 } = options;
    if (!Number.isInteger(partsAtOnce) || partsAtOnce < 1) throw new RangeError(`partsAtOnce is at least 1, not ${partsAtOnce}`);
    this.#partsAtOnce = partsAtOnce;
    this.requestId = options.requestId ?? uuid();
    this.#sizeBytes = file.size;
    const stop = () => void this.cancel().catch(() => undefined); // `asset` rejects, and says why
    if (options.signal?.aborted) this.#cancel.abort(new Cancelled());
    options.signal?.addEventListener("abort", stop, { once: true });
    this.asset = this.#run().finally(() => {
      options.signal?.removeEventListener("abort", stop);
      clearTimeout(this.#reportTimer);
    });
  }

  /** Where it is. */
  get progress(): UploadProgress {
    const sentBytes = [...this.#sent.values()].reduce((sum, bytes) => sum + bytes, 0);
    return { state: this.#state, uploadId: this.#uploadId, sentBytes, sizeBytes: this.#sizeBytes, status: this.#status };
  }

  /** Stops sending. Parts that are under way are sent again later; those that have arrived are not. */
  pause(): void {
    if (this.#resumed || this.#isOver || this.#state === "completing") return;
    this.#stateBeforePause = this.#state;
    let resolve = () => {};
    const promise = new Promise<void>((resolved) => (resolve = resolved));
    this.#resumed = { promise, resolve };
    this.#enter("paused");
    this.#pause.abort();
  }

  /** Goes on after `pause`. */
  resume(): void {
    if (!this.#resumed) return;
    this.#pause = new AbortController();
    const { resolve } = this.#resumed;
    this.#resumed = undefined;
    this.#enter(this.#stateBeforePause);
    resolve();
  }

  /**
   * Gives the upload up, here and at the server; `asset` rejects with CANCELLED.
   * Throws CallFailed when it is too late (such as UPLOAD_COMPLETED), or the server cannot be asked: it then expires.
   */
  async cancel(): Promise<void> {
    if (this.#isOver) return;
    this.#cancel.abort(new Cancelled());
    this.#resumed?.resolve();
    await this.#accepted.catch(() => undefined); // a request that is under way may be accepted yet
    if (this.#uploadId) await this.server.cancelUpload(this.#uploadId);
  }

  get #calls(): LimitOptions {
    return { signal: this.#cancel.signal, waitsForNetwork: true };
  }

  get #isOver(): boolean {
    return this.#state === "completed" || this.#state === "failed" || this.#state === "cancelled";
  }

  async #run(): Promise<Asset> {
    try {
      const asset = await this.#upload();
      this.#enter("completed");
      return asset;
    } catch (error) {
      const isCancelled = this.#cancel.signal.aborted || hasReason(error, "CANCELLED");
      this.#enter(isCancelled ? "cancelled" : "failed");
      if (isCancelled) throw new Cancelled();
      throw error;
    }
  }

  async #upload(): Promise<Asset> {
    if (!this.prepared) {
      this.prepared = await this.#unpaused((signal) => prepare(this.file, this.options, signal));
      await this.onPrepared?.(this.prepared);
    }
    const { variants } = this.prepared;
    this.#sizeBytes = variants.reduce((sum, { body }) => sum + body.size, 0);
    const request = requestOf(this.requestId, this.file, this.options, this.prepared);
    this.#enterUnlessPaused("requesting");
    // Not aborted half-way: an upload that was accepted unheard could not be cancelled.
    const requested = this.#unpaused(() => this.server.requestUpload(request, { waitsForNetwork: true }));
    this.#accepted = requested.then(({ upload }) => (this.#uploadId = upload?.uploadId ?? ""));
    let { upload, writeTargets } = await requested;
    this.#note(upload);
    this.#cancel.signal.throwIfAborted();
    const startedMs = Date.now();
    for (let attempt = 1; ; attempt++) {
      this.#enterUnlessPaused("sending");
      await this.#send(request, writeTargets, startedMs);
      clearTimeout(this.#reportTimer);
      await this.#resumed?.promise;
      this.#cancel.signal.throwIfAborted();
      this.#enter("completing");
      try {
        return this.#assetOf(await this.server.completeUpload(this.#uploadId, { ...this.#calls, timeoutMs: COMPLETE_LIMIT_MS }));
      } catch (error) {
        if (!hasReason(error, "VARIANTS_MISSING") || attempt === COMPLETE_ATTEMPTS) throw error;
        // What was sent is not there, as after a store's failover: the same request signs the ways in again.
        const missing = new Set((error as AssetlaneError as CallFailed).subjects);
        ({ upload, writeTargets } = await this.server.requestUpload(request, this.#calls));
        this.#note(upload);
        if (missing.size) writeTargets = writeTargets.filter(({ variant }) => missing.has(variant));
      }
    }
  }

  #assetOf({ upload, asset }: CompleteUploadResponse): Asset {
    this.#note(upload);
    if (asset) return asset;
    const failure = upload?.failure;
    throw new UploadFailed(failure?.reason ?? "ASSET_NOT_FOUND", failure?.message ?? "The asset has been deleted", upload);
  }

  async #send(request: RequestUploadRequest, targets: readonly WriteTarget[], startedMs: number): Promise<void> {
    const bodies = new Map(this.prepared?.variants.map(({ name, body }) => [name, body]));
    const ended = new AbortController(); // one that fails ends its siblings
    const sending = targets.map(async ({ variant, way }) => {
      const body = bodies.get(variant);
      if (body && way.case === "singlePut") await this.#sendWhole(request, variant, way.value, body, startedMs, ended.signal);
      else if (body && way.case === "multipart") await this.#sendParts(variant, way.value, body, startedMs, ended.signal);
      else throw new AssetlaneError("CLIENT_TOO_OLD", `This client does not know the way in of ${variant}: update @assetlane/client`);
    });
    try {
      await Promise.all(sending);
    } catch (error) {
      ended.abort(error);
      await Promise.allSettled(sending);
      // Somebody else has completed or ended it meanwhile: CompleteUpload says how.
      if (!isClosed(error)) throw error;
    }
  }

  async #sendWhole(request: RequestUploadRequest, variant: string, first: PresignedRequest, body: Blob, startedMs: number, ended: AbortSignal): Promise<void> {
    let signed = first;
    const renew = async () => {
      const { writeTargets, upload } = await this.server.requestUpload(request, this.#calls);
      this.#note(upload);
      const way = writeTargets.find((target) => target.variant === variant)?.way;
      if (way?.case !== "singlePut") throw new CallFailed("UPLOAD_UPLOADED", "The upload is not open any more", Code.FailedPrecondition);
      return (signed = way.value);
    };
    await this.#unpaused((signal) => this.server.slots.run(() => put(signed, body, this.#transfer(variant, startedMs, renew, signal))), ended);
  }

  async #sendParts(variant: string, target: MultipartTarget, body: Blob, startedMs: number, ended: AbortSignal): Promise<void> {
    const size = Number(target.partSizeBytes);
    const stored = new Map((await this.#unpaused((signal) => this.server.listParts(this.#uploadId, variant, { signal, waitsForNetwork: true }), ended)).map((part) => [part.partNumber, part]));
    const replaceableAt = Date.now() + REPLACE_DELAY_MS;
    const numbers = Array.from({ length: target.partCount }, (_, index) => index + 1);
    const ready = async (partNumber: number, signal: AbortSignal): Promise<ReadyPart> => {
      const part = body.slice((partNumber - 1) * size, partNumber * size);
      const digest = this.prepared?.checksums ? await sha256(part, signal) : undefined;
      const there = stored.get(partNumber);
      const sign = async (signal: AbortSignal) => {
        const [signed] = await this.server.signParts(this.#uploadId, variant, [digest ? { partNumber, sha256: digest } : { partNumber }], { signal, waitsForNetwork: true });
        if (!signed?.request) throw new AssetlaneError("CLIENT_TOO_OLD", `The server signed no request for part ${partNumber}`);
        return signed.request;
      };
      const isStored = there !== undefined && isSame(there, part, digest);
      return { part, sign, isReplacing: there !== undefined, ...(isStored ? {} : { request: await sign(signal) }) };
    };
    const ahead = new Map<number, Promise<ReadyPart>>();
    const prepareAhead = (signal: AbortSignal) => {
      const next = numbers.find((number) => !ahead.has(number));
      if (next === undefined || ahead.size >= this.#partsAtOnce) return;
      const preparing = ready(next, signal);
      preparing.catch(() => undefined); // it is looked at in its turn
      ahead.set(next, preparing);
    };
    const sendNext = async () => {
      for (let number = numbers.shift(); number !== undefined; number = numbers.shift()) {
        const partNumber = number;
        const key = `${variant}/${partNumber}`;
        const prepared = ahead.get(partNumber);
        await this.#unpaused(
          (signal) =>
            this.server.slots.run(async () => {
              // What a pause has aborted is prepared again.
              const { part, sign, isReplacing, request } = (await prepared?.catch(() => undefined)) ?? (await ready(partNumber, signal));
              signal.throwIfAborted();
              ahead.delete(partNumber);
              prepareAhead(signal); // while this part is on its way, so that the next one follows at once
              if (!request) return this.#onSent(key, part.size, startedMs);
              if (isReplacing) await sleep(Math.max(0, replaceableAt - Date.now()), signal);
              await put(request, part, this.#transfer(key, startedMs, () => sign(signal), signal));
            }),
          ended,
        );
      }
    };
    await Promise.all(Array.from({ length: Math.min(this.#partsAtOnce, target.partCount) }, sendNext));
  }

  #transfer(key: string, startedMs: number, renew: () => Promise<PresignedRequest>, signal: AbortSignal): Transfer {
    return { send: this.server.send, renew, signal, onSent: (bytes) => this.#onSent(key, bytes, startedMs) };
  }

  /** Runs the work, again from its start after a pause. Throws Cancelled. */
  async #unpaused<T>(work: (signal: AbortSignal) => Promise<T>, ended?: AbortSignal): Promise<T> {
    for (;;) {
      await this.#resumed?.promise;
      this.#cancel.signal.throwIfAborted();
      ended?.throwIfAborted();
      const pause = this.#pause.signal;
      try {
        return await work(anySignal([this.#cancel.signal, pause, ended]));
      } catch (error) {
        if (!pause.aborted || this.#cancel.signal.aborted || ended?.aborted) throw error;
      }
    }
  }

  #onSent(key: string, bytes: number, startedMs: number): void {
    if (this.#isOver) return;
    this.#sent.set(key, bytes);
    this.#report();
    this.#reportSoon(startedMs);
  }

  /** Reports progress for those who watch: newest only. It is an extra, and neither slows nor fails the upload. */
  #reportSoon(startedMs: number): void {
    if (this.#reportTimer !== undefined || !this.#isReporting) return;
    const dueMs = Math.max(startedMs + REPORT_AFTER_MS, this.#reportsAt + REPORT_INTERVAL_MS) - Date.now();
    this.#reportTimer = setTimeout(() => {
      this.#reportTimer = undefined;
      if (this.#state !== "sending") return;
      this.#reportsAt = Date.now();
      const sent: Record<string, number> = {};
      for (const [key, bytes] of this.#sent) {
        const [variant = key] = key.split("/");
        sent[variant] = (sent[variant] ?? 0) + bytes;
      }
      this.server.reportProgress(this.#uploadId, sent, { signal: this.#cancel.signal, timeoutMs: 5_000 }).catch((error: unknown) => {
        if (!(error instanceof AssetlaneError && error.isTemporary)) this.#isReporting = false;
      });
    }, Math.max(0, dueMs));
  }

  #note(upload: Upload | undefined): void {
    if (upload) this.#status = upload.status;
  }

  #enterUnlessPaused(state: UploadState): void {
    if (this.#resumed) this.#stateBeforePause = state;
    else this.#enter(state);
  }

  #enter(state: UploadState): void {
    if (this.#state === state || this.#isOver) return;
    this.#state = state;
    this.#report();
  }

  #report(): void {
    this.options.onProgress?.(this.progress);
  }
}

/** Returns the request for a prepared file; the same every time, so that a repeat finds the same upload. */
export function requestOf(requestId: string, file: Blob, options: UploadOptions, prepared: Prepared): RequestUploadRequest {
  const { title, caption, color, extra } = options;
  const duration = prepared.durationS === undefined ? undefined : { seconds: BigInt(Math.floor(prepared.durationS)), nanos: Math.floor((prepared.durationS % 1) * 1e9) };
  return create(RequestUploadRequestSchema, {
    requestId,
    uid: options.uid ?? "",
    sessionId: options.sessionId ?? "",
    partition: options.partition ?? "",
    assetPartition: options.assetPartition ?? "",
    filePath: options.filePath ?? pathOf(file),
    ...(options.expirationHours === undefined ? {} : { expirationHours: options.expirationHours }),
    details: { title: title ?? "", caption: caption ?? "", color: color ?? prepared.color, ...(duration ? { duration } : {}), ...(extra ? { extra } : {}) },
    variants: prepared.variants.map(({ name, contentType, body, sha256: digest, widthPx, heightPx }) => ({
      name, contentType, sizeBytes: BigInt(body.size), widthPx, heightPx, promisesParts: digest !== undefined, ...(digest ? { sha256: digest } : {}),
    })),
    ...(prepared.serverCuts.length ? { cutPlan: { maker: CutMaker.SERVER, sizes: prepared.serverCuts.map(({ name, maxEdgePx }) => ({ name, maxEdgePx })), required: prepared.cutsRequired } } : {}),
    notices: prepared.notices.map(({ reason, message }) => ({ reason, message })),
  });
}

/** The path of a file in the folder that was picked or dropped, or its name: relative and normalised, as the server wants it. */
export function pathOf(file: Blob): string {
  const { name = "", webkitRelativePath = "" } = file as Partial<File>;
  const path = (webkitRelativePath || name)
    .normalize("NFC")
    .replaceAll("\\", "_")
    .replace(/\p{Cc}/gu, "_")
    .split("/")
    .filter((part) => part !== "" && part !== "." && part !== "..")
    .join("/");
  return path || "unnamed";
}

/** crypto.randomUUID wants a secure context; getRandomValues does not. */
export function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function isClosed(error: unknown): boolean {
  return error instanceof CallFailed && error.code === Code.FailedPrecondition && /^UPLOAD_/.test(error.reason);
}

function isSame(stored: StoredPart, part: Blob, digest: Uint8Array | undefined): boolean {
  if (Number(stored.sizeBytes) !== part.size) return false;
  if (!digest || stored.sha256.length === 0) return true;
  return digest.every((byte, index) => byte === stored.sha256[index]);
}
