// Pure functions that format sizes, times and names.

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

/** `1.4 MB`: three digits at most. */
export function bytes(count: number | bigint): string {
  let value = Number(count);
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.5 ? 0 : value >= 9.95 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${UNITS[unit]}`;
}

/** `1:02:03`, `0:07`. */
export function playingTime(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const tail = `${String(rest).padStart(2, "0")}`;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

/** `about 4 s`, `about 3 min`: the time that is left. */
export function timeLeft(seconds: number): string {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 60) return `${Math.max(1, Math.ceil(seconds))} s left`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min left`;
  return `${Math.ceil(seconds / 3600)} h left`;
}

/** The last part of a path. */
export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** `PDF`, `DOCX`: the extension of a name, or else the end of its type. */
export function kindOf(name: string, type: string): string {
  const ending = /\.([A-Za-z0-9]{1,5})$/.exec(name)?.[1];
  return (ending ?? type.split("/").at(-1)?.split(/[;+.-]/).at(-1) ?? "").slice(0, 5).toUpperCase() || "FILE";
}

/** `Today`, `Yesterday`, `Thursday, 26 November 2026`: the heading above what was created on that day. */
export function dayOf(date: Date, now: Date): string {
  const midnight = (day: Date) => new Date(day.getFullYear(), day.getMonth(), day.getDate()).getTime();
  const days = Math.round((midnight(now) - midnight(date)) / 86_400_000);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return LONG_DAY.format(date);
}

const LONG_DAY = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

/** `26 Nov 2026, 23:30`. */
export function moment(date: Date): string {
  return MOMENT.format(date);
}

/** A path that the server accepts: relative, normalised, no control characters, no empty parts. */
export function cleanPath(path: string): string {
  const parts = path
    .normalize("NFC")
    .replaceAll("\\", "_")
    .replace(/\p{Cc}/gu, "_")
    .split("/")
    .filter((part) => part !== "" && part !== "." && part !== "..");
  return parts.join("/") || "unnamed";
}

/** The rate at which a counter rises, over the last seconds. */
export class Rate {
  readonly #samples: { atMs: number; count: number }[] = [];

  constructor(private readonly windowMs = 4_000) {}

  add(count: number, atMs: number): void {
    const last = this.#samples.at(-1);
    if (last && count < last.count) this.#samples.length = 0; // the attempt was repeated
    this.#samples.push({ atMs, count });
    while (this.#samples.length > 2 && atMs - (this.#samples[0]?.atMs ?? 0) > this.windowMs) this.#samples.shift();
  }

  /** Counts per second; 0 as long as it is not known. */
  perSecond(nowMs: number): number {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (!first || !last) return 0;
    const spanMs = Math.max(last.atMs, nowMs) - first.atMs;
    return spanMs < 250 ? 0 : ((last.count - first.count) * 1000) / spanMs;
  }
}
