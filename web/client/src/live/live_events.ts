// The events of all turns of the caller over one connection, for all tabs of a browser.

import { Listeners } from "../batching.js";
import { lostConnection, TurnstreamError } from "../errors.js";
import { CHAT_EVENTS, type ChatEvent, type TurnEvent } from "../events.js";
import type { TurnState } from "../fold.js";
import { follow, type Followed } from "../following.js";
import { TabChannel, type TabConnection, type TabMessage } from "./tab_channel.js";
import type { Frame } from "../sse.js";
import { path } from "../requests.js";
import type { Turnstream } from "../turnstream.js";
import type { WatchedTurn, WatchState } from "../watched_turn.js";

export interface EventsOptions {
  /** The chat whose turns are followed. Left out: all chats. */
  readonly chat_id?: string;
  /** Cursor after which the events begin, such as an earlier `lastId`. Left out: the running turns. */
  readonly after?: string;
  /** Name of a channel: the tabs of a browser that use it read one stream together. Left out: not shared. */
  readonly share?: string;
  /** Called with each event of a chat. After `events_start`, what the caller knows of chats is outdated. */
  readonly onChatEvent?: (event: ChatEvent) => void;
}

/** Milliseconds that a new turn waits for its announcement before it opens a stream of its own. */
const ANNOUNCED_WITHIN = 1_000;

const CHAT = new Set(CHAT_EVENTS);

