// Follows one event stream over any number of connections, until it ends, fails or is closed.

import { lostConnection, TurnstreamError } from "./errors.js";
import type { FrameSink, StreamReader } from "./reading.js";
import type { Frame } from "./sse.js";

/** Delays and timeouts, in milliseconds. */
export interface Retry {
  /** Longest delay before the second attempt. It doubles with each attempt. The delay is random, from 0 on. */
  readonly firstDelay: number;
  /** Longest delay between two attempts. */
  readonly maxDelay: number;
  /** Time of all attempts and delays without new events, after which the client gives up. */
  readonly budget: number;
  /** Time without a byte after which a connection counts as lost. The server sends a comment every 15 s. */
  readonly idle: number;
  /** Deadline of a request that is not a stream, with all its attempts. */
  readonly request: number;
  /** A random number from 0 to 1. */
  readonly random: () => number;
}

export const RETRY: Retry = {
  firstDelay: 200,
  maxDelay: 5_000,
  budget: 300_000,
  idle: 45_000,
  request: 30_000,
  random: Math.random,
};

/** Consecutive connections that may bring only known events. Then following fails. */
const MAX_REPEATS = 20;
/** Milliseconds after which the end of a quiet connection does not count: proxies end such connections. */
const STEADY = 10_000;

/** A stream's state: it takes the events, and knows where to resume. */
export interface Followed {
  readonly url: string;
  lastId: string | null;
  /** True if nothing follows. */
  readonly ended: boolean;
  /** True if no events are expected for now. */
  readonly quiet: boolean;
  connected(): void;
  nothingFollows(): void;
  /** Take an event. Return true if it is new. Throws a TurnstreamError if it is broken. */
  take(frame: Frame): boolean;
}

export type ConnectionState =
  | { readonly kind: "connecting" }
  | { readonly kind: "open" }
  /** The connection was lost. The next attempt is at `at` (milliseconds since the epoch). */
  | { readonly kind: "retrying"; readonly at: number; readonly attempt: number; readonly error: TurnstreamError };

export interface Transport {
  readonly fetch: typeof fetch;
  readonly reader: StreamReader;
  readonly retry: Retry;
  readonly headers: () => Promise<Readonly<Record<string, string>>>;
}

/** Return the delay before an attempt: random, so that clients spread out. `asked`: the server's least delay. */
export function delayOf(retry: Retry, base: number, attempt: number, asked: number | null): number {
  const random = retry.random();
  const delay = random * Math.min(base * 2 ** Math.min(attempt, 30), retry.maxDelay);
  return asked === null ? delay : Math.max(delay, asked * (1 + random / 10));
}

/**
 * Follow a stream. Resolves when nothing follows, or when `signal` aborts: check `followed.ended`. Rejects with
 * the TurnstreamError that a retry cannot fix, or with the last failure when the budget is spent.
 */
export async function follow(
  followed: Followed,
  transport: Transport,
  signal: AbortSignal,
  report: (state: ConnectionState) => void,
): Promise<void> {
  const { retry } = transport;
  let base = retry.firstDelay;
  let attempt = 0;
  let repeats = 0;
  let spent = 0;
  const network = new Network();
  try {
    while (!followed.ended && !signal.aborted) {
      report({ kind: "connecting" });
      const began = Date.now();
      const connection = new Connection(followed, retry, report);
      network.connection = connection;
      const failure = await connection.read(transport, signal);
      base = connection.base ?? base;
      if (failure === null) return;
      if (!failure.retryable) throw failure;
      const duration = Date.now() - began;
      if (connection.isNew || (followed.quiet && duration >= STEADY)) attempt = repeats = spent = 0;
      else if (connection.hasFrames) repeats += 1;
      if (repeats >= MAX_REPEATS) {
        const message = `the server sends the same events each time: no new ones came in ${MAX_REPEATS} connections`;
        throw new TurnstreamError(message, { code: "no_progress", retryable: true });
      }
      const delay = delayOf(retry, base, attempt, failure.retryAfter);
      attempt += 1;
      // Without a network an attempt costs nothing, and a laptop may sleep for hours.
      if (network.isOnline) spent += (connection.hasFrames ? 0 : duration) + delay;
      if (spent > retry.budget) throw failure;
      report({ kind: "retrying", at: Date.now() + delay, attempt, error: failure });
      if (await network.pause(delay, signal)) attempt = spent = 0;
    }
  } finally {
    network.close();
  }
}

