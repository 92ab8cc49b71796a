// A chat for a user interface: its shown branch, and the message that is being sent.

import type { Chat, PathTurn, Started, StoredTurn, ToolResult, UserBlock } from "./answers.js";
import { TurnstreamError } from "./errors.js";
import type { ChatEvent } from "./events.js";
import { blocksOf } from "./fold.js";
import { newKey } from "./requests.js";
import type { Message, NewChat, RegenerateOptions, SendOptions, Turnstream } from "./turnstream.js";
import type { WatchedTurn } from "./watched_turn.js";

/** A message of the shown branch. It is the same object as before if it did not change. */
export interface ChatMessage {
  /** Key for lists. It stays while a pending message becomes a turn. */
  readonly key: string;
  readonly role: "user" | "assistant";
  /** The turn as it was read, or null while it is being sent. */
  readonly turn: StoredTurn | null;
  /** The turn's store, if the turn had not ended when it was first read. `useTurn` shows it. */
  readonly live: WatchedTurn | null;
  /** What is being sent. It is removed if sending fails. */
  readonly pending: readonly UserBlock[] | null;
  /** Ids of the turn and its alternatives, oldest first. */
  readonly siblings: readonly string[];
}

export interface ChatSnapshot {
  readonly chat_id: string | null;
  /** `gone`: the chat was deleted. */
  readonly status: "new" | "loading" | "ready" | "failed" | "gone";
  readonly messages: readonly ChatMessage[];
  /** True while a message is being sent. */
  readonly sending: boolean;
  /** The answer that is being written, or null. */
  readonly running: WatchedTurn | null;
  /** Error of the last message or of loading, or null. */
  readonly error: TurnstreamError | null;
  /** True if there are turns before the first one that was read. */
  readonly has_previous: boolean;
}

/** Options of a message. `chat`: the new chat, if there is none yet. */
export interface ChatSendOptions extends SendOptions {
  readonly chat?: NewChat;
}

/** Turns that are read at once. */
const PAGE = 50;
const ENDED = new Set(["complete", "error", "cancelled"]);

export class ChatStore {
  readonly #client: Turnstream;
  readonly #created: ((chat: Chat) => void) | undefined;
  readonly #listeners = new Set<() => void>();
  #snapshot: ChatSnapshot;
  #previous: string | null = null;
  #reading: AbortController | null = null;
  #unwatch: (() => void) | null = null;
  /** The message that could not be sent: the server may have received it, so its repetition has the same key. */
  #unsent: { readonly json: string; readonly key: string } | null = null;

