// Pictures and media whose read URL is replaced when it has expired, also while they play.

import type { Asset, AssetlaneClient } from "@assetlane/client";

import { pictureFor } from "./look.ts";

const TRIES = 3;
const SOON_MS = 60_000;

/** Where views of assets get them from: the client, and the newest state of each asset. */
export interface Source {
  readonly client: AssetlaneClient;
  /** The newest state of an asset that the page knows. */
  current(asset: Asset): Asset;
  /** Keeps the new state of a refreshed asset. */
  note(asset: Asset): void;
}

/** Shows a variant of an asset that is sharp enough; when its URL does not work, fetches another URL and tries again. */
export function showPicture(image: HTMLImageElement, asset: Asset, edgePx: number, source: Source): void {
  const name = pictureFor(asset, edgePx);
  if (!name) return;
  let tries = 0;
  const show = async () => {
    image.src = await source.client.readUrl(source.current(asset), name);
  };
  image.addEventListener("load", () => image.classList.add("is-loaded"));
  image.addEventListener("error", () => {
    if (!image.isConnected || tries >= TRIES) return image.classList.add("is-broken");
    tries += 1;
    void again(asset, source, tries).then(show, () => image.classList.add("is-broken"));
  });
  show().catch(() => image.classList.add("is-broken"));
}

/** Plays the original of an asset; when its URL expires, continues at the same place with a new one. */
export function play(media: HTMLMediaElement, asset: Asset, source: Source): void {
  let tries = 0;
  const load = async () => {
    const at = media.currentTime;
    const wasPlaying = !media.paused || media.autoplay;
    media.src = await source.client.readUrl(source.current(asset), "original");
    if (at > 0) media.currentTime = at;
    if (wasPlaying) await media.play().catch(() => undefined); // the browser requires a click first
  };
  media.addEventListener("playing", () => (tries = 0));
  media.addEventListener("error", () => {
    if (!media.isConnected || tries >= TRIES || !media.getAttribute("src")) return;
    tries += 1;
    void again(asset, source, tries).then(load, () => undefined);
  });
  void load().catch(() => undefined);
}

/** Stops the player and releases its connection and decoder. */
export function stop(media: HTMLMediaElement): void {
  media.pause();
  media.removeAttribute("src");
  media.load();
}

async function again(asset: Asset, source: Source, tries: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 400 * tries));
  if (!navigator.onLine) await new Promise((resolve) => addEventListener("online", resolve, { once: true }));
  source.note(await source.client.refreshAsset(asset.assetId, { ifExpiresWithinMs: SOON_MS }));
}