export class LiveEvents implements Followed {
  readonly url: string;
  /** Cursor of the last event. Another object can resume from it, also in another process. */
  lastId: string | null;
  ended = false;
  readonly quiet = true;
  #connection: WatchState = { kind: "idle" };
  #shown: WatchState = this.#connection;
  #running: ReadonlyMap<string, string> = new Map();
  /** Events that the other tabs have not got yet. */
  #unposted: Frame[] = [];
  readonly #fed = new Map<string, WatchedTurn>();
  readonly #client: Turnstream;
  readonly #tabs: TabChannel | null;
  readonly #chatListeners = new Set<(event: ChatEvent) => void>();
  readonly #listeners = new Listeners(() => {
    this.#shown = this.#connection;
    const running = new Map([...this.#fed].map(([id, { state }]) => [id, state.chat_id ?? ""]));
    if (String([...running]) !== String([...this.#running])) this.#running = running;
  });
  #open: AbortController | null = null;
  readonly #isWhole: boolean;

  /** While a stream of all chats is open, turns need no connections of their own. */
  constructor(client: Turnstream, options: EventsOptions = {}) {
    const { chat_id } = options;
    this.#client = client;
    this.url = client.root + (chat_id === undefined ? "/events" : path`/chats/${chat_id}/events`);
    this.#isWhole = chat_id === undefined;
    this.lastId = options.after ?? null;
    if (options.onChatEvent) this.#chatListeners.add(options.onChatEvent);
    this.#tabs = options.share !== undefined && TabChannel.isAvailable ? new TabChannel(options.share) : null;
  }

  /** State of the connection, for `subscribe`. */
  readonly getSnapshot = (): WatchState => this.#shown;

  /** The running and waiting turns, each with the id of its chat, for `subscribe`. */
  readonly getRunning = (): ReadonlyMap<string, string> => this.#running;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  };

  /** Call `listener` with each event of a chat. Returns a function that ends it. */
  onChatEvent(listener: (event: ChatEvent) => void): () => void {
    this.#chatListeners.add(listener);
    return () => {
      this.#chatListeners.delete(listener);
    };
  }

  /** Begin to follow. Tabs that share the stream agree on one of them that reads it. */
  start(): void {
    if (this.#open || this.ended) return;
    const open = new AbortController();
    this.#open = open;
    if (this.#isWhole) this.#client.feed = this.#expect;
    this.#report({ kind: "connecting" });
    if (this.#tabs) this.#tabs.join(open.signal, () => this.#follow(open.signal), this.#receive);
    else void this.#follow(open.signal);
  }

  /** End the connection. Turns that are watched continue over streams of their own. */
  close(): void {
    this.#open?.abort();
    this.#stopped();
    if (this.#connection.kind !== "failed") this.#report({ kind: "idle" });
  }

  connected(): void {
    // The server sends no event again.
  }

  nothingFollows(): void {
    this.ended = true;
  }

  take(frame: Frame): boolean {
    // The events of one read go to the other tabs together.
    if (this.#tabs && this.#unposted.push(frame) === 1) queueMicrotask(this.#post);
    return this.#take(frame);
  }

  readonly #post = () => {
    if (this.#unposted.length) this.#tabs?.post({ frames: this.#unposted });
    this.#unposted = [];
  };

  #take({ event: name, data, id }: Frame): boolean {
    let event: TurnEvent | ChatEvent;
    try {
      event = JSON.parse(data) as TurnEvent | ChatEvent;
      if (CHAT.has(name)) this.#takeChatEvent(event as ChatEvent);
      else this.#fold(event as TurnEvent);
    } catch (cause) {
      const message = `the server sent a broken ${name} event: ${String(cause)}`;
      throw new TurnstreamError(message, { code: "malformed_event", cause });
    }
    const isNew = id !== null && id !== this.lastId;
    this.lastId = id ?? this.lastId;
    if (CHAT.has(name)) for (const listener of [...this.#chatListeners]) listener(event as ChatEvent);
    return isNew;
  }

  #takeChatEvent(event: ChatEvent): void {
    if (event.type === "events_start") {
      const expected = [...this.#fed.values()];
      this.#fed.clear();
      expected.forEach(this.#expect);
      this.#listeners.schedule();
    } else if (event.type === "turn_started") this.#feed(event.turn_id);
    else if (event.type === "events_end") this.ended = event.code === "chat_deleted";
  }

  #fold(event: TurnEvent): void {
    const turn = this.#fed.get(event.turn_id);
    turn?.fold(event);
    if (turn?.ended) this.#fed.delete(turn.id);
    if (turn?.ended || event.type === "turn_start") this.#listeners.schedule();
  }

  #feed(turnId: string, state?: TurnState): void {
    const turn = this.#client.turn(turnId);
    this.#fed.set(turnId, turn);
    turn.feed(true, state);
    this.#listeners.schedule();
  }

  /** Let each turn have a stream of its own. */
  #release(): void {
    for (const turn of this.#fed.values()) turn.feed(false);
    this.#fed.clear();
  }

  #stopped(): void {
    this.#open = null;
    if (this.#client.feed === this.#expect) this.#client.feed = null;
    this.#release();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    try {
      await follow(this, this.#client.transport, signal, (state) => {
        this.#post();
        this.#tabs?.post({ connection: plain(state) });
        this.#report(state);
      });
      if (!signal.aborted) this.#report({ kind: "ended" });
    } catch (error) {
      if (signal.aborted) return;
      this.#stopped();
      this.#report({ kind: "failed", error: error as TurnstreamError });
    }
  }

  /** Take what the tab that reads the stream sends. */
  readonly #receive = (message: TabMessage): void => {
    if ("frames" in message) for (const frame of message.frames) this.#take(frame);
    else if ("hello" in message) {
      this.#post();
      const states = [...this.#fed.values()].map((turn) => turn.state);
      this.#tabs?.post({ states, lastId: this.lastId, connection: plain(this.#connection) });
    } else {
      if ("states" in message) {
        this.lastId = message.lastId;
        for (const state of message.states) if (!this.#fed.has(state.turn_id)) this.#feed(state.turn_id, state);
      }
      const { connection } = message;
      this.#report(connection.kind === "retrying" ? { ...connection, error: lostConnection(undefined) } : { kind: connection.kind });
    }
  };

  /** Expect the events of a new turn here. It gets a stream of its own if they do not come. */
  readonly #expect = (turn: WatchedTurn): void => {
    turn.feed(true);
    const check = () => {
      if (this.#fed.get(turn.id) === turn) return;
      // Streams of their own would not come through either, while the connection of all turns does not.
      if (this.#open && this.#connection.kind !== "open") setTimeout(check, ANNOUNCED_WITHIN);
      else turn.feed(false);
    };
    setTimeout(check, ANNOUNCED_WITHIN);
  };

  #report(state: WatchState): void {
    this.#connection = state;
    this.#listeners.schedule();
  }
}

function plain(state: WatchState): TabConnection {
  if (state.kind !== "retrying") return { kind: state.kind === "open" ? "open" : "connecting" };
  return { kind: "retrying", at: state.at, attempt: state.attempt };
}
