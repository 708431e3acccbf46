// The grid: the document contains only tiles near the window, however many assets there are.

import type { Asset } from "@assetlane/client";

import { eachFrame, h } from "./dom.ts";
import { dayOf } from "./format.ts";
import { layOut, neighbour, rowsBetween, type Box, type Layout, type Row } from "./layout.ts";
import { aspectOfAsset, createdOf } from "./look.ts";
import { Tile } from "./tile.ts";
import type { Source } from "./urls.ts";

/** How far beyond the window tiles are made. */
const AHEAD_PX = 700;
const MOST_TILES = 160;
/** How many tiles one frame makes: a long jump would otherwise make a hundred at once, and the page would freeze. */
const MOST_NEW = 12;
const MOST_MS = 8;

/** A heading or an asset that should be in the document. */
interface Wanted {
  readonly key: string;
  readonly row: Row;
  readonly asset?: Asset;
  readonly box?: Box;
}

export class Grid {
  readonly element = h("ul", { class: "grid", "aria-label": "Assets" });
  #assets: readonly Asset[] = [];
  #layout: Layout = { rows: [], height: 0 };
  #width = 0;
  /** The item that the Tab key reaches: the one that last had the focus, or the first one. */
  #active = "";
  #hasChosen = false;
  readonly #tiles = new Map<string, Tile>();
  /** Where each tile is, so that a tile that does not move is not touched. */
  readonly #places = new WeakMap<Tile, string>();
  readonly #headings = new Map<string, HTMLLIElement>();
  readonly #draw = eachFrame(() => this.#drawNow());

