// The uploads panel: every upload in progress, its bytes, its status at the server, and buttons to pause, resume, retry and cancel.

import { Outbox, UploadStatus, type Asset, type AssetlaneClient, type AssetlaneError, type OutboxEntry, type UploadEvent, type UploadProgress } from "@assetlane/client";
import { Check, ChevronDown, CircleAlert, Clock, Pause, Play, RotateCcw, X } from "lucide";

import { announce, eachFrame, fill, h, icon, iconButton } from "./dom.ts";
import { bytes, nameOf, Rate, timeLeft } from "./format.ts";
import type { Incoming } from "./intake.ts";

const STEPS = [UploadStatus.PENDING, UploadStatus.INITIALIZED, UploadStatus.UPLOADED, UploadStatus.COMPLETED];
const DONE_SHOWN_MS = 6_000;
const MOST_ROWS = 60;

type State = UploadProgress["state"] | "waiting" | "refused";

interface Row {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly element: HTMLLIElement;
  readonly rate: Rate;
  preview: string | undefined;
  state: State;
  sentBytes: number;
  totalBytes: number;
  uploadId: string;
  status: UploadStatus;
  note: string;
}

export interface Target {
  readonly partition: string;
  readonly isPublic: boolean;
}

export class Uploads {
  readonly element: HTMLElement;
  readonly #list = h("ol", { class: "upload-list" });
  readonly #title = h("span", { class: "uploads-title" });
  readonly #bar = h("div", { class: "uploads-bar" }, h("i"));
  readonly #rows = new Map<string, Row>();
  /** Entries that were cancelled here: later events of theirs do not bring their rows back. */
  readonly #cancelled = new Set<string>();
  /** Status of every upload of the session, as the server streams it. */
  readonly #statuses = new Map<string, UploadStatus>();
  #outbox: Outbox | undefined;
  #opened!: (outbox: Outbox | undefined) => void;
  /** The outbox once it is open; undefined where the browser cannot store one. */
  readonly #opening = new Promise<Outbox | undefined>((resolve) => (this.#opened = resolve));
  readonly #draw = eachFrame(() => this.#drawNow());

