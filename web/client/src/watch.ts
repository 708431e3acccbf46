// Watches that go on: a lost stream is opened again where it stopped, without a gap and without a repeat.

import { Code, type CallOptions } from "@connectrpc/connect";

import { Backoff, sleepOrOnline } from "./backoff.js";
import type { Connection } from "./calls.js";
import { CallFailed, callFailed } from "./errors.js";
import type { WatchAssetsResponse } from "./gen/assetlane/v1/asset_service_pb.js";
import { UploadStatus } from "./gen/assetlane/v1/upload_pb.js";
import type { WatchUploadResponse } from "./gen/assetlane/v1/upload_service_pb.js";
import { TimeSlices } from "./time-slices.js";

/** A heartbeat comes every 30 seconds: three were missed, the other end is gone. */
const SILENCE_MS = 100_000;
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 10_000;
/** A broken connection can look like these codes, and so can a bug that every repeat meets. */
const DOUBTFUL = new Set([Code.Internal, Code.Unknown, Code.DataLoss]);
const DOUBTS = 5;
/** Assets of one partition; a resumed watch repeats about the last minute before its token. */
const REMEMBERED = 10_000;

export const FINAL_STATUSES: ReadonlySet<UploadStatus> = new Set([
  UploadStatus.COMPLETED,
  UploadStatus.FAILED,
  UploadStatus.CANCELLED,
  UploadStatus.EXPIRED,
]);

/** A status change, or how far an upload is. */
export type UploadEvent = Extract<WatchUploadResponse["event"], { case: "status" | "progress" }>;

/** An asset that is there, one that is gone, or that all that was there has come. */
export type AssetEvent = Extract<WatchAssetsResponse["event"], { case: "asset" | "deleted" | "synced" }> & {
  /** Resumes a watch after this event. */
  readonly resumeToken: string;
};

export interface WatchOptions {
  /** Ends the watch: the iterator returns. */
  readonly signal?: AbortSignal | undefined;
  /** Called when the stream is lost, and the watch is about to open another. */
  readonly onGap?: ((error: CallFailed) => void) | undefined;
}

/** Where a watch stands: opens a stream of what is still to come, and knows what has come already. */
export interface Cursor<Response, Event> {
  open(connection: Connection, options: CallOptions): AsyncIterable<Response>;
  /** Returns the event, undefined for a repeat, a heartbeat, or a kind of a newer server. */
  take(response: Response): Event | undefined;
  /** Whether nothing can come any more. */
  readonly isOver: boolean;
}

/** Follows a cursor through lost connections, restarts and expired tokens. Throws CallFailed. */
export async function* follow<Response, Event>(connection: Connection, cursor: Cursor<Response, Event>, { signal, onGap }: WatchOptions): AsyncGenerator<Event, void, void> {
  const backoff = new Backoff(FIRST_DELAY_MS, LONGEST_DELAY_MS);
  const slices = new TimeSlices();
  let doubts = 0;
  let refusals = 0;
  while (!signal?.aborted && !cursor.isOver) {
    const stop = new AbortController();
    const end = () => stop.abort();
    signal?.addEventListener("abort", end, { once: true });
    let silence: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(end, SILENCE_MS);
    };
    let token: string | undefined;
    let failed: CallFailed;
    try {
      const given = await connection.headers();
      token = given.token;
      if (signal?.aborted) return;
      heard();
      for await (const response of cursor.open(connection, { headers: given.headers, signal: stop.signal })) {
        clearTimeout(silence); // a reader who takes their time is no silence of the server
        backoff.reset();
        doubts = refusals = 0;
        const event = cursor.take(response);
        if (event !== undefined) yield event;
        if (cursor.isOver) return;
        if (slices.isOver) await slices.next(); // one packet brings hundreds of messages
        if (signal?.aborted) return;
        heard();
      }
      if (cursor.isOver) return;
      failed = new CallFailed("SERVER_UNREACHABLE", "The stream ended before the watch was over", Code.Unavailable);
    } catch (thrown) {
      if (signal?.aborted) return;
      failed = thrown instanceof CallFailed ? thrown : callFailed(thrown);
    } finally {
      clearTimeout(silence);
      signal?.removeEventListener("abort", end);
      stop.abort();
    }
    if (failed.code === Code.Unauthenticated && connection.tokens.canRenew && refusals < 2) {
      refusals += 1;
      await connection.tokens.refused(token);
      onGap?.(failed);
      continue;
    }
    const isDoubtful = DOUBTFUL.has(failed.code) && doubts++ < DOUBTS;
    if (!failed.isTemporary && failed.code !== Code.ResourceExhausted && !isDoubtful) throw failed;
    onGap?.(failed);
    try {
      await sleepOrOnline(backoff.next(failed.retryAfterMs), signal);
    } catch {
      return; // the signal aborted
    }
  }
}

