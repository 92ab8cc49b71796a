// Notifies subscribers at most once per frame, and never later than a bound.

/** Milliseconds after a change by which subscribers know of it, also in a hidden tab, which draws no frames. */
export const LATEST = 100;

/** A set of listeners that are called together, once for all changes since the last call. */
export class Listeners {
  readonly #listeners = new Set<() => void>();
  readonly #flushed: () => void;
  #cancel: (() => void) | null = null;

  /** @param flushed called before the listeners, to publish a new snapshot */
  constructor(flushed: () => void) {
    this.#flushed = flushed;
  }

  get size(): number {
    return this.#listeners.size;
  }

  add(listener: () => void): void {
    this.#listeners.add(listener);
  }

  delete(listener: () => void): void {
    this.#listeners.delete(listener);
  }

  /** Call the listeners at the next frame. */
  schedule(): void {
    this.#cancel ??= nextFrame(() => {
      this.flush();
    });
  }

  /** Call the listeners now. An exception of one does not keep the others from their call. */
  flush(): void {
    this.#cancel?.();
    this.#cancel = null;
    this.#flushed();
    for (const listener of [...this.#listeners]) {
      try {
        listener();
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/** Call `then` at the next frame, or after `LATEST`. Without frames (in Node), after the current task. */
function nextFrame(then: () => void): () => void {
  const draws = typeof requestAnimationFrame === "function";
  const timer = setTimeout(then, draws ? LATEST : 0);
  const frame = draws ? requestAnimationFrame(then) : 0;
  return () => {
    clearTimeout(timer);
    if (draws) cancelAnimationFrame(frame);
  };
}
