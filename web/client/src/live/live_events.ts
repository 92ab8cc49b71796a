// The events of all turns of the caller over one connection, for all tabs of a browser.

import { Listeners } from "../batching.js";
import { TurnstreamError } from "../errors.js";
import { CHAT_EVENTS, type ChatEvent, type TurnEvent } from "../events.js";
import type { TurnState } from "../fold.js";
import { follow, type Followed } from "../following.js";
import { TabChannel, type TabMessage } from "./tab_channel.js";
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
  readonly #fed = new Map<string, WatchedTurn>();
  readonly #client: Turnstream;
  readonly #tabs: TabChannel | null;
  readonly #chatListeners = new Set<(event: ChatEvent) => void>();
  readonly #listeners = new Listeners(() => {
    this.#shown = this.#connection;
  });
  #running: AbortController | null = null;
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
    if (this.#running || this.ended) return;
    const running = new AbortController();
    this.#running = running;
    if (this.#isWhole) this.#client.feed = this.#expect;
    this.#report({ kind: "connecting" });
    if (this.#tabs) this.#tabs.join(running.signal, () => this.#follow(running.signal), this.#receive);
    else void this.#follow(running.signal);
  }

  /** End the connection. Turns that are watched continue over streams of their own. */
  close(): void {
    this.#running?.abort();
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
    this.#tabs?.post({ frame });
    return this.#take(frame);
  }

  #take({ event: name, data, id }: Frame): boolean {
    let event: TurnEvent | ChatEvent;
    try {
      event = JSON.parse(data) as TurnEvent | ChatEvent;
      if (CHAT.has(name)) this.#takeChatEvent(event as ChatEvent);
      else this.#fed.get((event as TurnEvent).turn_id)?.fold(event as TurnEvent);
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
    if (event.type === "events_start") this.#release();
    else if (event.type === "turn_started") this.#feed(event.turn_id);
    else if (event.type === "events_end") this.ended = event.code === "chat_deleted";
    for (const [id, turn] of this.#fed) if (turn.ended) this.#fed.delete(id);
  }

  #feed(turnId: string, state?: TurnState): void {
    const turn = this.#client.turn(turnId);
    this.#fed.set(turnId, turn);
    turn.feed(true, state);
  }

  /** Let each turn have a stream of its own. */
  #release(): void {
    for (const turn of this.#fed.values()) turn.feed(false);
    this.#fed.clear();
  }

  #stopped(): void {
    this.#running = null;
    if (this.#client.feed === this.#expect) this.#client.feed = null;
    this.#release();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    try {
      await follow(this, this.#client.transport, signal, (state) => {
        this.#tabs?.post({ connection: state.kind });
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
    if ("frame" in message) this.#take(message.frame);
    else if ("states" in message) {
      this.lastId = message.lastId;
      for (const state of message.states) if (!this.#fed.has(state.turn_id)) this.#feed(state.turn_id, state);
    } else if ("connection" in message) this.#report(message.connection === "open" ? { kind: "open" } : { kind: "connecting" });
    else this.#tabs?.post({ states: [...this.#fed.values()].map((turn) => turn.state), lastId: this.lastId });
  };

  /** Expect the events of a new turn here. It gets a stream of its own if they do not come. */
  readonly #expect = (turn: WatchedTurn): void => {
    turn.feed(true);
    setTimeout(() => {
      if (!this.#fed.has(turn.id)) turn.feed(false);
    }, ANNOUNCED_WITHIN);
  };

  #report(state: WatchState): void {
    this.#connection = state;
    this.#listeners.schedule();
  }
}
