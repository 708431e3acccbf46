// Cuts of pictures and stills of videos, by what the browser brings: canvas and <video>.

/** A cut to make: its name, and the length of its longest side. */
export interface CutSize {
  readonly name: string;
  readonly maxEdgePx: number;
}

export const STANDARD_CUTS: readonly CutSize[] = [
  { name: "small", maxEdgePx: 300 },
  { name: "medium", maxEdgePx: 600 },
  { name: "large", maxEdgePx: 900 },
];

/** A smaller picture that is stored beside the original. */
export interface Cut {
  readonly name: string;
  readonly blob: Blob;
  readonly widthPx: number;
  readonly heightPx: number;
}

/** What was seen of a picture or video: measures as shown, its average colour as `#rrggbb`, and what goes beside it. */
export interface Looks {
  readonly widthPx: number;
  readonly heightPx: number;
  readonly color: string;
  readonly cuts: readonly Cut[];
  readonly durationS?: number;
}

const QUALITY = 0.85;
const STILL_LIMIT_MS = 20_000;

/** Whether this platform can make cuts: browsers and their workers can, Node and React Native cannot. */
export function canCut(): boolean {
  return typeof createImageBitmap === "function" && typeof OffscreenCanvas === "function";
}

/** The measures of a cut: never enlarged, no side below one pixel. */
export function measures(width: number, height: number, maxEdgePx: number): { widthPx: number; heightPx: number } {
  const scale = Math.min(1, maxEdgePx / Math.max(width, height));
  return { widthPx: Math.max(1, Math.round(width * scale)), heightPx: Math.max(1, Math.round(height * scale)) };
}

/** All sizes smaller than the picture, and then, once, the next one at the picture's own measure. */
export function sizesFor(width: number, height: number, sizes: readonly CutSize[]): CutSize[] {
  const ascending = [...sizes].sort((one, other) => one.maxEdgePx - other.maxEdgePx);
  const last = ascending.findIndex(({ maxEdgePx }) => maxEdgePx >= Math.max(width, height));
  return last < 0 ? ascending : ascending.slice(0, last + 1);
}

/**
 * Makes the cuts of a picture. The browser applies its EXIF orientation, and leaves everything but pixels behind.
 * Throws when it cannot read the picture.
 */
export async function cutsOf(picture: Blob, sizes: readonly CutSize[] = STANDARD_CUTS): Promise<Looks> {
  const bitmap = await createImageBitmap(picture);
  try {
    return await looksOf(bitmap, bitmap.width, bitmap.height, picture.type, sizes);
  } finally {
    bitmap.close();
  }
}

/** Makes the `preview` of a video and its cuts. Throws when the browser cannot play it. */
export async function stillOf(file: Blob, sizes: readonly CutSize[] = STANDARD_CUTS): Promise<Looks> {
  const video = document.createElement("video");
  const url = URL.createObjectURL(file);
  const limit = AbortSignal.timeout(STILL_LIMIT_MS);
  try {
    Object.assign(video, { muted: true, playsInline: true, preload: "auto" });
    const loaded = happened(video, "loadeddata", limit);
    video.src = url;
    await loaded;
    const duration = video.duration;
    const sought = happened(video, "seeked", limit);
    video.currentTime = Number.isFinite(duration) ? Math.min(1, duration / 3) : 0;
    await sought;
    const { videoWidth: width, videoHeight: height } = video;
    if (!width || !height) throw new Error("it has no pictures");
    const canvas = drawn(video, width, height);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
    const looks = await looksOf(canvas, width, height, "image/jpeg", sizes);
    const preview: Cut = { name: "preview", blob, widthPx: width, heightPx: height };
    return { ...looks, cuts: [preview, ...looks.cuts], ...(Number.isFinite(duration) ? { durationS: duration } : {}) };
  } finally {
    video.removeAttribute("src");
    video.load(); // gives the decoder back
    URL.revokeObjectURL(url);
  }
}

async function looksOf(source: ImageBitmap | OffscreenCanvas, width: number, height: number, type: string, sizes: readonly CutSize[]): Promise<Looks> {
  // From large to small, each from the one before: the whole picture is scaled once.
  let from: ImageBitmap | OffscreenCanvas = source;
  const canvases = sizesFor(width, height, sizes)
    .reverse()
    .map(({ name, maxEdgePx }) => {
      const { widthPx, heightPx } = measures(width, height, maxEdgePx);
      const canvas: OffscreenCanvas = drawn(from, widthPx, heightPx);
      from = canvas;
      return { name, canvas, widthPx, heightPx };
    })
    .reverse();
  const isTransparent = type !== "image/jpeg" && hasAlpha(canvases[0]?.canvas);
  const format = !isTransparent ? "image/jpeg" : /^image\/(webp|avif|heic)/.test(type) ? "image/webp" : "image/png";
  const cuts: Cut[] = [];
  for (const { name, canvas, widthPx, heightPx } of canvases) {
    cuts.push({ name, blob: await canvas.convertToBlob({ type: format, quality: QUALITY }), widthPx, heightPx });
  }
  return { widthPx: width, heightPx: height, color: averageOf(from), cuts };
}

function drawn(source: CanvasImageSource, width: number, height: number): OffscreenCanvas {
  const canvas = new OffscreenCanvas(width, height);
  const context = contextOf(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return canvas;
}

function contextOf(canvas: OffscreenCanvas): OffscreenCanvasRenderingContext2D {
  const context = canvas.getContext("2d");
  if (!context) throw new Error(`no canvas of ${canvas.width} x ${canvas.height} pixels`);
  return context;
}

function hasAlpha(canvas: OffscreenCanvas | undefined): boolean {
  if (!canvas) return false;
  const { data } = contextOf(canvas).getImageData(0, 0, canvas.width, canvas.height);
  for (let index = 3; index < data.length; index += 4) if (data[index] !== 255) return true;
  return false;
}

function averageOf(source: CanvasImageSource): string {
  const { data } = contextOf(drawn(source, 1, 1)).getImageData(0, 0, 1, 1);
  return `#${[...data.slice(0, 3)].map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

function happened(video: HTMLVideoElement, event: string, limit: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    video.addEventListener(event, () => resolve(), { once: true });
    video.addEventListener("error", () => reject(new Error(video.error?.message || "it cannot be played")), { once: true });
    limit.addEventListener("abort", () => reject(new Error(`no ${event} within ${STILL_LIMIT_MS / 1000} s`)), { once: true });
  });
}
