// One asset in the grid: a picture, a video or sound that plays in place, or the card of a document.

import type { Asset } from "@assetlane/client";
import { Maximize2, Music, Play } from "lucide";

import { h, icon } from "./dom.ts";
import { bytes, kindOf, nameOf, playingTime } from "./format.ts";
import { colorOf, kindOfAsset, labelOf, originalOf, secondsOf, titleOf } from "./look.ts";
import { play, showPicture, stop, type Source } from "./urls.ts";

export class Tile {
  readonly element: HTMLLIElement;
  readonly open: HTMLButtonElement;
  #media: HTMLMediaElement | undefined;

  constructor(
    readonly asset: Asset,
    edgePx: number,
    private readonly source: Source,
    private readonly events: { onOpen: () => void; onPlay: (tile: Tile) => void },
  ) {
    const kind = kindOfAsset(asset);
    this.open = h("button", { type: "button", class: "tile-open", tabindex: "-1", onclick: () => events.onOpen() });
    this.element = h("li", { class: `tile ${kind}`, "data-asset": asset.assetId, "data-name": titleOf(asset) }, this.open);
    const color = colorOf(asset);
    if (color) this.element.style.setProperty("--color", color);
    if (kind === "picture" || kind === "video") {
      this.open.setAttribute("aria-label", labelOf(asset));
      const image = h("img", { alt: "", decoding: "async", draggable: "false" });
      this.open.append(image, h("span", { class: "tile-caption" }, h("span", { class: "tile-name" }, titleOf(asset)), h("span", {}, asset.uid)));
      showPicture(image, asset, edgePx, source);
    } else {
      // The text on the card is its accessible name.
      this.open.append(h("span", { class: "unseen" }, kind === "sound" ? "Sound" : "Document"), ...(kind === "sound" ? soundCard(asset) : documentCard(asset)));
    }
    if (kind === "video" || kind === "sound") {
      const seconds = secondsOf(asset);
      const label = `Play ${titleOf(asset)}`;
      this.element.append(
        h("button", { type: "button", class: "tile-play", tabindex: "-1", "aria-label": label, title: "Play here", onclick: () => this.play() }, icon(Play, 18), seconds !== undefined && h("span", {}, playingTime(seconds))),
      );
    }
  }

  get isPlaying(): boolean {
    return this.#media !== undefined;
  }

  /** Plays in place. */
  play(): void {
    if (this.#media) return;
    const kind = kindOfAsset(this.asset);
    this.#media = h(kind === "video" ? "video" : "audio", { controls: true, autoplay: true, playsinline: true, preload: "auto", "aria-label": titleOf(this.asset) });
    this.element.classList.add("is-playing");
    this.element.append(
      this.#media,
      h("button", { type: "button", class: "tile-larger", "aria-label": `Open ${titleOf(this.asset)}`, title: "Open", onclick: () => this.events.onOpen() }, icon(Maximize2, 16)),
    );
    this.#media.addEventListener("ended", () => this.stop());
    play(this.#media, this.asset, this.source);
    this.#media.focus();
    this.events.onPlay(this);
  }

  /** Shows the picture again. */
  stop(): void {
    if (!this.#media) return;
    const hadFocus = this.element.contains(document.activeElement);
    stop(this.#media);
    this.#media.remove();
    this.#media = undefined;
    this.element.querySelector(".tile-larger")?.remove();
    this.element.classList.remove("is-playing");
    if (hadFocus) this.open.focus();
  }
}

function documentCard(asset: Asset): Node[] {
  const original = originalOf(asset);
  const name = nameOf(asset.filePath);
  return [
    h("span", { class: "card-kind" }, kindOf(name, original?.contentType ?? "")),
    h("span", { class: "card-lines", "aria-hidden": "true" }),
    h("span", { class: "card-name" }, titleOf(asset)),
    h("span", { class: "card-facts" }, `${bytes(original?.sizeBytes ?? 0n)} · ${asset.uid}`),
  ];
}

function soundCard(asset: Asset): Node[] {
  const bars = h("span", { class: "card-wave", "aria-hidden": "true" });
  // Not a wave form of the sound: a pattern made from its id, so that it always looks the same.
  let state = [...asset.assetId].reduce((sum, char) => (sum * 31 + char.charCodeAt(0)) >>> 0, 7);
  for (let bar = 0; bar < 28; bar++) {
    state = (state * 1_664_525 + 1_013_904_223) >>> 0;
    const one = h("i");
    one.style.setProperty("--level", String(0.18 + 0.82 * (state / 2 ** 32) * Math.sin(((bar + 1) / 29) * Math.PI)));
    bars.append(one);
  }
  return [
    h("span", { class: "card-kind" }, icon(Music, 16)),
    bars,
    h("span", { class: "card-name" }, titleOf(asset)),
    h("span", { class: "card-facts" }, `${bytes(originalOf(asset)?.sizeBytes ?? 0n)} · ${asset.uid}`),
  ];
}