  constructor(
    private readonly client: AssetlaneClient,
    private readonly user: string,
    private readonly onAsset: (asset: Asset) => void,
  ) {
    const toggle = h("button", { type: "button", class: "uploads-toggle", "aria-expanded": "true", onclick: () => {
      const isOpen = toggle.getAttribute("aria-expanded") !== "true";
      toggle.setAttribute("aria-expanded", String(isOpen));
      this.#list.hidden = !isOpen;
    } }, this.#title, icon(ChevronDown, 18));
    this.element = h("section", { class: "uploads", "aria-label": "Uploads", hidden: true }, h("header", {}, toggle), this.#bar, this.#list);
    setInterval(() => {
      if (this.isBusy) this.#draw(); // the time left is counted down
    }, 1_000);
  }

  /** Whether an upload is in progress here. */
  get isBusy(): boolean {
    return [...this.#rows.values()].some(({ state }) => state !== "completed" && state !== "refused" && state !== "cancelled");
  }

  /** Opens the outbox and continues with what is in it. */
  async start(): Promise<void> {
    try {
      this.#outbox = await Outbox.open(this.client, {
        user: this.user,
        database: "assetlane-gallery",
        parallel: 2,
        onChange: () => void this.#sync(),
        onProgress: (entry, progress) => this.#onProgress(entry, progress),
        onCompleted: (entry, asset) => this.#onCompleted(entry, asset),
        onFailed: (entry, error, willRetry) => this.#onFailed(entry, error, willRetry),
      });
    } finally {
      this.#opened(this.#outbox);
    }
    await this.#sync();
  }

  /** Watches the uploads of this session at the server, until the signal aborts. */
  async follow(signal: AbortSignal): Promise<void> {
    for await (const event of this.client.watchSession(this.client.sessionId, { signal })) this.#onEvent(event);
  }

  /** Uploads files. They are stored in the browser until they have arrived. */
  async add(files: readonly Incoming[], { partition, isPublic }: Target): Promise<void> {
    announce(files.length === 1 ? `Uploading ${files[0]?.path}` : `Uploading ${files.length} files`);
    // A file that is added right after the page was opened waits until the outbox is open.
    const outbox = await this.#opening;
    for (const { file, path } of files) {
      const options = { filePath: path, partition, ...(isPublic ? { expirationHours: 0 } : {}) };
      if (!outbox) {
        this.#sendWithoutOutbox(file, path, options);
        continue;
      }
      try {
        await outbox.add(file, options);
      } catch (error) {
        // The browser cannot store it: it is uploaded as long as the page is open.
        if (!(error instanceof DOMException)) throw error;
        this.#sendWithoutOutbox(file, path, options);
      }
    }
  }

  #sendWithoutOutbox(file: File, path: string, options: { filePath: string; partition: string; expirationHours?: number }): void {
    const row = this.#row(crypto.randomUUID(), path, file);
    const task = this.client.upload(file, { ...options, onProgress: (progress) => this.#take(row, progress) });
    task.asset.then(
      (asset) => this.#done(row, asset),
      (error: AssetlaneError) => this.#failed(row, error, false),
    );
  }

  async #sync(): Promise<void> {
    const entries = (await this.#outbox?.entries()) ?? [];
    for (const entry of entries) {
      if (this.#cancelled.has(entry.id)) continue;
      const row = this.#rows.get(entry.id) ?? this.#row(entry.id, entry.options.filePath ?? entry.name, entry.file);
      if (entry.failure) this.#failed(row, entry.failure, false);
      else if (row.state === "refused") Object.assign(row, { state: "waiting", note: "", sentBytes: 0 });
    }
    const kept = new Set(entries.map(({ id }) => id));
    for (const row of this.#rows.values()) {
      // Another tab has sent or removed it.
      if (!kept.has(row.id) && (row.state === "waiting" || row.state === "refused")) this.#remove(row);
    }
    this.#draw();
  }

  #onProgress(entry: OutboxEntry, progress: UploadProgress): void {
    if (this.#cancelled.has(entry.id)) return;
    this.#take(this.#rows.get(entry.id) ?? this.#row(entry.id, entry.options.filePath ?? entry.name, entry.file), progress);
  }

  #take(row: Row, progress: UploadProgress): void {
    if (row.state === "cancelled" || row.state === "completed") return;
    // A failure comes with its error, in #onFailed: the outbox may retry it.
    if (progress.state !== "failed" && progress.state !== "completed") row.state = progress.state;
    row.sentBytes = progress.sentBytes;
    row.totalBytes = progress.sizeBytes;
    row.uploadId = progress.uploadId;
    row.status = Math.max(this.#statuses.get(progress.uploadId) ?? 0, progress.status);
    if (progress.state === "sending") row.note = "";
    row.rate.add(progress.sentBytes, performance.now());
    this.#draw();
  }

  #onEvent(event: UploadEvent): void {
    if (event.case !== "status" || !event.value.upload) return;
    const { uploadId, status } = event.value.upload;
    this.#statuses.set(uploadId, status);
    for (const row of this.#rows.values()) {
      if (row.uploadId === uploadId) row.status = status;
    }
    this.#draw();
  }

  #onCompleted(entry: OutboxEntry, asset: Asset): void {
    const row = this.#rows.get(entry.id);
    if (row) this.#done(row, asset);
  }

  #done(row: Row, asset: Asset): void {
    row.state = "completed";
    row.status = UploadStatus.COMPLETED;
    row.sentBytes = row.totalBytes;
    row.note = asset.notices[0]?.message ?? "";
    announce(`${nameOf(row.name)} has arrived`);
    this.onAsset(asset);
    this.#draw();
    setTimeout(() => this.#remove(row), DONE_SHOWN_MS);
  }

  #onFailed(entry: OutboxEntry, error: AssetlaneError, willRetry: boolean): void {
    const row = this.#rows.get(entry.id);
    if (row) this.#failed(row, error, willRetry);
  }

  #failed(row: Row, error: { reason: string; message: string }, willRetry: boolean): void {
    if (row.state === "cancelled" || error.reason === "CANCELLED") return this.#remove(row);
    row.state = willRetry ? "waiting" : "refused";
    row.note = willRetry ? `Will be retried: ${error.message}` : `${error.reason}: ${error.message}`;
    if (!willRetry) announce(`${nameOf(row.name)} could not be uploaded`);
    this.#draw();
  }

  #row(id: string, name: string, file: Blob): Row {
    const preview = /^image\/(jpeg|png|gif|webp|avif|svg)/.test(file.type) && file.size < 40_000_000 ? URL.createObjectURL(file) : undefined;
    const row: Row = {
      id, name, sizeBytes: file.size, element: h("li", { class: "upload", "data-upload": id }), rate: new Rate(), preview,
      state: "waiting", sentBytes: 0, totalBytes: file.size, uploadId: "", status: UploadStatus.UNSPECIFIED, note: "",
    };
    build(row, {
      pause: () => this.#outbox?.pause(id),
      resume: () => this.#outbox?.resume(id),
      retry: () => void this.#outbox?.retry(id),
      cancel: () => {
        row.state = "cancelled";
        this.#cancelled.add(id);
        this.#remove(row);
        void this.#outbox?.remove(id);
      },
    });
    this.#rows.set(id, row);
    return row;
  }

  #remove(row: Row): void {
    if (!this.#rows.delete(row.id)) return;
    if (row.preview) URL.revokeObjectURL(row.preview);
    row.element.remove();
    this.#draw();
  }

  #drawNow(): void {
    const rows = [...this.#rows.values()];
    this.element.hidden = rows.length === 0;
    if (!rows.length) return;
    const active = rows.filter(({ state }) => state !== "completed" && state !== "refused");
    const refused = rows.filter(({ state }) => state === "refused").length;
    const total = rows.reduce((sum, { totalBytes }) => sum + totalBytes, 0);
    const sent = rows.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
    this.#title.textContent = active.length
      ? `Uploading ${active.length} ${active.length === 1 ? "file" : "files"}`
      : refused
        ? `${refused} not uploaded`
        : `${rows.length} uploaded`;
    this.#bar.querySelector("i")?.style.setProperty("--share", String(total ? sent / total : 0));
    // Uploads in progress come first; of many, only the first ones are shown.
    const order: Record<string, number> = { sending: 0, completing: 0, requesting: 0, preparing: 1, paused: 1, refused: 2, waiting: 3, completed: 4 };
    rows.sort((one, other) => (order[one.state] ?? 9) - (order[other.state] ?? 9));
    let before: Element | null = this.#list.firstElementChild;
    for (const row of rows.slice(0, MOST_ROWS)) {
      update(row);
      if (row.element === before) before = before.nextElementSibling;
      else if (!row.element.isConnected || !this.#list.contains(document.activeElement)) this.#list.insertBefore(row.element, before);
    }
    for (const row of rows.slice(MOST_ROWS)) row.element.remove();
  }
}

