// Pure functions that decide how an asset is shown: as a picture, a video, a sound or a document.

import { variantOf, type Asset, type AssetVariant } from "@assetlane/client";

import { nameOf } from "./format.ts";

export type Kind = "picture" | "video" | "sound" | "document";

/** Types of pictures that every browser can show; of any other type its cuts are shown. */
const SHOWN = /^image\/(jpeg|png|gif|webp|avif|bmp)\b/;
const CUTS = ["small", "medium", "large"];

export function originalOf(asset: Asset): AssetVariant | undefined {
  return variantOf(asset, "original");
}

export function kindOfAsset(asset: Asset): Kind {
  const type = originalOf(asset)?.contentType ?? "";
  if (type.startsWith("video/")) return "video";
  if (type.startsWith("audio/")) return "sound";
  return pictureNames(asset).length ? "picture" : "document";
}

/** The variants that an `img` can show, smallest first. */
export function pictureNames(asset: Asset): string[] {
  const names = [...CUTS, "preview"].filter((name) => variantOf(asset, name));
  if (SHOWN.test(originalOf(asset)?.contentType ?? "")) names.push("original");
  return names;
}

/** The smallest variant whose longest edge is at least `edgePx`, or else the largest one. An original only when there is no other. */
export function pictureFor(asset: Asset, edgePx: number): string | undefined {
  const names = pictureNames(asset);
  const enough = names.find((name) => {
    const { widthPx = 0, heightPx = 0 } = variantOf(asset, name) ?? {};
    return Math.max(widthPx, heightPx) >= edgePx;
  });
  if (enough && enough !== "original") return enough;
  const cuts = names.filter((name) => name !== "original");
  return cuts.at(-1) ?? names.at(-1);
}

/** Width over height, as it is shown in the grid. */
export function aspectOfAsset(asset: Asset): number {
  const kind = kindOfAsset(asset);
  if (kind === "document") return 0.8;
  if (kind === "sound") return 1.7;
  const measured = asset.variants.find(({ widthPx, heightPx }) => widthPx > 0 && heightPx > 0);
  return measured ? measured.widthPx / measured.heightPx : kind === "video" ? 16 / 9 : 1;
}

export function colorOf(asset: Asset): string | undefined {
  const color = asset.details?.color ?? "";
  return /^#[0-9a-f]{6}$/i.test(color) ? color : undefined;
}

export function titleOf(asset: Asset): string {
  return asset.details?.title || nameOf(asset.filePath);
}

export function createdOf(asset: Asset): Date {
  return new Date(Number(asset.createTime?.seconds ?? 0n) * 1000);
}

export function secondsOf(asset: Asset): number | undefined {
  const duration = asset.details?.duration;
  return duration && Number(duration.seconds) + duration.nanos / 1e9;
}

/** What a screen reader reads out for a picture or video. */
export function labelOf(asset: Asset): string {
  return `${kindOfAsset(asset) === "video" ? "Video" : "Picture"} ${titleOf(asset)}, by ${asset.uid}`;
}
