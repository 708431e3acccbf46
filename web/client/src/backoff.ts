// How long to wait before the next try: exponential with full jitter.

/** Delays that double from `firstMs` to `longestMs`; each is drawn between 0 and that. */
export class Backoff {
  #failures = 0;

  constructor(
    private readonly firstMs: number,
    private readonly longestMs: number,
    private readonly random: () => number = Math.random,
  ) {}

  /** Returns the milliseconds to wait after one more failure; never less than the other side asked for. */
  next(atLeastMs = 0): number {
    const ceiling = Math.min(this.longestMs, this.firstMs * 2 ** Math.min(this.#failures, 32));
    this.#failures += 1;
    return atLeastMs + this.random() * ceiling;
  }

  /** Something worked: the next failure waits shortly again. */
  reset(): void {
    this.#failures = 0;
  }
}

/** Waits; rejects with the signal's reason as soon as it aborts. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Waits for a while, or less when the browser comes back online. */
export async function sleepOrOnline(ms: number, signal?: AbortSignal): Promise<void> {
  if (typeof globalThis.addEventListener !== "function") return sleep(ms, signal);
  const online = new AbortController();
  const wake = () => online.abort(WOKEN);
  globalThis.addEventListener("online", wake, { once: true });
  try {
    await sleep(ms, anySignal([signal, online.signal]));
  } catch (error) {
    if (error !== WOKEN) throw error;
  } finally {
    globalThis.removeEventListener("online", wake);
  }
}

/** Whether the browser says that there is no network at all. */
export function isOffline(): boolean {
  return typeof navigator !== "undefined" && navigator.onLine === false;
}

/** Waits until the browser says that it is online. */
export async function untilOnline(signal?: AbortSignal): Promise<void> {
  while (isOffline()) await sleepOrOnline(LOOK_AGAIN_MS, signal);
}

const LOOK_AGAIN_MS = 5_000; // an event may have come before anybody listened
const WOKEN = new Error("online");

/** AbortSignal.any, which React Native does not have, of those that are given. */
export function anySignal(signals: readonly (AbortSignal | undefined)[]): AbortSignal {
  const given = signals.filter((signal) => signal !== undefined);
  if (typeof AbortSignal.any === "function") return AbortSignal.any(given);
  const controller = new AbortController();
  for (const signal of given) {
    if (signal.aborted) controller.abort(signal.reason);
    else signal.addEventListener("abort", () => controller.abort(signal.reason), { once: true, signal: controller.signal });
  }
  return controller.signal;
}
