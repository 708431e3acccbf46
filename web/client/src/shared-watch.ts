// One watch for all tabs of a browser. On HTTP/1.1 a host has six connections for all tabs together, and a watch keeps
// one of them for good. The tab that holds a Web Lock watches; the others receive what it does over a BroadcastChannel.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";

import type { Connection } from "./calls.js";
import { sha256 } from "./digest.js";
import { WatchAssetsResponseSchema } from "./gen/assetlane/v1/asset_service_pb.js";
import { WatchUploadResponseSchema } from "./gen/assetlane/v1/upload_service_pb.js";
import { claimsOf } from "./tokens.js";
import { AssetsCursor, follow, SessionCursor, type AssetEvent, type UploadEvent, type WatchOptions } from "./watch.js";

/** What a kind of watch needs to be shared. */
interface Kind<Event> {
  encode(event: Event): Uint8Array<ArrayBuffer>;
  decode(bytes: Uint8Array): Event | undefined;
  /** What the event is about, and its revision; undefined: it is not kept for tabs that come later. */
  place(event: Event): { key: string; revision: bigint } | undefined;
  /** A newer event with the same key replaces one that waits for a slow reader. */
  waitingKey(event: Event): string;
  /** Whether all events of a key are kept, or the newest. */
  readonly keepsAll: boolean;
  /** Whether the event means nothing to those who never saw its key. */
  isRemoval(event: Event): boolean;
  tokenOf(event: Event): string;
  /** Opens the watch itself, after what is known. */
  open(known: { token: string; revisions: Record<string, bigint> }, options: WatchOptions): AsyncGenerator<Event, void, void>;
}

