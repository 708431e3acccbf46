// What an upload promises: the file, its cuts, their types, lengths and SHA-256s. Plain data that IndexedDB can keep.

import { sha256 } from "./digest.js";
import { mediaTypeOf } from "./media-types.js";
import { canCut, cutsOf, stillOf, STANDARD_CUTS, type CutSize, type Looks } from "./pictures.js";

/** Who makes the cuts of a picture. `auto`: the canvas where there is one that reads the picture, otherwise the server. */
export type CutsBy = "auto" | "canvas" | "server" | "none";

export interface PrepareOptions {
  /** Default: the type of the file, corrected by its first bytes. */
  readonly contentType?: string | undefined;
  /** Default: `auto`. */
  readonly cuts?: CutsBy | undefined;
  /** Which cuts. Default: `small` 300, `medium` 600, `large` 900 pixels on the longest side. */
  readonly cutSizes?: readonly CutSize[] | undefined;
  /** Whether the upload fails when the server cannot make the cuts. Default: false. */
  readonly cutsRequired?: boolean | undefined;
  /** Whether the SHA-256 of every byte is promised, so that the store refuses others. Default: true. */
  readonly checksums?: boolean | undefined;
}

export interface PreparedVariant {
  readonly name: string;
  readonly contentType: string;
  readonly body: Blob;
  readonly sha256?: Uint8Array<ArrayBuffer>;
  readonly widthPx: number;
  readonly heightPx: number;
}

export interface Prepared {
  readonly variants: readonly PreparedVariant[];
  /** Sizes of the cuts that the server is asked for. Empty: none. */
  readonly serverCuts: readonly CutSize[];
  readonly cutsRequired: boolean;
  readonly checksums: boolean;
  readonly color: string;
  readonly durationS?: number;
  readonly notices: readonly { readonly reason: string; readonly message: string }[];
}

/** Looks at a file, makes its cuts and hashes all of it. Throws FILE_UNREADABLE, and the signal's reason. */
export async function prepare(file: Blob, options: PrepareOptions = {}, signal?: AbortSignal): Promise<Prepared> {
  const { cuts = "auto", cutSizes = STANDARD_CUTS, cutsRequired = false, checksums = true } = options;
  const contentType = options.contentType ?? (await mediaTypeOf(file, file.type));
  const isPicture = contentType.startsWith("image/");
  const isVideo = contentType.startsWith("video/");
  const notices: { reason: string; message: string }[] = [];
  let serverCuts: readonly CutSize[] = cuts === "server" && isPicture ? cutSizes : [];
  let looks: Looks | undefined;
  if (isPicture && (cuts === "canvas" || cuts === "auto")) {
    try {
      // A canvas shows the first picture of an animation, as the server's cuts do.
      if (canCut()) looks = await cutsOf(file, cutSizes);
      else if (cuts === "auto") serverCuts = cutSizes;
      else notices.push({ reason: "CUTS_UNSUPPORTED", message: "This platform has no canvas to make cuts with." });
    } catch (error) {
      // A kind that this browser does not read, such as HEIC, may be one that the server does.
      if (cuts === "auto") serverCuts = cutSizes;
      else notices.push({ reason: "IMAGE_UNRECOGNIZED", message: sentence("The browser could not read the picture", error) });
    }
  } else if (isVideo && (cuts === "canvas" || cuts === "auto") && canCut() && typeof document !== "undefined") {
    try {
      looks = await stillOf(file, cutSizes);
    } catch (error) {
      notices.push({ reason: "VIDEO_UNRECOGNIZED", message: sentence("The browser could not play the video", error) });
    }
  }
  const unhashed = [
    { name: "original", contentType, body: file, widthPx: looks?.widthPx ?? 0, heightPx: looks?.heightPx ?? 0 },
    ...(looks?.cuts ?? []).map(({ name, blob, widthPx, heightPx }) => ({ name, contentType: blob.type, body: blob, widthPx, heightPx })),
  ];
  const variants: PreparedVariant[] = [];
  for (const variant of unhashed) {
    variants.push(checksums ? { ...variant, sha256: await sha256(variant.body, signal) } : variant);
  }
  const durationS = looks?.durationS;
  return { variants, serverCuts, cutsRequired, checksums, color: looks?.color ?? "", notices, ...(durationS === undefined ? {} : { durationS }) };
}

function sentence(what: string, error: unknown): string {
  return `${what}: ${error instanceof Error ? error.message : String(error)}`.slice(0, 500);
}