/** One connection of a followed stream. */
class Connection implements FrameSink {
  isNew = false;
  hasFrames = false;
  /** Milliseconds that the server asks for before the next connection, or null. */
  base: number | null = null;
  #broken: TurnstreamError | null = null;
  readonly #followed: Followed;
  readonly #report: (state: ConnectionState) => void;
  readonly #controller = new AbortController();
  readonly #silence: Watchdog;

  constructor(followed: Followed, { idle }: Retry, report: (state: ConnectionState) => void) {
    this.#followed = followed;
    this.#report = report;
    this.#silence = new Watchdog(idle, () => {
      this.lose(`nothing came for ${idle / 1000} s`);
    });
  }

  /** Read until the end. Return the failure, or null if nothing follows or `signal` aborted. */
  async read(transport: Transport, signal: AbortSignal): Promise<TurnstreamError | null> {
    const followed = this.#followed;
    const stop = () => {
      this.lose("it was aborted");
    };
    signal.addEventListener("abort", stop);
    let failure = lostConnection(undefined);
    try {
      const headers = await transport.headers();
      const { fetch, reader } = transport;
      const { url, lastId } = followed;
      const request = { url, headers, lastId, signal: this.#controller.signal, fetch };
      if (!signal.aborted && (await reader(request, this)) === "nothing") followed.nothingFollows();
    } catch (error) {
      failure = error instanceof TurnstreamError ? error : lostConnection(error);
    } finally {
      this.#silence.stop();
      signal.removeEventListener("abort", stop);
      this.#controller.abort();
    }
    if (this.#broken) return this.#broken;
    return followed.ended || signal.aborted ? null : failure;
  }

  /** Give the connection up. */
  lose(reason: string): void {
    this.#controller.abort(new Error(reason));
  }

  opened(heard: boolean): void {
    this.#followed.connected();
    if (heard) this.#silence.alive();
    else this.#silence.stop();
    this.#report({ kind: "open" });
  }

  alive(): void {
    this.#silence.alive();
  }

  retry(milliseconds: number): void {
    this.base = Math.max(1, milliseconds);
  }

  frame(frame: Frame): void {
    if (this.#controller.signal.aborted) return;
    this.hasFrames = true;
    try {
      if (this.#followed.take(frame)) this.isNew = true;
    } catch (error) {
      // A broken event is reported, not skipped: text would be missing unnoticed.
      const details = { code: "listener_failed", cause: error };
      this.#broken = error instanceof TurnstreamError ? error : new TurnstreamError(String(error), details);
    }
    if (this.#broken || this.#followed.ended) this.lose("it is not read any more");
  }
}

/** Calls `expired` after `limit` milliseconds without a sign of life. */
class Watchdog {
  #last = Date.now();
  #timer: ReturnType<typeof setTimeout>;
  readonly #limit: number;
  readonly #expired: () => void;

  constructor(limit: number, expired: () => void) {
    this.#limit = limit;
    this.#expired = expired;
    this.#timer = setTimeout(this.#check, limit);
  }

  alive(): void {
    this.#last = Date.now();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  // A timer for each byte would cost more than the byte. This one runs once per limit.
  readonly #check = () => {
    const left = this.#last + this.#limit - Date.now();
    if (left <= 0) this.#expired();
    else this.#timer = setTimeout(this.#check, left);
  };
}

/** The events of the browser that say that the network is back. */
class Network {
  /** The connection that may be dead without a sign, when the network is back. */
  connection: Connection | null = null;
  #wake: ((back: boolean) => void) | null = null;
  readonly #hasEvents = typeof addEventListener === "function" && typeof navigator === "object";

  constructor() {
    if (this.#hasEvents) addEventListener("online", this.#onOnline);
  }

  get isOnline(): boolean {
    return !this.#hasEvents || navigator.onLine;
  }

  /** Wait. Return true if the wait ended early, because the network is back. */
  pause(milliseconds: number, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (back: boolean) => {
        clearTimeout(timer);
        signal.removeEventListener("abort", stop);
        this.#wake = null;
        resolve(back);
      };
      const stop = () => {
        end(false);
      };
      const timer = setTimeout(stop, milliseconds);
      signal.addEventListener("abort", stop);
      this.#wake = end;
      if (signal.aborted) stop();
    });
  }

  close(): void {
    if (this.#hasEvents) removeEventListener("online", this.#onOnline);
  }

  readonly #onOnline = () => {
    this.connection?.lose("the network has changed");
    this.#wake?.(true);
  };
}