interface Kept {
  readonly revision: bigint;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Events in one message: a tab decodes them in one task. */
const MOST_EVENTS = 50;

type Message =
  | { readonly kind: "hello" }
  | { readonly kind: "event"; readonly bytes: Uint8Array<ArrayBuffer> }
  /** What the leader knows, in one message or several: the token stands in the last one. */
  | { readonly kind: "snapshot"; readonly events: readonly Uint8Array<ArrayBuffer>[]; readonly token?: string };

/** A watch of a partition over all tabs of the user, or `alone` where that cannot be. */
export async function* shareAssets(connection: Connection, partition: string, shared: boolean | undefined, options: WatchOptions, alone: () => AsyncGenerator<AssetEvent, void, void>): AsyncGenerator<AssetEvent, void, void> {
  const name = await channelName(connection, `assets ${partition}`, shared);
  if (name === undefined) return yield* alone();
  const kind: Kind<AssetEvent> = {
    keepsAll: false,
    encode: ({ resumeToken, ...event }) => toBinary(WatchAssetsResponseSchema, create(WatchAssetsResponseSchema, { event: event as AssetEvent, resumeToken })),
    decode: (bytes) => {
      const { event, resumeToken } = fromBinary(WatchAssetsResponseSchema, bytes);
      return event.case === "asset" || event.case === "deleted" || event.case === "synced" ? ({ ...event, resumeToken } as AssetEvent) : undefined;
    },
    place: (event) => {
      if (event.case === "asset") return { key: event.value.asset?.assetId ?? "", revision: event.value.asset?.revision ?? 0n };
      if (event.case === "deleted") return { key: event.value.assetId, revision: event.value.revision };
      return { key: "synced", revision: 1n };
    },
    waitingKey: (event) => (event.case === "asset" ? (event.value.asset?.assetId ?? "") : event.case === "deleted" ? event.value.assetId : "synced"),
    isRemoval: (event) => event.case === "deleted",
    tokenOf: (event) => event.resumeToken,
    open: ({ token }, watch) => follow(connection, new AssetsCursor(partition, token), watch),
  };
  yield* share(name, kind, options);
}

/** A watch of a session over all tabs of the user, or `alone` where that cannot be. */
export async function* shareSession(connection: Connection, sessionId: string, shared: boolean | undefined, options: WatchOptions & { afterRevisions?: Readonly<Record<string, bigint>> }, alone: () => AsyncGenerator<UploadEvent, void, void>): AsyncGenerator<UploadEvent, void, void> {
  // Tabs that have seen different revisions have different things to catch up on.
  const name = options.afterRevisions ? undefined : await channelName(connection, `session ${sessionId}`, shared);
  if (name === undefined) return yield* alone();
  const kind: Kind<UploadEvent> = {
    keepsAll: true,
    encode: (event) => toBinary(WatchUploadResponseSchema, create(WatchUploadResponseSchema, { event })),
    decode: (bytes) => {
      const { event } = fromBinary(WatchUploadResponseSchema, bytes);
      return event.case === "status" || event.case === "progress" ? event : undefined;
    },
    place: (event) => (event.case === "status" ? { key: event.value.upload?.uploadId ?? "", revision: event.value.upload?.revision ?? 0n } : undefined),
    waitingKey: (event) => (event.case === "status" ? `${event.value.upload?.uploadId}/${event.value.upload?.revision}` : `${event.value.uploadId}/progress`),
    isRemoval: () => false,
    tokenOf: () => "",
    open: ({ revisions }, watch) => follow(connection, new SessionCursor(sessionId, revisions), watch),
  };
  yield* share(name, kind, options);
}

async function* share<Event>(name: string, kind: Kind<Event>, { signal, onGap }: WatchOptions): AsyncGenerator<Event, void, void> {
  if (signal?.aborted) return;
  const channel = new BroadcastChannel(name);
  const stop = new AbortController();
  const kept = new Map<string, Kept[]>();
  const waiting = new Map<string, Event>();
  let token = "";
  let isLeader = false;
  let failure: { readonly error: unknown } | undefined;
  let wake = () => {};

  const take = (bytes: Uint8Array<ArrayBuffer>, event = kind.decode(bytes)) => {
    if (event === undefined) return;
    const place = kind.place(event);
    if (place) {
      const earlier = kept.get(place.key) ?? [];
      if (place.revision <= (earlier.at(-1)?.revision ?? 0n)) return; // delivered by another tab already
      kept.set(place.key, [...(kind.keepsAll ? earlier : []), { revision: place.revision, bytes }]);
      if (kind.isRemoval(event) && earlier.length === 0) return;
    }
    waiting.set(kind.waitingKey(event), event);
    wake();
  };
  const postSnapshot = () => {
    const events = [...kept.values()].flatMap((of) => of.map(({ bytes }) => bytes));
    do {
      const some = events.splice(0, MOST_EVENTS);
      channel.postMessage({ kind: "snapshot", events: some, ...(events.length ? {} : { token }) } satisfies Message);
    } while (events.length);
  };

  channel.onmessage = ({ data }: MessageEvent<Message>) => {
    if (data.kind === "hello") {
      if (isLeader) postSnapshot();
    } else if (!isLeader) {
      // A tab may lead next: it goes on from the newest token whose events it has.
      for (const bytes of data.kind === "event" ? [data.bytes] : data.events) {
        const event = kind.decode(bytes);
        take(bytes, event);
        if (data.kind === "event" && event !== undefined && token) token = kind.tokenOf(event) || token;
      }
      if (data.kind === "snapshot" && data.token !== undefined) token = data.token;
    }
  };
  const lead = async () => {
    isLeader = true;
    postSnapshot(); // for tabs whose hello came while nobody led
    const revisions = Object.fromEntries([...kept].map(([key, events]) => [key, events.at(-1)?.revision ?? 0n]));
    for await (const event of kind.open({ token, revisions }, { signal: stop.signal, onGap })) {
      const bytes = kind.encode(event);
      channel.postMessage({ kind: "event", bytes } satisfies Message);
      token = kind.tokenOf(event) || token;
      take(bytes, event);
    }
  };
  const end = () => {
    stop.abort();
    wake();
  };
  signal?.addEventListener("abort", end, { once: true });
  channel.postMessage({ kind: "hello" } satisfies Message);
  navigator.locks.request(name, { signal: stop.signal }, lead).catch((error: unknown) => {
    if (!stop.signal.aborted) failure = { error };
    wake();
  });
  try {
    while (!stop.signal.aborted) {
      for (const [key, event] of waiting) {
        waiting.delete(key);
        yield event;
        if (stop.signal.aborted) return;
      }
      if (failure) throw failure.error;
      if (waiting.size === 0 && !stop.signal.aborted) await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    signal?.removeEventListener("abort", end);
    stop.abort();
    channel.close();
  }
}

/** A name that only the tabs of the same user, server and target have; undefined: the watch is not shared. */
async function channelName(connection: Connection, target: string, shared: boolean | undefined): Promise<string | undefined> {
  const canShare = globalThis.isSecureContext === true && typeof BroadcastChannel === "function" && typeof navigator?.locks?.request === "function";
  if (shared === false || !canShare) return undefined;
  let token: string | undefined;
  try {
    token = await connection.tokens.get();
  } catch {
    return undefined; // the watch itself tries again, and says why it cannot
  }
  const { iss, sub } = claimsOf(token) ?? {};
  let user = token === undefined ? "anybody" : typeof sub === "string" ? JSON.stringify([iss ?? "", sub]) : undefined;
  if (user === undefined && shared === true) user = hex(await sha256(new Blob([token ?? ""])));
  return user === undefined ? undefined : `assetlane ${connection.url} ${user} ${target}`;
}

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
