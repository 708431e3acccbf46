// The assets of one partition, kept up to date by a watch.

import { AssetChange, AssetlaneError, hasReason, type Asset, type AssetlaneClient } from "@assetlane/client";

import { eachFrame } from "./dom.ts";

export interface LibraryEvents {
  /** Assets were added, changed or deleted; called at most once a frame. */
  readonly onChange: () => void;
  /** Somebody has added or deleted something since the page was opened. */
  readonly onNews: (what: "added" | "deleted", asset: Asset) => void;
  /** The watch has lost its server, or has it back. */
  readonly onConnection: (isLost: boolean) => void;
}

export class Library {
  readonly #assets = new Map<string, Asset>();
  #ordered: readonly Asset[] = [];
  #isSorted = true;
  /** Whether every asset that existed when the watch began has been received. */
  isSynced = false;
  readonly #changed: () => void;
  #isAsking = false;

  constructor(
    private readonly client: AssetlaneClient,
    readonly partition: string,
    private readonly events: LibraryEvents,
  ) {
    this.#changed = eachFrame(() => this.events.onChange());
  }

  /** All of them, newest first. */
  get assets(): readonly Asset[] {
    if (!this.#isSorted) {
      // Ids are ordered by creation.
      this.#ordered = [...this.#assets.values()].sort((one, other) => (one.assetId < other.assetId ? 1 : -1));
      this.#isSorted = true;
    }
    return this.#ordered;
  }

  get(assetId: string): Asset | undefined {
    return this.#assets.get(assetId);
  }

  /** Adds or replaces an asset that another call returned, such as a refresh. */
  take(asset: Asset): void {
    const known = this.#assets.get(asset.assetId);
    if (known && known.revision >= asset.revision) return;
    this.#assets.set(asset.assetId, asset);
    this.#isSorted = false;
    this.#changed();
  }

  /** Removes an asset that was deleted. */
  remove(assetId: string): void {
    if (!this.#assets.delete(assetId)) return;
    this.#isSorted = false;
    this.#changed();
  }

  /** Watches the partition until the signal aborts. Throws errors that retrying cannot fix. */
  async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#followOnce(signal);
      } catch (error) {
        if (!hasReason(error, "RESUME_EXPIRED")) throw error;
        // The page was disconnected for more than a week: some of its assets may have been deleted since.
        this.#assets.clear();
        this.#isSorted = this.isSynced = false;
        this.#changed();
      }
    }
  }

  async #followOnce(signal: AbortSignal): Promise<void> {
    const onGap = () => {
      this.events.onConnection(true);
      void this.#untilAnswered(signal);
    };
    const events = this.client.watchAssets(this.partition, { signal, onGap });
    for await (const event of events) {
      this.events.onConnection(false);
      if (event.case === "asset" && event.value.asset) {
        const { asset, change } = event.value;
        const isNew = !this.#assets.has(asset.assetId);
        this.take(asset);
        if (isNew && this.isSynced && change === AssetChange.ADDED) this.events.onNews("added", asset);
      } else if (event.case === "deleted") {
        const gone = this.#assets.get(event.value.assetId);
        this.remove(event.value.assetId);
        if (gone && this.isSynced) this.events.onNews("deleted", gone);
      } else if (event.case === "synced") {
        this.isSynced = true;
        this.#changed();
      }
    }
  }

  /** A resumed watch sends nothing until something changes: a call shows when the server answers again. */
  async #untilAnswered(signal: AbortSignal): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      while (!signal.aborted) {
        try {
          for await (const _ of this.client.listAssets(this.partition, { signal, waitsForNetwork: true })) break;
          break;
        } catch (error) {
          if (!(error instanceof AssetlaneError && error.isTemporary)) break; // any other error is an answer of the server too
        }
      }
    } finally {
      this.#isAsking = false;
    }
    this.events.onConnection(false);
  }
}