/** A watch of one upload: over after its final status. */
export class UploadCursor implements Cursor<WatchUploadResponse, UploadEvent> {
  isOver = false;

  constructor(
    private readonly uploadId: string,
    private revision = 0n,
  ) {}

  open({ uploads }: Connection, options: CallOptions): AsyncIterable<WatchUploadResponse> {
    return uploads.watchUpload({ target: { case: "uploadId", value: this.uploadId }, afterRevision: this.revision }, options);
  }

  take({ event }: WatchUploadResponse): UploadEvent | undefined {
    if (event.case === "progress") return event;
    if (event.case !== "status" || !event.value.upload || event.value.upload.revision <= this.revision) return undefined;
    this.revision = event.value.upload.revision;
    this.isOver = FINAL_STATUSES.has(event.value.upload.status);
    return event;
  }
}

/** A watch of all uploads of a session; never over. */
export class SessionCursor implements Cursor<WatchUploadResponse, UploadEvent> {
  readonly isOver = false;
  readonly #revisions: Record<string, bigint>;

  constructor(
    private readonly sessionId: string,
    afterRevisions: Readonly<Record<string, bigint>> = {},
  ) {
    this.#revisions = { ...afterRevisions };
  }

  open({ uploads }: Connection, options: CallOptions): AsyncIterable<WatchUploadResponse> {
    return uploads.watchUpload({ target: { case: "sessionId", value: this.sessionId }, afterRevisions: this.#revisions }, options);
  }

  take({ event }: WatchUploadResponse): UploadEvent | undefined {
    if (event.case === "progress") return event;
    if (event.case !== "status" || !event.value.upload) return undefined;
    const { uploadId, revision } = event.value.upload;
    if (revision <= (this.#revisions[uploadId] ?? 0n)) return undefined;
    this.#revisions[uploadId] = revision;
    return event;
  }
}

/** A watch of a partition; never over. */
export class AssetsCursor implements Cursor<WatchAssetsResponse, AssetEvent> {
  readonly isOver = false;
  #isSynced = false;
  readonly #revisions = new Map<string, bigint>();

  constructor(
    private readonly partition: string,
    private resumeToken = "",
  ) {}

  open({ assets }: Connection, options: CallOptions): AsyncIterable<WatchAssetsResponse> {
    return assets.watchAssets({ partition: this.partition, resumeToken: this.resumeToken }, options);
  }

  take({ event, resumeToken }: WatchAssetsResponse): AssetEvent | undefined {
    if (resumeToken) this.resumeToken = resumeToken;
    switch (event.case) {
      case "asset":
        if (!event.value.asset || !this.#isNew(event.value.asset.assetId, event.value.asset.revision)) return undefined;
        return { ...event, resumeToken: this.resumeToken };
      case "deleted":
        if (!this.#isNew(event.value.assetId, event.value.revision)) return undefined;
        return { ...event, resumeToken: this.resumeToken };
      case "synced":
        if (this.#isSynced) return undefined;
        this.#isSynced = true;
        return { ...event, resumeToken: this.resumeToken };
      default:
        return undefined;
    }
  }

  #isNew(assetId: string, revision: bigint): boolean {
    if (revision <= (this.#revisions.get(assetId) ?? 0n)) return false;
    this.#revisions.delete(assetId); // the newest stands last
    this.#revisions.set(assetId, revision);
    if (this.#revisions.size > REMEMBERED) {
      for (const oldest of this.#revisions.keys()) {
        this.#revisions.delete(oldest);
        break;
      }
    }
    return true;
  }
}
