// Files that wait for a connection: kept in IndexedDB, sent when there is one, also after the browser was closed.

import { Code } from "@connectrpc/connect";
import { openDB, type DBSchema, type IDBPDatabase } from "idb";

import { Backoff, sleepOrOnline } from "./backoff.js";
import type { AssetlaneClient } from "./client.js";
import { AssetlaneError, CallFailed, Cancelled, hasReason } from "./errors.js";
import type { Asset } from "./gen/assetlane/v1/asset_pb.js";
import type { Prepared } from "./prepare.js";
import { uuid, type UploadOptions, type UploadProgress, type UploadTask } from "./upload.js";

/** Options of an upload that can be kept. */
export type OutboxOptions = Omit<UploadOptions, "onProgress" | "signal" | "requestId">;

/** A file in the outbox. */
export interface OutboxEntry {
  readonly id: string;
  readonly file: Blob;
  readonly name: string;
  readonly options: OutboxOptions;
  readonly addedMs: number;
  /** Why it is not sent any more: the server or the store refused it for good. `retry` tries again. */
  readonly failure?: { readonly reason: string; readonly message: string };
}

interface Stored extends OutboxEntry {
  readonly requestId: string;
  readonly user: string;
  readonly prepared?: Prepared;
}

interface Schema extends DBSchema {
  entries: { key: string; value: Stored };
}

export interface OutboxHandlers {
  /** Files were added, removed, completed or refused, here or in another tab. */
  readonly onChange?: () => void;
  readonly onProgress?: (entry: OutboxEntry, progress: UploadProgress) => void;
  readonly onCompleted?: (entry: OutboxEntry, asset: Asset) => void;
  /** `willRetry`: it goes on by itself when the connection or the server is back. */
  readonly onFailed?: (entry: OutboxEntry, error: AssetlaneError, willRetry: boolean) => void;
}

export interface OutboxSettings extends OutboxHandlers {
  /** Whose files these are: another user of this browser neither sees nor sends them. */
  readonly user: string;
  /** How many files are under way at once. Default: 2. */
  readonly parallel?: number;
  /** The name of the IndexedDB database. Default: `assetlane-outbox`. */
  readonly database?: string;
}

const FIRST_DELAY_MS = 1_000;
const LONGEST_DELAY_MS = 60_000;

export class Outbox {
  readonly #running = new Map<string, { task: UploadTask | undefined; stop: AbortController; done: Promise<void> }>();
  readonly #channel: BroadcastChannel | undefined;
  #isClosed = false;

