// Work that could fill seconds, in tasks of a few milliseconds: a page goes on painting and answering meanwhile.

/** How long a task may be by the time that it gives way. */
const SLICE_MS = 8;

export class TimeSlices {
  #endMs = 0;

  /** Whether the task that runs has taken its time. */
  get isOver(): boolean {
    return performance.now() >= this.#endMs;
  }

  /** Goes on in a task of its own, after what else waits. */
  async next(): Promise<void> {
    const { scheduler } = globalThis as { scheduler?: { yield?: () => Promise<void> } };
    if (scheduler?.yield) await scheduler.yield();
    else await new Promise<void>((resolve) => setTimeout(resolve));
    this.#endMs = performance.now() + SLICE_MS;
  }
}
