// One asset on the whole screen: a picture, a player, or the card of a document.

import type { Asset } from "@assetlane/client";
import { ChevronLeft, ChevronRight, Code, Download, ExternalLink, Music, Trash2, X } from "lucide";

import { fill, h, icon, iconButton, toast } from "./dom.ts";
import { bytes, kindOf, moment, nameOf, playingTime } from "./format.ts";
import { colorOf, createdOf, kindOfAsset, originalOf, pictureFor, secondsOf, titleOf } from "./look.ts";
import { play, showPicture, stop, type Source } from "./urls.ts";

export interface ViewerEvents {
  /** The assets to go through, newest first. */
  readonly assets: () => readonly Asset[];
  readonly onDelete: (asset: Asset) => Promise<void>;
  readonly onDevelop: (asset: Asset) => void;
  /** The viewer was closed; the asset that it showed last. */
  readonly onClose: (assetId: string) => void;
  readonly user: string;
}

const SWIPE_PX = 60;

export class Viewer {
  readonly #dialog: HTMLDialogElement;
  readonly #stage = h("div", { class: "stage" });
  readonly #title = h("h2", { class: "viewer-title" });
  readonly #facts = h("p", { class: "viewer-facts" });
  readonly #place = h("span", { class: "viewer-place" });
  readonly #back: HTMLButtonElement;
  readonly #on: HTMLButtonElement;
  readonly #delete: HTMLButtonElement;
  readonly #link: HTMLAnchorElement;
  #asset: Asset | undefined;
  #media: HTMLMediaElement | undefined;