  private constructor(
    private readonly client: AssetlaneClient,
    private readonly database: IDBPDatabase<Schema>,
    private readonly settings: OutboxSettings,
  ) {
    if (typeof BroadcastChannel === "function") {
      this.#channel = new BroadcastChannel(`${database.name} ${settings.user}`);
      this.#channel.onmessage = () => {
        settings.onChange?.();
        void this.#fill();
      };
    }
  }

  /** Opens the outbox of a user, and goes on sending what is in it. */
  static async open(client: AssetlaneClient, settings: OutboxSettings): Promise<Outbox> {
    const database = await openDB<Schema>(settings.database ?? "assetlane-outbox", 1, {
      upgrade: (fresh) => void fresh.createObjectStore("entries", { keyPath: "id" }),
    });
    const outbox = new Outbox(client, database, settings);
    await outbox.#fill();
    return outbox;
  }

  /** Keeps a file and sends it as soon as that is possible. Rejects when the browser has no room for it. */
  async add(file: Blob, options: OutboxOptions = {}): Promise<OutboxEntry> {
    const name = (file as Partial<File>).name ?? "";
    const entry: Stored = { id: uuid(), requestId: uuid(), user: this.settings.user, file, name, options: { sessionId: this.client.sessionId, ...options }, addedMs: Date.now() };
    await this.database.put("entries", entry);
    this.#changed();
    await this.#fill();
    return entry;
  }

  /** Returns what is in the outbox, oldest first. */
  async entries(): Promise<OutboxEntry[]> {
    const stored = await this.database.getAll("entries");
    return stored.filter(({ user }) => user === this.settings.user).sort((one, other) => one.addedMs - other.addedMs);
  }

  /** Sends a refused file again, as a new upload. */
  async retry(id: string): Promise<void> {
    const { failure: _, prepared: __, ...entry } = await this.#entry(id);
    await this.database.put("entries", { ...entry, requestId: uuid() });
    this.#changed();
    await this.#fill();
  }

  /** Takes a file out, and cancels its upload if this tab is sending it. */
  async remove(id: string): Promise<void> {
    await this.database.delete("entries", id);
    const running = this.#running.get(id);
    running?.stop.abort();
    await running?.task?.cancel().catch((error: unknown) => {
      // It is out of the outbox in any case; what the server keeps of it expires.
      if (!(error instanceof AssetlaneError)) throw error;
    });
    await running?.done;
    this.#changed();
  }

  /** Pauses a file that is under way here. */
  pause(id: string): void {
    this.#running.get(id)?.task?.pause();
  }

  resume(id: string): void {
    this.#running.get(id)?.task?.resume();
  }

  /** Stops sending, as a closed page does: what is in the outbox stays, and goes on when it is opened again. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const running = [...this.#running.values()];
    for (const { stop, task } of running) {
      stop.abort();
      task?.pause();
    }
    this.#channel?.close();
    this.database.close();
  }

  async #entry(id: string): Promise<Stored> {
    const entry = await this.database.get("entries", id);
    if (!entry || entry.user !== this.settings.user) throw new RangeError(`nothing in the outbox has the id ${id}`);
    return entry;
  }

  #changed(): void {
    this.settings.onChange?.();
    if (!this.#isClosed) this.#channel?.postMessage("changed");
  }

  async #fill(): Promise<void> {
    if (this.#isClosed) return;
    for (const entry of (await this.entries()) as Stored[]) {
      if (this.#isClosed || this.#running.size >= (this.settings.parallel ?? 2)) return;
      if (entry.failure || this.#running.has(entry.id)) continue;
      const stop = new AbortController();
      const running = { task: undefined as UploadTask | undefined, stop, done: Promise.resolve() };
      this.#running.set(entry.id, running);
      running.done = this.#locked(entry.id, stop.signal, () => this.#send(entry.id, running)).finally(() => {
        this.#running.delete(entry.id);
      });
      void running.done.then(
        () => this.#fill(),
        (error: unknown) => {
          if (!this.#isClosed) throw error;
        },
      );
    }
  }

  /** One tab sends a file; the others wait in case it is closed. */
  async #locked(id: string, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    if (typeof navigator === "undefined" || !navigator.locks) return work();
    try {
      await navigator.locks.request(`${this.database.name} ${id}`, { signal }, work);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async #send(id: string, running: { task: UploadTask | undefined; stop: AbortController }): Promise<void> {
    const { onProgress, onCompleted, onFailed } = this.settings;
    const backoff = new Backoff(FIRST_DELAY_MS, LONGEST_DELAY_MS);
    while (!running.stop.signal.aborted) {
      const entry = await this.database.get("entries", id);
      if (!entry || entry.failure) return; // another tab has sent or removed it
      const options: UploadOptions = { ...entry.options, requestId: entry.requestId, onProgress: (progress) => onProgress?.(entry, progress) };
      // The same bytes promised after a restart: a newer browser may encode cuts differently.
      const keep = async (prepared: Prepared) => this.#update(id, { prepared });
      running.task = this.client.uploadPrepared(entry.file, options, entry.prepared, keep);
      try {
        const asset = await running.task.asset;
        await this.database.delete("entries", id);
        this.#changed();
        onCompleted?.(entry, asset);
        return;
      } catch (thrown) {
        if (running.stop.signal.aborted || hasReason(thrown, "CANCELLED")) return;
        const error = thrown instanceof AssetlaneError ? thrown : new AssetlaneError("", String(thrown), { cause: thrown });
        const hasExpired = hasReason(error, "UPLOAD_EXPIRED");
        // Unauthenticated: the user signs in again and the token function has another token.
        const willRetry = hasExpired || error.isTemporary || (error instanceof CallFailed && error.code === Code.Unauthenticated);
        if (hasExpired) await this.#update(id, { requestId: uuid() });
        if (!willRetry) await this.#update(id, { failure: { reason: error.reason, message: error.message } });
        if (!willRetry) this.#changed();
        onFailed?.(entry, error, willRetry);
        if (!willRetry) return;
        const retryAfterMs = error instanceof CallFailed ? error.retryAfterMs : undefined;
        await sleepOrOnline(backoff.next(retryAfterMs), running.stop.signal).catch((reason: unknown) => {
          if (!running.stop.signal.aborted) throw reason;
        });
      }
    }
  }

  async #update(id: string, changes: Partial<Stored>): Promise<void> {
    const transaction = this.database.transaction("entries", "readwrite");
    const entry = await transaction.store.get(id);
    if (entry) await transaction.store.put({ ...entry, ...changes });
    await transaction.done;
    if (!entry) throw new Cancelled("removed from the outbox");
  }
}
