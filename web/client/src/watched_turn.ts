// A watched turn: a store of its state, which follows the turn's stream while it has subscribers.

import { Listeners } from "./batching.js";
import { TurnstreamError } from "./errors.js";
import { TURN_EVENTS, type TurnEvent } from "./events.js";
import { atEnd, blocksOf, fold, newTurn, type TurnState } from "./fold.js";
import { type ConnectionState, follow, type Followed, type Transport } from "./following.js";
import type { Frame } from "./sse.js";

/** How the events of a turn arrive. `idle`: nothing is read, because nobody subscribes. */
export type WatchState =
  | ConnectionState
  | { readonly kind: "idle" }
  | { readonly kind: "ended" }
  | { readonly kind: "failed"; readonly error: TurnstreamError };

export interface TurnSnapshot {
  readonly turn: TurnState;
  readonly connection: WatchState;
}

const KNOWN = new Set(TURN_EVENTS);
/** Events that may be folded twice: on a new connection they may repeat the id that the client sent. */
const REPEATABLE = new Set(["block_catchup", "block_reset", "notice"]);
const CURSOR = /^(\d{1,12})-(\d{1,16})$/;
export class WatchedTurn implements Followed {
  /** Largest size of all blocks of a turn, in characters of JSON. The server's limit is far lower. */
  static limit = 128 * 1024 * 1024;
  readonly id: string;
  /** Cursor of the last complete event. Watching can resume from it, also in another process. */
  lastId: string | null;
  /** Called with each new event, after it is folded. */
  onEvent: ((event: TurnEvent) => void) | null = null;
  #state: TurnState;
  #connection: WatchState = { kind: "idle" };
  #snapshot: TurnSnapshot;
  #fresh = true;
  #running: AbortController | null = null;
  #fed = false;
  #furthest = -1;
  #size = 0;
  readonly #listeners = new Listeners(() => {
    if (this.#snapshot.turn !== this.#state || this.#snapshot.connection !== this.#connection) {
      this.#snapshot = { turn: this.#state, connection: this.#connection };
    }
  });
  readonly #transport: Transport;
  readonly url: string;

  /**
   * @param url address of the turn's stream
   * @param after cursor after which watching begins; null: the turn's beginning
   */
  constructor(transport: Transport, url: string, id: string, after: string | null = null) {
    this.#transport = transport;
    this.url = url;
    this.id = id;
    this.lastId = after;
    this.#state = newTurn(id);
    this.#snapshot = { turn: this.#state, connection: this.#connection };
  }

  /** State after the last event. `getSnapshot` changes only when subscribers are notified. */
  get state(): TurnState {
    return this.#state;
  }

  get ended(): boolean {
    return this.#state.ended;
  }

  get quiet(): boolean {
    return this.#state.status === "waiting";
  }

  get subscribed(): boolean {
    return this.#listeners.size > 0;
  }

  readonly getSnapshot = (): TurnSnapshot => this.#snapshot;

  /** Call `listener` after changes, at most once per frame. The turn is followed until all have unsubscribed. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    this.#start();
    return () => {
      this.#listeners.delete(listener);
      if (!this.#listeners.size) this.close();
    };
  };

  /**
   * Follow the turn until its end, and return its last state. Throws a TurnstreamError if following fails.
   * An abort is silent: the state that is returned has not `ended`.
   */
  async wait(signal?: AbortSignal): Promise<TurnState> {
    const ended = Promise.withResolvers<undefined>();
    const check = () => {
      const connection = this.#connection;
      if (connection.kind === "failed") ended.reject(connection.error);
      else if (this.ended || connection.kind === "idle" || signal?.aborted) ended.resolve(undefined);
    };
    const unsubscribe = this.subscribe(check);
    signal?.addEventListener("abort", check);
    check();
    try {
      await ended.promise;
    } finally {
      signal?.removeEventListener("abort", check);
      unsubscribe();
    }
    return this.#state;
  }

  /** Close the connection. The turn continues on the server. `subscribe` resumes after the last event. */
  close(): void {
    this.#running?.abort();
    this.#running = null;
    if (!this.ended && !this.#fed && this.#connection.kind !== "failed") this.#report({ kind: "idle" });
  }

  /** Follow the stream again after a failure. */
  retry(): void {
    if (this.#connection.kind === "failed") this.#connection = { kind: "idle" };
    if (this.subscribed) this.#start();
  }

  /**
   * Take the events from another stream, which has many turns, instead of the turn's own.
   * Events that are not fed any more come from the turn's own stream.
   */
  feed(fed: boolean, state?: TurnState): void {
    if (this.ended) return;
    if (state) {
      this.#state = state;
      this.#listeners.schedule();
    }
    if (this.#fed === fed) return;
    this.#fed = fed;
    this.#running?.abort();
    this.#running = null;
    this.lastId = null;
    this.#report({ kind: fed ? "open" : "idle" });
    if (!fed && this.subscribed) this.#start();
  }

  get fed(): boolean {
    return this.#fed;
  }

  /** Fold an event of a stream with many turns. */
  fold(event: TurnEvent): void {
    if (this.ended) return;
    this.#fold(event);
    if (this.#state.ended) {
      this.#fed = false;
      this.#report({ kind: "ended" });
    }
    this.onEvent?.(event);
  }

  connected(): void {
    this.#fresh = true;
  }

  nothingFollows(): void {
    this.#state = atEnd(this.#state);
    this.#listeners.schedule();
  }

  take({ event: name, data, id }: Frame): boolean {
    const cursor = id ?? this.lastId;
    if (this.ended) return false;
    if (!KNOWN.has(name)) {
      this.lastId = cursor;
      return false;
    }
    if (this.#isRepetition(name, cursor)) return false;
    let event: TurnEvent;
    try {
      event = JSON.parse(data) as TurnEvent;
      if (event.type !== name) throw new TypeError(`its type is ${String((event as { type: unknown }).type)}`);
      this.#fold(event);
    } catch (cause) {
      const message = `the server sent a broken ${name} event: ${String(cause)}`;
      throw new TurnstreamError(message, { code: "malformed_event", cause });
    }
    this.#count(data.length);
    this.#fresh = false;
    this.lastId = cursor;
    const isNew = this.#isNew(cursor);
    this.onEvent?.(event);
    return isNew;
  }

  #start(): void {
    if (this.#running || this.#fed || this.ended || this.#connection.kind === "failed") return;
    const running = new AbortController();
    this.#running = running;
    const report = (state: WatchState) => {
      if (this.#running === running) this.#report(state);
    };
    const end = (state: WatchState) => {
      report(state);
      if (this.#running === running) this.#running = null;
    };
    follow(this, this.#transport, running.signal, report).then(
      () => {
        end({ kind: this.ended ? "ended" : "idle" });
      },
      (error: unknown) => {
        end({ kind: "failed", error: error as TurnstreamError });
      },
    );
  }

  #report(state: WatchState): void {
    this.#connection = state;
    this.#listeners.schedule();
  }

  #fold(event: TurnEvent): void {
    this.#state = fold(this.#state, event);
    this.#listeners.schedule();
  }

  /** Return true if the event was received before: a proxy may send the start of a stream twice. */
  #isRepetition(name: string, cursor: string | null): boolean {
    if (name === "turn_start" || cursor === null || this.lastId === null) return false;
    const [now, last] = [CURSOR.exec(cursor), CURSOR.exec(this.lastId)];
    if (!now || !last || now[1] !== last[1]) return false;
    const step = Number(now[2]) - Number(last[2]);
    return step < 0 || (step === 0 && this.#fresh && !REPEATABLE.has(name));
  }

  /** Throw a TurnstreamError if the blocks exceed the limit. */
  #count(length: number): void {
    this.#size += length;
    const { limit } = WatchedTurn;
    if (this.#size <= 2 * limit) return;
    // What was received is only an upper bound, because a catch-up repeats blocks. So the blocks are measured.
    this.#size = JSON.stringify(blocksOf(this.#state)).length;
    if (this.#size > limit) throw new TurnstreamError("the answer is too large", { code: "answer_too_large" });
  }

  /** Return true if the event comes after all events before it. Within a turn, numbers only rise. */
  #isNew(cursor: string | null): boolean {
    const number = Number(CURSOR.exec(cursor ?? "")?.[2]);
    if (!(number > this.#furthest)) return false;
    this.#furthest = number;
    return true;
  }
}