  /** @param created called with the chat when the first message has created it */
  constructor(client: Turnstream, chatId: string | null, created?: (chat: Chat) => void) {
    this.#client = client;
    this.#created = created;
    this.#snapshot = {
      chat_id: chatId,
      status: chatId === null ? "new" : "loading",
      messages: [],
      sending: false,
      running: null,
      error: null,
      has_previous: false,
    };
  }

  readonly getSnapshot = (): ChatSnapshot => this.#snapshot;

  /** Call `listener` when messages change, not when the text of an answer grows: `useTurn` shows that. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) void this.reload();
    return () => {
      this.#listeners.delete(listener);
      if (!this.#listeners.size) this.#close();
    };
  };

  /** Read the shown branch again. A failure is the snapshot's `error`. */
  async reload(): Promise<void> {
    const { chat_id } = this.#snapshot;
    if (chat_id === null) return;
    this.#reading?.abort();
    const reading = new AbortController();
    this.#reading = reading;
    try {
      const { turns, previous } = await this.#client.path(chat_id, { limit: PAGE, media: "omit", signal: reading.signal });
      const { messages } = this.#snapshot;
      // The turns before these stay, if they were read.
      const place = messages.findIndex(({ turn }) => turn && turn.id === turns[0]?.prev_turn_id) + 1;
      if (!place) this.#previous = previous;
      const pending = messages.filter((message) => message.pending);
      const read = turns.map((turn) => this.#messageOf(turn));
      this.#show([...messages.slice(0, place), ...read, ...pending], { status: "ready" });
    } catch (error) {
      if (reading.signal.aborted) return;
      const failure = error as TurnstreamError;
      this.#set({ status: failure.status === 404 ? "gone" : "failed", error: failure });
    }
  }

  /** Read the turns before the first one that was read. Throws a TurnstreamError. */
  async readPrevious(): Promise<void> {
    const { chat_id } = this.#snapshot;
    if (chat_id === null || this.#previous === null) return;
    const before = this.#previous;
    const { turns, previous } = await this.#client.path(chat_id, { limit: PAGE, media: "omit", before });
    if (this.#previous !== before) return;
    this.#previous = previous;
    this.#show([...turns.map((turn) => this.#messageOf(turn)), ...this.#snapshot.messages]);
  }

  /**
   * Show a message at once, and send it. If that fails, the message is removed and the error is thrown. A message
   * is refused (`turn_active`) while another one is being sent, or while the answer is being written.
   */
  async send(message: Message, { chat, ...options }: ChatSendOptions = {}): Promise<WatchedTurn> {
    this.#refuseIfBusy();
    const blocks = typeof message === "string" ? [{ type: "text" as const, text: message }] : message;
    const before = this.#snapshot.messages;
    const sent: SendOptions = { prev_turn_id: before.at(-1)?.turn?.id ?? null, ...options };
    // A message in the middle of the branch begins another branch.
    const place = before.findIndex(({ turn }) => turn?.id === sent.prev_turn_id) + 1;
    const { signal, ...asked } = sent;
    const json = JSON.stringify([blocks, asked]);
    const key = sent.key ?? (this.#unsent?.json === json ? this.#unsent.key : newKey());
    this.#unsent = { json, key };
    const own: ChatMessage = { key, role: "user", turn: null, live: null, pending: blocks, siblings: [] };
    this.#set({ messages: [...before.slice(0, place), own], sending: true, error: null });
    try {
      if (this.#snapshot.chat_id === null) {
        const created = await this.#client.createChat(chat, signal);
        this.#set({ chat_id: created.id, status: "ready" });
        this.#created?.(created);
      }
      const started = await this.#client.send(this.#snapshot.chat_id ?? "", blocks, { ...sent, key });
      this.#unsent = null;
      const turn = this.#started(started, own);
      if (place < before.length) void this.reload();
      return turn;
    } catch (error) {
      const messages = [...this.#snapshot.messages.filter((one) => one !== own), ...before.slice(place)];
      this.#set({ messages, sending: false, error: error as TurnstreamError });
      throw error;
    }
  }

  /** Send another text in place of a user turn, in a new branch. Its answer is asked as the old one was. */
  edit(turn: Pick<StoredTurn, "id" | "chat_id" | "prev_turn_id">, message: Message, options: RegenerateOptions = {}) {
    const answer = this.#snapshot.messages.find((one) => one.turn?.prev_turn_id === turn.id)?.turn;
    const asked = answer && { model: answer.asked_model, system: answer.system, params: answer.params };
    return this.send(message, { ...asked, ...options, prev_turn_id: turn.prev_turn_id });
  }

  /** Start another answer beside the existing ones. */
  regenerate(turnId: string, options: RegenerateOptions = {}): Promise<WatchedTurn> {
    return this.#branch(() => this.#client.regenerate(turnId, options));
  }

  /** Send the results of tools that the client runs. */
  sendToolResults(turn: Pick<StoredTurn, "id" | "chat_id">, results: readonly ToolResult[], options: RegenerateOptions = {}) {
    return this.#branch(() => this.#client.sendToolResults(turn, results, options));
  }

  /** Show the branch of a turn. */
  async showBranch(turnId: string): Promise<void> {
    const { chat_id } = this.#snapshot;
    if (chat_id === null) return;
    await this.#client.showBranch(chat_id, turnId);
    await this.reload();
  }

  /** Stop the answer that is being written. What has arrived stays. */
  async stop(): Promise<void> {
    if (this.#snapshot.running) await this.#client.stop(this.#snapshot.running.id);
  }

  /** Take an event of a stream with many turns: other tabs and devices change the chat too. */
  readonly takeChatEvent = (event: ChatEvent): void => {
    const { chat_id, messages, sending } = this.#snapshot;
    if (event.type === "events_start") void this.reload();
    else if (event.type === "events_end" || event.chat_id !== chat_id || sending) return;
    else if (event.type === "chat_deleted") this.#set({ status: "gone", running: null });
    else if (messages.at(-1)?.turn?.id !== ("turn_id" in event ? event.turn_id : event.active_turn_id)) void this.reload();
  };

  #close(): void {
    this.#reading?.abort();
    this.#unwatch?.();
    this.#unwatch = null;
  }

  async #branch(start: () => Promise<Started>): Promise<WatchedTurn> {
    this.#refuseIfBusy();
    this.#set({ sending: true, error: null });
    try {
      const started = await start();
      const turn = this.#client.turn(started.assistant_turn.id);
      await this.reload();
      this.#set({ sending: false });
      return turn;
    } catch (error) {
      this.#set({ sending: false, error: error as TurnstreamError });
      throw error;
    }
  }

  #refuseIfBusy(): void {
    const { sending, running } = this.#snapshot;
    if (!sending && !running) return;
    const reason = sending ? "a message is being sent" : "an answer is being written: stop it, or wait";
    throw new TurnstreamError(reason, { code: "turn_active" });
  }

  #started({ user_turn, assistant_turn, alternatives }: Started, own: ChatMessage): WatchedTurn {
    const others = this.#snapshot.messages.filter((one) => one !== own);
    const asked = user_turn ? [{ ...own, turn: withoutData(user_turn), pending: null, siblings: [user_turn.id] }] : [];
    const live = this.#client.turn(assistant_turn.id);
    const siblings = [assistant_turn, ...alternatives.map((one) => one.assistant_turn)].map(({ id }) => id);
    const answer = this.#messageOf({ ...assistant_turn, siblings, events: [] });
    this.#show([...others, ...asked, answer], { sending: false });
    return live;
  }

  #messageOf(turn: PathTurn): ChatMessage {
    const old = this.#snapshot.messages.find((message) => message.turn?.id === turn.id);
    const isRunning = turn.role === "assistant" && !ENDED.has(turn.status);
    const message: ChatMessage = {
      key: old?.key ?? turn.id,
      role: turn.role === "user" ? "user" : "assistant",
      turn,
      live: old?.live ?? (isRunning ? this.#client.turn(turn.id) : null),
      pending: null,
      siblings: turn.siblings,
    };
    return old?.live === message.live && stamp(old) === stamp(message) ? old : message;
  }

  #show(messages: readonly ChatMessage[], more: Partial<ChatSnapshot> = {}): void {
    const running = messages.findLast(({ live }) => live && !live.ended)?.live ?? null;
    if (running !== this.#snapshot.running || !this.#unwatch) {
      this.#unwatch?.();
      this.#unwatch = running && this.#watchEnd(running);
    }
    this.#set({ messages, running, has_previous: this.#previous !== null, ...more });
    // A short answer may have ended before the response to its question came.
    for (const { live, turn } of messages) if (live?.ended && turn && !ENDED.has(turn.status)) void this.#refresh(live);
  }

  /** Follow the answer until its end. Only the end changes the chat. */
  #watchEnd(turn: WatchedTurn): () => void {
    const unsubscribe = turn.subscribe(() => {
      if (!turn.ended || this.#snapshot.running !== turn) return;
      this.#unwatch = null;
      unsubscribe();
      this.#set({ running: null });
      if (turn.state.user_redacted !== null || turn.state.status === null) void this.reload();
      else void this.#refresh(turn);
    });
    return unsubscribe;
  }

  /** Read the record of a turn that has ended: its cost, and its model calls. */
  async #refresh(live: WatchedTurn): Promise<void> {
    try {
      const turn = withTextsOf(live, await this.#client.readTurn(live.id));
      this.#set({ messages: this.#snapshot.messages.map((one) => (one.turn?.id === live.id ? { ...one, turn } : one)) });
    } catch (error) {
      this.#set({ error: error as TurnstreamError });
    }
  }

  #set(change: Partial<ChatSnapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...change };
    for (const listener of [...this.#listeners]) listener();
  }
}

/** Return what may change of a message: only a user's blocks do, when a provider retracts them. */
function stamp({ turn, role, siblings }: ChatMessage): string {
  return JSON.stringify([turn?.status, siblings, role === "user" && turn?.blocks]);
}

/** Return a stored turn with the same texts as its events had: a long text is then in memory once. */
function withTextsOf({ state }: WatchedTurn, turn: StoredTurn): StoredTurn {
  const known = new Map(blocksOf(state).map(({ text_content }) => [text_content, text_content]));
  const blocks = turn.blocks.map((block) => ({ ...block, text_content: known.get(block.text_content) ?? block.text_content }));
  return { ...turn, blocks };
}

/** Return a turn without the data of its images and documents, as a branch is read. */
function withoutData(turn: StoredTurn): StoredTurn {
  const blocks = turn.blocks.map((block) => {
    const { data, ...content } = block.content ?? {};
    return data === undefined ? block : { ...block, content };
  });
  return { ...turn, blocks };
}