  constructor(
    private readonly source: Source,
    private readonly onOpen: (asset: Asset) => void,
  ) {
    addEventListener("scroll", this.#draw, { passive: true });
    new ResizeObserver(() => this.#onResize()).observe(this.element);
    addEventListener("resize", this.#draw);
    this.element.addEventListener("keydown", (event) => this.#onKey(event));
    this.element.addEventListener("focusin", (event) => {
      const id = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-asset]")?.dataset["asset"] : undefined;
      if (!id) return;
      this.#hasChosen = true;
      this.#activate(id);
    });
  }

  /** Shows assets, newest first. What is in the window stays where it is. */
  show(assets: readonly Asset[]): void {
    const anchor = this.#anchor();
    this.#assets = assets;
    this.#layOut();
    if (anchor) this.#scrollTo(anchor);
    this.#drawNow();
  }

  /** Focuses an asset and scrolls to it. */
  focus(assetId: string): void {
    this.#onResize(); // it is skipped while the viewer is open
    const index = this.#assets.findIndex((asset) => asset.assetId === assetId);
    const row = this.#layout.rows.find(({ boxes }) => boxes.some((box) => box.index === index));
    if (!row) return;
    this.#activate(assetId);
    const top = this.#top + row.top;
    const header = 110;
    if (top < scrollY + header) scrollTo({ top: top - header });
    else if (top + row.height > scrollY + innerHeight) scrollTo({ top: top + row.height - innerHeight + 24 });
    this.#drawNow(assetId);
    this.#tiles.get(assetId)?.open.focus({ preventScroll: true });
  }

  get #top(): number {
    return this.element.getBoundingClientRect().top + scrollY;
  }

  #onResize(): void {
    const width = Math.floor(this.element.clientWidth);
    // While the viewer is open there is no scroll bar: the width is not the real one.
    if (width === this.#width || document.documentElement.classList.contains("is-viewing")) return;
    const anchor = this.#anchor();
    this.#width = width;
    this.#clear(); // sharper or smaller pictures may fit now
    this.#layOut();
    if (anchor) this.#scrollTo(anchor);
    this.#draw();
  }

  #layOut(): void {
    if (!this.#width) this.#width = Math.floor(this.element.clientWidth);
    const now = new Date();
    const items = this.#assets.map((asset) => ({ aspect: aspectOfAsset(asset), section: dayOf(createdOf(asset), now) }));
    this.#layout = this.#width ? layOut(items, this.#width) : { rows: [], height: 0 };
    this.element.style.height = `${this.#layout.height}px`;
    if (this.#indexOf(this.#active) < 0) this.#hasChosen = false;
    if (!this.#hasChosen) this.#activate(this.#assets[0]?.assetId ?? "");
  }

  /** The first asset in the window and how far from its upper edge, unless the reader is at the top of the page. */
  #anchor(): { assetId: string; offset: number } | undefined {
    if (scrollY < 60) return undefined;
    const top = this.#top;
    const [from] = rowsBetween(this.#layout.rows, scrollY - top, scrollY - top);
    for (const row of this.#layout.rows.slice(from)) {
      const asset = this.#assets[row.boxes[0]?.index ?? -1];
      if (asset) return { assetId: asset.assetId, offset: top + row.top - scrollY };
    }
    return undefined;
  }

  #scrollTo({ assetId, offset }: { assetId: string; offset: number }): void {
    const index = this.#assets.findIndex((asset) => asset.assetId === assetId);
    const row = this.#layout.rows.find(({ boxes }) => boxes.some((box) => box.index === index));
    if (row && Math.abs(this.#top + row.top - offset - scrollY) > 1) scrollTo({ top: this.#top + row.top - offset, behavior: "instant" });
  }

  /** Makes the tiles that belong near the window and removes all others; the tile of `first` is made first. */
  #drawNow(first?: string): void {
    // All reads come before the first write: each read after a write would lay out the page again.
    const startedMs = performance.now();
    const upper = scrollY - this.#top;
    const lower = upper + innerHeight;
    const { rows } = this.#layout;
    const [from, to] = rowsBetween(rows, upper - AHEAD_PX, lower + AHEAD_PX);
    const wanted: Wanted[] = [];
    for (const row of rows.slice(from, to)) {
      if (row.section !== undefined) wanted.push({ key: row.section, row });
      for (const box of row.boxes) {
        const asset = this.#assets[box.index];
        if (asset && wanted.length < MOST_TILES) wanted.push({ key: asset.assetId, row, asset, box });
      }
    }
    const keys = new Set(wanted.map(({ key }) => key));
    const focused = document.activeElement?.closest<HTMLElement>("[data-asset]")?.dataset["asset"];
    for (const [id, tile] of this.#tiles) {
      const isStill = this.#assets[this.#indexOf(id)] !== undefined;
      // A tile that plays or has the focus stays, although it is out of sight.
      if (!keys.has(id) && !(isStill && (tile.isPlaying || id === focused))) this.#removeTile(id, tile);
    }
    for (const [section, heading] of this.#headings) {
      if (!keys.has(section)) {
        heading.remove();
        this.#headings.delete(section);
      }
    }
    // Nearest to the window first; the next frame makes those that this one has no time for.
    const distance = ({ key, row }: Wanted) => (key === first ? -1 : Math.max(0, row.top - lower, upper - row.top - row.height));
    const missing = wanted.filter(({ key, box }) => box && !this.#tiles.has(key)).sort((one, other) => distance(one) - distance(other));
    let made = 0;
    for (const { key, row, asset, box } of missing) {
      if (made === MOST_NEW || (made > 0 && performance.now() - startedMs > MOST_MS)) break;
      if (asset && box) this.#tiles.set(key, this.#newTile(asset, Math.max(box.width, row.height)));
      made += 1;
    }
    let before: Element | null = this.element.firstElementChild;
    for (const { key, row, box } of wanted) {
      const tile = this.#tiles.get(key);
      const element = box ? tile && this.#placed(tile, row, box) : this.#headingAt(key, row);
      if (!element) continue;
      if (element !== before) this.element.insertBefore(element, before);
      else before = before.nextElementSibling;
    }
    if (made < missing.length) this.#draw();
  }

  #indexOf(assetId: string): number {
    // Newest first, and ids are ordered by creation.
    let low = 0;
    let high = this.#assets.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#assets[middle]?.assetId ?? "") > assetId) low = middle + 1;
      else high = middle;
    }
    return this.#assets[low]?.assetId === assetId ? low : -1;
  }

  #newTile(asset: Asset, shownPx: number): Tile {
    return new Tile(asset, shownPx * Math.min(devicePixelRatio || 1, 2) * 0.9, this.source, {
      onOpen: () => this.onOpen(this.source.current(asset)),
      onPlay: (playing) => {
        for (const other of this.#tiles.values()) if (other !== playing) other.stop();
      },
    });
  }

  #placed(tile: Tile, row: Row, box: Box): HTMLLIElement {
    const { element } = tile;
    const reached = tile.asset.assetId === this.#active ? "0" : "-1";
    const place = [box.left, row.top, box.width, row.height, box.index, this.#assets.length, reached].join();
    if (this.#places.get(tile) === place) return element;
    this.#places.set(tile, place);
    element.style.transform = `translate(${box.left}px, ${row.top}px)`;
    element.style.width = `${box.width}px`;
    element.style.height = `${row.height}px`;
    element.setAttribute("aria-posinset", String(box.index + 1));
    element.setAttribute("aria-setsize", String(this.#assets.length));
    for (const button of element.querySelectorAll(".tile-open, .tile-play")) button.setAttribute("tabindex", reached);
    return element;
  }

  #headingAt(section: string, row: Row): HTMLLIElement {
    let heading = this.#headings.get(section);
    if (!heading) {
      heading = h("li", { class: "day" }, h("h2", {}, section), h("span", { class: "day-count" }));
      this.#headings.set(section, heading);
    }
    heading.style.transform = `translate(0, ${row.top}px)`;
    const count = heading.querySelector(".day-count");
    const text = String(row.count ?? "");
    if (count && count.textContent !== text) count.textContent = text;
    return heading;
  }

  #activate(assetId: string): void {
    if (assetId === this.#active) return;
    for (const [id, index] of [[this.#active, "-1"], [assetId, "0"]] as const) {
      for (const button of this.#tiles.get(id)?.element.querySelectorAll(".tile-open, .tile-play") ?? []) button.setAttribute("tabindex", index);
    }
    this.#active = assetId;
  }

  #onKey(event: KeyboardEvent): void {
    if (!(event.target instanceof HTMLButtonElement) || event.altKey || event.ctrlKey || event.metaKey) return;
    const id = event.target.closest<HTMLElement>("[data-asset]")?.dataset["asset"];
    if (!id) return;
    const index = this.#indexOf(id);
    const { rows } = this.#layout;
    const next = {
      ArrowRight: index + 1,
      ArrowLeft: index - 1,
      ArrowDown: neighbour(rows, index, 1),
      ArrowUp: neighbour(rows, index, -1),
      Home: 0,
      End: this.#assets.length - 1,
    }[event.key];
    const asset = next === undefined ? undefined : this.#assets[next];
    if (!asset) return;
    event.preventDefault();
    this.focus(asset.assetId);
  }

  #removeTile(id: string, tile: Tile): void {
    tile.stop();
    tile.element.remove();
    this.#tiles.delete(id);
  }

  #clear(): void {
    for (const [id, tile] of this.#tiles) if (!tile.isPlaying) this.#removeTile(id, tile);
  }
}
