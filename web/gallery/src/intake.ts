// Files that the user adds: dropped, pasted or picked, alone or in folders.

import { cleanPath } from "./format.ts";

export interface Incoming {
  readonly file: File;
  /** Its path within the folder that was dropped or picked, or its name. */
  readonly path: string;
}

const MOST_FILES = 10_000;

/** Calls back with everything that is dropped on the page or pasted into it. */
export function acceptFiles(onFiles: (files: Incoming[]) => void, onHover: (isOver: boolean) => void): void {
  let depth = 0;
  const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth += 1;
    onHover(true);
  });
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    depth = Math.max(0, depth - 1);
    if (depth === 0) onHover(false);
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event) || !event.dataTransfer) return;
    event.preventDefault();
    depth = 0;
    onHover(false);
    void dropped(event.dataTransfer).then(onFiles);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length || isField(event.target)) return;
    event.preventDefault();
    onFiles(files.map((file) => ({ file, path: cleanPath(pastedName(file, new Date())) })));
  });
}

export function picked(files: Iterable<File>): Incoming[] {
  return [...files].map((file) => ({ file, path: cleanPath(file.webkitRelativePath || file.name) }));
}

/** Returns every file that was dropped; those in folders have their paths. */
async function dropped(transfer: DataTransfer): Promise<Incoming[]> {
  // Both lists are empty as soon as the event has been handled.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => !!entry);
  const files = picked(transfer.files);
  if (!entries.some((entry) => entry.isDirectory)) return files;
  const found: Incoming[] = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry: FileSystemEntry, found: Incoming[]): Promise<void> {
  if (found.length >= MOST_FILES) return;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    found.push({ file, path: cleanPath(entry.fullPath) });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // A hundred at a time in Chromium; an empty list is the end.
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return;
    for (const one of entries) await walk(one, found);
  }
}

/** Browsers call every pasted picture `image.png`. */
function pastedName(file: File, now: Date): string {
  return /^image\.\w+$/.test(file.name) ? `pasted ${stamp(now)}.${file.name.split(".").at(-1)}` : file.name;
}

/** `2026-11-26 23.30.05`. */
export function stamp(now: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())} ${two(now.getHours())}.${two(now.getMinutes())}.${two(now.getSeconds())}`;
}

function isField(target: EventTarget | null): boolean {
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;
}