function build(row: Row, act: { pause: () => void; resume: () => void; retry: () => void; cancel: () => void }): void {
  const name = nameOf(row.name);
  const thumbnail = h("span", { class: "upload-thumbnail" });
  if (row.preview) thumbnail.append(h("img", { src: row.preview, alt: "", decoding: "async" }));
  const steps = STEPS.map((step) => h("li", { "data-step": UploadStatus[step] }, UploadStatus[step] ?? ""));
  row.element.append(
    thumbnail,
    h("div", { class: "upload-body" },
      h("div", { class: "upload-name", title: row.name }, name),
      h("progress", { max: "1", value: "0", "aria-label": `Upload of ${name}` }),
      h("div", { class: "upload-facts" }),
    ),
    h("div", { class: "upload-buttons" },
      iconButton(`Pause ${name}`, Pause, act.pause, "icon-button small do-pause"),
      iconButton(`Resume ${name}`, Play, act.resume, "icon-button small do-resume"),
      iconButton(`Try ${name} again`, RotateCcw, act.retry, "icon-button small do-retry"),
      iconButton(`Cancel ${name}`, X, act.cancel, "icon-button small do-cancel"),
      h("span", { class: "upload-mark" }),
    ),
    h("ol", { class: "upload-steps", "aria-label": "Status" }, ...steps),
  );
  update(row);
}

function update(row: Row): void {
  const { element, state } = row;
  if (element.dataset["state"] !== state) {
    element.dataset["state"] = state;
    const mark = element.querySelector(".upload-mark");
    if (mark) fill(mark, state === "completed" ? icon(Check, 18) : state === "refused" ? icon(CircleAlert, 18) : state === "waiting" ? icon(Clock, 16) : null);
  }
  const progress = element.querySelector("progress");
  if (progress) progress.value = row.totalBytes ? row.sentBytes / row.totalBytes : state === "completed" ? 1 : 0;
  const facts = element.querySelector(".upload-facts");
  const text = factsOf(row);
  if (facts && facts.textContent !== text) facts.textContent = text;
  for (const step of element.querySelectorAll<HTMLElement>("[data-step]")) {
    const value = UploadStatus[step.dataset["step"] as keyof typeof UploadStatus];
    const isNow = value === row.status;
    step.classList.toggle("is-reached", row.status >= value && row.status <= UploadStatus.COMPLETED);
    if (isNow !== step.hasAttribute("aria-current")) {
      if (isNow) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    }
  }
}

function factsOf(row: Row): string {
  const of = `${bytes(row.sentBytes)} of ${bytes(row.totalBytes)}`;
  switch (row.state) {
    case "waiting":
      return row.note || (navigator.onLine ? "Waiting" : "Waiting for the network");
    case "preparing":
      return `${bytes(row.sizeBytes)} · making cuts and checksums`;
    case "requesting":
      return `${bytes(row.totalBytes)} · requesting the upload`;
    case "paused":
      return `Paused at ${of}`;
    case "completing":
      return `${bytes(row.totalBytes)} · being checked`;
    case "completed":
      return row.note ? `${bytes(row.totalBytes)} · ${row.note}` : `${bytes(row.totalBytes)} · arrived`;
    case "sending": {
      if (!navigator.onLine) return `${of} · waiting for the network`;
      const rate = row.rate.perSecond(performance.now());
      return rate > 0 ? `${of} · ${bytes(Math.round(rate))}/s · ${timeLeft((row.totalBytes - row.sentBytes) / rate)}` : of;
    }
    default:
      return row.note;
  }
}
