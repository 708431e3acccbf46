// An uploader for Uppy: Dashboard, Golden Retriever and the rest stay, the files go into Assetlane.

import { AssetlaneError, hasReason, newRequestId, type Asset, type AssetlaneClient, type UploadOptions, type UploadTask } from "@assetlane/client";
import { BasePlugin, type Body, type Meta, type PluginOpts, type Uppy, type UppyFile } from "@uppy/core";

export interface AssetlaneUppyOptions<M extends Meta> extends PluginOpts {
  readonly client: AssetlaneClient;
  /** Options of each upload, such as its partition, or what makes them of a file. */
  readonly upload?: AssetlaneUploadOptions | ((file: { readonly name: string; readonly meta: M }) => AssetlaneUploadOptions) | undefined;
  /** How many files are under way at once. Default: 2. */
  readonly parallelFiles?: number | undefined;
}

export type AssetlaneUploadOptions = Omit<UploadOptions, "onProgress" | "signal" | "requestId">;

/** What `upload-success` has as `response.body`. */
export interface AssetlaneBody extends Body {
  assetId: string;
  asset: Asset;
}

/** Kept with the file by Golden Retriever: a second try, also after a reload, goes on with the same upload. */
const REQUEST = "assetlaneRequest";

export default class AssetlaneUploader<M extends Meta = Meta> extends BasePlugin<AssetlaneUppyOptions<M>, M, AssetlaneBody> {
  constructor(uppy: Uppy<M, AssetlaneBody>, options: AssetlaneUppyOptions<M>) {
    super(uppy, options);
    this.type = "uploader";
    this.id = options.id ?? "Assetlane";
  }

  override install(): void {
    this.#setResumable(true);
    this.uppy.on("file-added", this.#name);
    this.uppy.addUploader(this.#uploadAll);
  }

  override uninstall(): void {
    this.#setResumable(false);
    this.uppy.off("file-added", this.#name);
    this.uppy.removeUploader(this.#uploadAll);
  }

  #setResumable(resumableUploads: boolean): void {
    const { capabilities } = this.uppy.getState();
    this.uppy.setState({ capabilities: { ...capabilities, resumableUploads, individualCancellation: true } });
  }

  /** Before the upload begins: Golden Retriever takes half a second to keep it. */
  readonly #name = (file: UppyFile<M, AssetlaneBody>): void => void this.#requestOf(file);

  /** Returns the request of a file, which it has from then on: with one, a part at a time is under way. */
  #requestOf(file: UppyFile<M, AssetlaneBody>): string {
    const known: unknown = (file.meta as Record<string, unknown>)[REQUEST];
    if (typeof known === "string") return known;
    const requestId = newRequestId();
    this.uppy.setFileMeta(file.id, { [REQUEST]: requestId } as unknown as M);
    return requestId;
  }

  readonly #uploadAll = async (ids: string[]): Promise<void> => {
    // Golden Retriever shows files whose bytes it could not keep: they have no data until they are picked again.
    const files = ids.map((id) => this.uppy.getFile(id)).filter((file) => file?.data && !file.error && !file.isGhost && !file.progress.uploadComplete);
    this.uppy.emit("upload-start", files);
    const queue = [...files];
    const next = async () => {
      for (let file = queue.shift(); file; file = queue.shift()) await this.#uploadOne(file);
    };
    await Promise.all(Array.from({ length: this.opts.parallelFiles ?? 2 }, next));
  };

  async #uploadOne(file: UppyFile<M, AssetlaneBody>): Promise<void> {
    const { client, upload = {} } = this.opts;
    const current = () => this.uppy.getFile(file.id);
    if (!current()) return; // removed while it waited
    const given = typeof upload === "function" ? upload({ name: file.name ?? "", meta: file.meta }) : upload;
    const requestId = this.#requestOf(file);
    const started = Date.now();
    const { data } = file;
    if (!(data instanceof Blob)) return;
    const task: UploadTask = client.upload(data, {
      filePath: file.name || undefined,
      title: file.name || undefined,
      ...given,
      requestId,
      onProgress: ({ sentBytes, sizeBytes }) => {
        // Of the file: its cuts are not what Uppy shows.
        const bytesTotal = data.size;
        const bytesUploaded = sizeBytes > 0 ? Math.round((sentBytes / sizeBytes) * bytesTotal) : 0;
        const shown = current();
        if (shown) this.uppy.emit("upload-progress", shown, { uploadStarted: started, bytesUploaded, bytesTotal });
      },
    });
    const stopListening = this.#listen(file.id, task);
    try {
      const asset = await task.asset;
      const shown = current();
      const uploadURL = await client.readUrl(asset);
      if (shown) this.uppy.emit("upload-success", shown, { status: 200, uploadURL, body: { assetId: asset.assetId, asset } });
    } catch (error) {
      const shown = current();
      if (hasReason(error, "CANCELLED") || !shown) return;
      // What the server has given up is a new upload at the next try.
      if (error instanceof AssetlaneError && !error.isTemporary) this.uppy.setFileMeta(file.id, { [REQUEST]: undefined } as unknown as M);
      this.uppy.emit("upload-error", shown, error as Error);
    } finally {
      stopListening();
    }
  }

  /** Pause, resume and cancel of Uppy are those of the upload. */
  #listen(id: string, task: UploadTask): () => void {
    const cancel = () => {
      task.cancel().catch((error: unknown) => this.uppy.log(error instanceof Error ? error.message : String(error), "warning"));
    };
    const onPause = (file: UppyFile<M, AssetlaneBody> | undefined, isPaused: boolean) => {
      if (file?.id === id) (isPaused ? pause : resume)();
    };
    const onRemoved = (file: UppyFile<M, AssetlaneBody>) => {
      if (file.id === id) cancel();
    };
    const pause = () => task.pause();
    const resume = () => task.resume();
    this.uppy.on("upload-pause", onPause);
    this.uppy.on("pause-all", pause);
    this.uppy.on("resume-all", resume);
    this.uppy.on("file-removed", onRemoved);
    this.uppy.on("cancel-all", cancel);
    if (this.uppy.getFile(id)?.isPaused) pause();
    return () => {
      this.uppy.off("upload-pause", onPause);
      this.uppy.off("pause-all", pause);
      this.uppy.off("resume-all", resume);
      this.uppy.off("file-removed", onRemoved);
      this.uppy.off("cancel-all", cancel);
    };
  }
}
