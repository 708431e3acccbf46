// Read URLs that work when they are used: those about to end are refreshed first, many in one call.

import type { Asset, AssetVariant } from "./gen/assetlane/v1/asset_pb.js";

const MARGIN_MS = 60_000;
const REMEMBERED = 2_000;
const BATCH = 100;

/** Refreshes assets; an error in place of one that could not be. */
export type RefreshMany = (assetIds: readonly string[], ifExpiresWithinMs: number) => Promise<Map<string, Asset | Error>>;

export class ReadUrls {
  readonly #fresh = new Map<string, Asset>();
  readonly #waiting = new Map<string, { promise: Promise<Asset>; resolve: (asset: Asset) => void; reject: (error: unknown) => void }>();

  constructor(private readonly refresh: RefreshMany) {}

  /** Returns the asset with URLs that live at least another minute: this one, a newer one seen before, or a refreshed one. */
  async current(asset: Asset): Promise<Asset> {
    const known = this.#fresh.get(asset.assetId);
    const newest = known && known.revision > asset.revision ? known : asset;
    if (!endsSoon(newest)) return newest;
    return this.#refreshed(newest.assetId);
  }

  /** Notes an asset that was seen, as in a watch. */
  note(asset: Asset): void {
    this.#fresh.delete(asset.assetId);
    this.#fresh.set(asset.assetId, asset);
    if (this.#fresh.size > REMEMBERED) this.#fresh.delete(this.#fresh.keys().next().value as string);
  }

  #refreshed(assetId: string): Promise<Asset> {
    const waiting = this.#waiting.get(assetId);
    if (waiting) return waiting.promise;
    if (this.#waiting.size === 0) setTimeout(() => void this.#ask(), 0); // a page of pictures is one call
    let settle: { resolve: (asset: Asset) => void; reject: (error: unknown) => void } | undefined;
    const promise = new Promise<Asset>((resolve, reject) => (settle = { resolve, reject }));
    if (settle) this.#waiting.set(assetId, { promise, ...settle });
    return promise;
  }

  async #ask(): Promise<void> {
    const asked = [...this.#waiting];
    this.#waiting.clear();
    for (let start = 0; start < asked.length; start += BATCH) {
      const batch = asked.slice(start, start + BATCH);
      try {
        const refreshed = await this.refresh(batch.map(([assetId]) => assetId), MARGIN_MS);
        for (const [assetId, { resolve, reject }] of batch) {
          const outcome = refreshed.get(assetId);
          if (outcome === undefined || outcome instanceof Error) {
            reject(outcome ?? new Error(`the server did not say what became of asset ${assetId}`));
          } else {
            this.note(outcome);
            resolve(outcome);
          }
        }
      } catch (error) {
        for (const [, { reject }] of batch) reject(error);
      }
    }
  }
}

/** Returns the first of these variants that the asset has. */
export function variantOf(asset: Asset, ...names: string[]): AssetVariant | undefined {
  for (const name of names) {
    const found = asset.variants.find((variant) => variant.name === name);
    if (found) return found;
  }
  return undefined;
}

function endsSoon({ expireTime, refreshTime, expirationHours }: Asset): boolean {
  if (!expireTime) return false; // public
  // By this device's clock; URLs that live shorter than the margin are used for three quarters of their life.
  const lifeMs = refreshTime ? Number(expireTime.seconds - refreshTime.seconds) * 1000 : expirationHours * 3_600_000;
  return Number(expireTime.seconds) * 1000 - Math.min(MARGIN_MS, lifeMs / 4) <= Date.now();
}