  constructor(
    private readonly source: Source,
    private readonly events: ViewerEvents,
  ) {
    this.#back = iconButton("Newer", ChevronLeft, () => this.#go(-1), "icon-button dark turn back");
    this.#on = iconButton("Older", ChevronRight, () => this.#go(1), "icon-button dark turn on");
    this.#delete = iconButton("Delete", Trash2, () => void this.#onDelete(), "icon-button dark");
    this.#link = h("a", { class: "icon-button dark", "aria-label": "Open in a new tab", title: "Open in a new tab", target: "_blank", rel: "noopener" }, icon(ExternalLink));
    const bar = h("header", { class: "viewer-bar" },
      iconButton("Close", X, () => this.#dialog.close(), "icon-button dark"),
      this.#place,
      h("span", { class: "grow" }),
      iconButton("For developers", Code, () => this.#asset && this.events.onDevelop(this.source.current(this.#asset)), "icon-button dark"),
      this.#link,
      iconButton("Download the original", Download, () => void this.#onDownload(), "icon-button dark"),
      this.#delete,
    );
    this.#dialog = h("dialog", { class: "viewer", "aria-label": "Asset" }, bar, this.#stage, this.#back, this.#on, h("footer", { class: "viewer-caption" }, this.#title, this.#facts));
    this.#dialog.addEventListener("close", () => this.#onClose());
    this.#dialog.addEventListener("keydown", (event) => this.#onKey(event));
    let fromX = 0;
    this.#stage.addEventListener("pointerdown", (event) => (fromX = event.clientX));
    this.#stage.addEventListener("pointerup", (event) => {
      const movedPx = event.clientX - fromX;
      if (event.pointerType === "touch" && Math.abs(movedPx) > SWIPE_PX) this.#go(movedPx < 0 ? 1 : -1);
    });
    // A click beside the picture closes the viewer.
    this.#stage.addEventListener("click", (event) => event.target === this.#stage && this.#dialog.close());
    document.body.append(this.#dialog);
  }

  get shown(): Asset | undefined {
    return this.#dialog.open ? this.#asset : undefined;
  }

  open(asset: Asset): void {
    if (!this.#dialog.open) this.#dialog.showModal();
    document.documentElement.classList.add("is-viewing");
    this.#show(asset);
  }

  /** The list has changed: the asset on screen may have been deleted, or have other neighbours. */
  refresh(): void {
    if (!this.#dialog.open || !this.#asset) return;
    const { assetId } = this.#asset;
    if (this.events.assets().some((asset) => asset.assetId === assetId)) return this.#place_();
    toast(`${titleOf(this.#asset)} has been deleted`);
    this.#dialog.close();
  }

  #show(asset: Asset): void {
    this.#asset = asset;
    this.#stopMedia();
    const kind = kindOfAsset(asset);
    const original = originalOf(asset);
    fill(this.#stage, ...this.#content(asset, kind));
    this.#title.textContent = titleOf(asset);
    const measured = original && original.widthPx > 0 ? `${original.widthPx} × ${original.heightPx}` : "";
    const seconds = secondsOf(asset);
    this.#facts.textContent = [asset.uid, moment(createdOf(asset)), measured, seconds === undefined ? "" : playingTime(seconds), bytes(original?.sizeBytes ?? 0n)].filter(Boolean).join(" · ");
    this.#dialog.setAttribute("aria-label", titleOf(asset));
    this.#delete.hidden = asset.uid !== this.events.user;
    this.#link.removeAttribute("href");
    void this.source.client.readUrl(this.source.current(asset), "original").then((url) => {
      if (this.#asset === asset) this.#link.href = url;
    }, () => undefined);
    this.#place_();
  }

  #content(asset: Asset, kind: string): Node[] {
    if (kind === "picture") {
      const image = h("img", { class: "stage-picture", alt: asset.details?.caption || titleOf(asset), decoding: "async" });
      const measured = asset.variants.find(({ widthPx }) => widthPx > 0);
      if (measured) {
        image.width = originalOf(asset)?.widthPx || measured.widthPx;
        image.height = originalOf(asset)?.heightPx || measured.heightPx;
      }
      const color = colorOf(asset);
      if (color) image.style.backgroundColor = color;
      showPicture(image, asset, 900, this.source);
      return [image];
    }
    if (kind === "video" || kind === "sound") {
      const media = h(kind === "video" ? "video" : "audio", { class: kind === "video" ? "stage-picture" : "stage-sound", controls: true, playsinline: true, preload: "metadata", "aria-label": titleOf(asset) });
      this.#media = media;
      const poster = pictureFor(asset, 900);
      if (media instanceof HTMLVideoElement && poster) {
        const measured = asset.variants.find(({ widthPx }) => widthPx > 0);
        if (measured) {
          media.width = measured.widthPx;
          media.height = measured.heightPx;
        }
        void this.source.client.readUrl(this.source.current(asset), poster).then((url) => (media.poster = url), () => undefined);
      }
      play(media, asset, this.source);
      return kind === "video" ? [media] : [h("div", { class: "stage-card" }, icon(Music, 56), h("p", {}, titleOf(asset)), media)];
    }
    const original = originalOf(asset);
    return [
      h("div", { class: "stage-card" },
        h("span", { class: "card-kind" }, kindOf(nameOf(asset.filePath), original?.contentType ?? "")),
        h("p", {}, titleOf(asset)),
        h("p", { class: "stage-type" }, `${original?.contentType} · ${bytes(original?.sizeBytes ?? 0n)}`),
        h("button", { type: "button", class: "button", onclick: () => void this.#onDownload() }, icon(Download, 18), "Download"),
        ...asset.notices.map(({ reason, message }) => h("p", { class: "stage-notice" }, `${reason}: ${message}`)),
      ),
    ];
  }

  #place_(): void {
    const assets = this.events.assets();
    const index = assets.findIndex(({ assetId }) => assetId === this.#asset?.assetId);
    this.#place.textContent = index < 0 ? "" : `${index + 1} of ${assets.length}`;
    this.#back.disabled = index <= 0;
    this.#on.disabled = index < 0 || index === assets.length - 1;
  }

  #go(step: 1 | -1): void {
    const assets = this.events.assets();
    const next = assets[assets.findIndex(({ assetId }) => assetId === this.#asset?.assetId) + step];
    if (next) this.#show(next);
  }

  #onKey(event: KeyboardEvent): void {
    // In a player the arrow keys seek.
    if (event.target instanceof HTMLMediaElement || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") this.#go(-1);
    else if (event.key === "ArrowRight") this.#go(1);
    else return;
    event.preventDefault();
  }

  async #onDownload(): Promise<void> {
    const asset = this.#asset;
    if (!asset) return;
    const url = await this.source.client.readUrl(this.source.current(asset), "original", { download: true });
    // The store's response names the file: browsers ignore the `download` attribute for a URL of another origin.
    h("a", { href: url, download: nameOf(asset.filePath) }).click();
  }

  async #onDelete(): Promise<void> {
    const asset = this.#asset;
    if (!asset || !(await confirmed(`Delete ${titleOf(asset)}?`, "It is deleted for everybody, and so is its file."))) return;
    const assets = this.events.assets();
    const index = assets.findIndex(({ assetId }) => assetId === asset.assetId);
    const next = assets[index + 1] ?? assets[index - 1];
    await this.events.onDelete(asset);
    if (next) this.#show(next);
    else this.#dialog.close();
  }

  #stopMedia(): void {
    if (this.#media) stop(this.#media);
    this.#media = undefined;
  }

  #onClose(): void {
    document.documentElement.classList.remove("is-viewing");
    this.#stopMedia();
    fill(this.#stage);
    if (this.#asset) this.events.onClose(this.#asset.assetId);
  }
}

function confirmed(question: string, consequence: string): Promise<boolean> {
  return new Promise((resolve) => {
    const dialog = h("dialog", { class: "question", role: "alertdialog", "aria-label": question },
      h("h2", {}, question),
      h("p", {}, consequence),
      h("div", { class: "question-buttons" },
        h("button", { type: "button", class: "button quiet", autofocus: true, onclick: () => dialog.close("no") }, "Keep it"),
        h("button", { type: "button", class: "button bad", onclick: () => dialog.close("yes") }, "Delete"),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
