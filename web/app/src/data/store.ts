// The state of the page: its chats, the chat that is shown, and the turns that are running.
// A snapshot is immutable and shares what did not change. Listeners are called at most once per frame.

import { blocksOf, fold, newTurn, TurnstreamError, type TurnState } from "@turnstream/client";
import { request } from "./api";
import { exportChat, type ExportForm } from "../chat/exported";
import { shareFrames, type Connection, type FrameReceiver } from "./frames";
import { isOver, type ChatRecord, type ModelRecord, type PathRecord, type SessionRecord, type TurnRecord } from "./records";

const PAGE = 50;

/** A turn that was sent and that the server has not answered yet. */
export interface UnsentTurn {
  readonly text: string;
  readonly blocks: readonly unknown[];
  readonly prev_turn_id: string | null;
}

export interface Failure {
  readonly message: string;
  readonly nextStep: string;
}

export interface Snapshot {
  readonly session: SessionRecord | null;
  readonly connection: Connection;
  readonly chats: readonly ChatRecord[];
  /** Position of the next page of chats; null on the last page. */
  readonly moreChats: string | null;
  readonly search: string;
  readonly models: readonly ModelRecord[];
  readonly chatId: string | null;
  /** Rises whenever another chat is opened. */
  readonly visit: number;
  readonly chat: ChatRecord | null;
  readonly path: readonly TurnRecord[];
  /** Turn before which earlier turns are read; null if the path is whole. */
  readonly earlier: string | null;
  readonly isLoading: boolean;
  readonly unsent: UnsentTurn | null;
  /** What the reader has chosen for the answers that follow. The rest is as in the answer before. */
  readonly options: CallOptions;
  /** States of turns whose events came, by their ids. */
  readonly live: ReadonlyMap<string, TurnState>;
  readonly failure: Failure | null;
}

const EMPTY: Snapshot = {
  session: null,
  connection: "connecting",
  chats: [],
  moreChats: null,
  search: "",
  models: [],
  chatId: null,
  visit: 0,
  chat: null,
  path: [],
  earlier: null,
  isLoading: false,
  unsent: null,
  options: {},
  live: new Map(),
  failure: null,
};

export interface CallOptions {
  readonly model?: string;
  readonly system?: string | null;
  readonly params?: Readonly<Record<string, unknown>>;
}

/** Events of `/events` that do not belong to a turn's own stream. */
type OwnerEvent =
  | { readonly type: "events_start" | "events_end" }
  | { readonly type: "turn_started"; readonly turn_id: string; readonly chat_id: string }
  | { readonly type: "chat_deleted"; readonly chat_id: string }
  | {
      readonly type: "chat_created" | "chat_changed";
      readonly chat_id: string;
      readonly title: string | null;
      readonly created_at: string;
      readonly updated_at: string;
      readonly active_turn_id: string | null;
    };

export class PageStore implements FrameReceiver {
  #snapshot = EMPTY;
  #next = EMPTY;
  #live = new Map<string, TurnState>();
  #liveChanged = false;
  #isScheduled = false;
  readonly #listeners = new Set<() => void>();
  #close: (() => void) | null = null;
  /** Rises with each change of the chat that is shown, so that a late answer does not show another one. */
  #visit = 0;
  #settling: ReturnType<typeof setTimeout> | null = null;

  readonly getSnapshot = (): Snapshot => this.#snapshot;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Read the session, and open the page if the browser is signed in. */
  async start(): Promise<void> {
    window.addEventListener("hashchange", () => void this.#openHash());
    await this.#attempt(async () => {
      this.#enter(await request<SessionRecord>("session"));
    });
  }

  async signIn(key: string): Promise<boolean> {
    return this.#attempt(async () => {
      this.#enter(await request<SessionRecord>("session", { method: "POST", body: { key } }));
    });
  }

  async signOut(): Promise<void> {
    await this.#attempt(async () => {
      await request("session", { method: "DELETE" });
      this.#leave();
    });
  }

  go(chatId: string | null): void {
    location.hash = chatId === null ? "#/" : `#/chat/${chatId}`;
  }

  setOptions(options: CallOptions): void {
    this.#set({ options });
  }

  dismiss(): void {
    this.#set({ failure: null });
  }

  async loadChats(search = this.#next.search, more = false): Promise<void> {
    if (!more) this.#set({ search });
    const before = more ? this.#next.moreChats : null;
    const query = new URLSearchParams({ limit: String(PAGE), ...(search !== "" && { search }), ...(before !== null && { before }) });
    await this.#attempt(async () => {
      const { chats, next } = await request<{ chats: ChatRecord[]; next: string | null }>(`chats?${query.toString()}`);
      if (search === this.#next.search) this.#set({ chats: more ? merged(this.#next.chats, chats) : chats, moreChats: next });
    });
  }

  /** Send a question, and show it at once. Return false if the server does not have it. */
  async send(text: string, files: readonly unknown[], after?: string | null): Promise<boolean> {
    if (this.#next.unsent !== null) return false;
    const { path, chatId, options } = this.#next;
    const previous = after === undefined ? (path.at(-1)?.id ?? null) : after;
    const blocks = [...files, ...(text === "" ? [] : [{ block_type: "text", text_content: text }])];
    const place = previous === null ? 0 : path.findIndex(({ id }) => id === previous) + 1;
    this.#set({ unsent: { text, blocks, prev_turn_id: previous }, path: path.slice(0, place), failure: null });
    const key = randomKey();
    const isSent = await this.#attempt(async () => {
      const id = chatId ?? (await this.#newChat(text));
      const body = { turn_blocks: blocks, ...options, ...(previous !== null && { prev_turn_id: previous }) };
      const started = await request<{ user_turn: TurnRecord; assistant_turn: TurnRecord }>(`chats/${id}/turns`, {
        method: "POST",
        body,
        headers: { "Idempotency-Key": key },
      });
      if (this.#next.chatId !== id) return;
      const turns = [...this.#next.path.slice(0, place), withoutData(started.user_turn), started.assistant_turn];
      this.#set({ path: turns, unsent: null });
      // A short answer may have ended before the request that started it.
      if (this.#live.get(started.assistant_turn.id)?.ended === true) void this.#refresh(started.assistant_turn.id);
      this.#settle();
      if (after !== undefined) await this.#loadPath();
    });
    if (!isSent) this.#set({ unsent: null, ...(this.#next.chatId === chatId && { path }) });
    else this.#set({ unsent: null });
    return isSent;
  }

  async regenerate(turnId: string): Promise<void> {
    const { options } = this.#next;
    await this.#attempt(async () => {
      const headers = { "Idempotency-Key": randomKey() };
      await request(`turns/${turnId}/regenerate`, { method: "POST", body: options, headers });
      await this.#loadPath();
    });
  }

  async stop(turnId: string): Promise<void> {
    await this.#attempt(async () => {
      await request(`turns/${turnId}/interrupt`, { method: "POST" });
      await this.#refresh(turnId);
    });
  }

  async answerApproval(turnId: string, approvalId: string, approved: boolean, reason: string): Promise<boolean> {
    return this.#attempt(async () => {
      const body = { approved, ...(reason !== "" && { reason }) };
      await request(`turns/${turnId}/approvals/${approvalId}`, { method: "POST", body });
      await this.#refresh(turnId);
    });
  }

  /** Show the branch through a turn. */
  async choose(turnId: string): Promise<void> {
    await this.changeChat(this.#next.chatId, { active_turn_id: turnId });
    await this.#loadPath();
  }

  async changeChat(chatId: string | null, change: Partial<ChatRecord>): Promise<void> {
    if (chatId === null) return;
    await this.#attempt(async () => {
      this.#upsert(await request<ChatRecord>(`chats/${chatId}`, { method: "PATCH", body: change }));
    });
  }

  async deleteChat(chatId: string): Promise<void> {
    await this.#attempt(async () => {
      await request(`chats/${chatId}`, { method: "DELETE" });
      this.#forget(chatId);
    });
  }

  async exportChat(chat: ChatRecord, form: ExportForm): Promise<void> {
    await this.#attempt(() => exportChat(chat, form));
  }

  async loadEarlier(): Promise<void> {
    const { chatId, earlier } = this.#next;
    const visit = this.#visit;
    if (chatId === null || earlier === null) return;
    await this.#attempt(async () => {
      const { turns, previous } = await readPath(chatId, earlier);
      if (visit === this.#visit) this.#set({ path: [...turns, ...this.#next.path], earlier: previous });
    });
  }

  // The events of all turns.

  frames(frames: readonly { readonly data: string }[]): void {
    for (const { data } of frames) {
      try {
        this.#take(JSON.parse(data) as OwnerEvent);
      } catch (error) {
        console.warn("turnstream: an event that cannot be read is skipped:", error);
      }
    }
  }

  connection(connection: Connection): void {
    this.#set({ connection });
    if (connection === "refused") this.#leave();
  }

  snapshot(): unknown {
    return [...this.#live.values()];
  }

  restore(snapshot: unknown): void {
    this.#live = new Map((snapshot as TurnState[]).map((state) => [state.turn_id, state]));
    this.#liveChanged = true;
    this.#set({});
    void this.#reload();
  }

  #take(event: OwnerEvent): void {
    switch (event.type) {
      case "events_start":
        this.#live.clear();
        this.#liveChanged = true;
        this.#set({});
        void this.#reload();
        return;
      case "events_end":
        return;
      case "turn_started":
        this.#keep({ ...newTurn(event.turn_id), chat_id: event.chat_id });
        if (event.chat_id === this.#next.chatId && this.#next.unsent === null) void this.#showTurn(event.turn_id);
        return;
      case "chat_created":
      case "chat_changed":
        void this.#chatChanged(event);
        return;
      case "chat_deleted":
        this.#forget(event.chat_id);
        return;
      default:
        this.#fold(event);
    }
  }

  #fold(event: Parameters<typeof fold>[1]): void {
    const known = this.#live.get(event.turn_id) ?? newTurn(event.turn_id);
    const state = fold(known, event);
    this.#keep({ ...state, chat_id: state.chat_id ?? known.chat_id });
    if (state.ended && !known.ended) {
      if (this.#next.path.some(({ id }) => id === event.turn_id)) void this.#refresh(event.turn_id).then(() => { this.#settle(); });
      else if (known.chat_id !== this.#next.chatId) this.#live.delete(event.turn_id);
    }
  }

  #keep(state: TurnState): void {
    this.#live.set(state.turn_id, state);
    this.#liveChanged = true;
    this.#set({});
  }

  async #chatChanged(event: OwnerEvent & { type: "chat_created" | "chat_changed" }): Promise<void> {
    const known = this.#next.chats.find(({ id }) => id === event.chat_id);
    if (known === undefined) {
      if (this.#next.search === "") await this.#quietly(async () => { this.#upsert(await request(`chats/${event.chat_id}`)); });
      return;
    }
    const { title, updated_at, active_turn_id } = event;
    this.#upsert({ ...known, title, updated_at, active_turn_id });
    const { chatId, path, unsent } = this.#next;
    const isShown = active_turn_id === null || path.some(({ id }) => id === active_turn_id);
    if (event.chat_id === chatId && unsent === null && !isShown) await this.#loadPath();
  }

  async #showTurn(turnId: string): Promise<void> {
    if (!this.#next.path.some(({ id }) => id === turnId)) await this.#loadPath();
  }

  // The chat that is shown.

  async #openHash(): Promise<void> {
    const chatId = /^#\/chat\/([0-9a-f-]{36})$/.exec(location.hash)?.[1] ?? null;
    if (chatId === this.#next.chatId) return;
    this.#visit += 1;
    for (const [id, state] of this.#live) if (state.ended) this.#live.delete(id);
    this.#liveChanged = true;
    this.#set({ chatId, visit: this.#visit, options: {}, chat: null, path: [], earlier: null, failure: null, isLoading: chatId !== null });
    await this.#loadPath();
  }

  async #loadPath(): Promise<void> {
    const { chatId } = this.#next;
    const visit = this.#visit;
    if (chatId === null) return;
    await this.#attempt(async () => {
      const [chat, { turns, previous }] = await Promise.all([request<ChatRecord>(`chats/${chatId}`), readPath(chatId)]);
      if (visit !== this.#visit) return;
      this.#set({ chat, path: turns, earlier: previous });
      this.#settle();
    });
    if (visit === this.#visit) this.#set({ isLoading: false });
  }

  /** Read turns that are not over in the path, but whose events do not come: they ended, wait, or are not followed yet. */
  #settle(): void {
    if (this.#settling !== null) clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      this.#settling = null;
      const silent = this.#next.path.filter(({ id, status }) => {
        const state = this.#live.get(id);
        return !isOver(status) && (!hasBegun(state) || state.ended);
      });
      if (silent.length === 0) return;
      void Promise.all(silent.map(({ id }) => this.#refresh(id))).then(() => { this.#settle(); });
    }, 1500);
  }

  async #refresh(turnId: string): Promise<void> {
    await this.#quietly(async () => {
      const turn = await request<TurnRecord>(`turns/${turnId}`);
      const path = this.#next.path.map((known) => (known.id === turnId ? { ...turn, siblings: known.siblings ?? [] } : known));
      this.#set({ path });
    });
  }

  async #reload(): Promise<void> {
    await Promise.all([this.loadChats(), this.#loadPath()]);
  }

  async #newChat(text: string): Promise<string> {
    const title = text.trim().split("\n", 1)[0]?.slice(0, 80) ?? "";
    const chat = await request<ChatRecord>("chats", { method: "POST", body: title === "" ? {} : { title } });
    this.#visit += 1;
    this.#upsert(chat);
    this.#set({ chatId: chat.id, chat });
    history.replaceState(null, "", `#/chat/${chat.id}`);
    return chat.id;
  }

  #upsert(chat: ChatRecord): void {
    const others = this.#next.chats.filter(({ id }) => id !== chat.id);
    const chats = [chat, ...others].sort((one, other) => (one.updated_at < other.updated_at ? 1 : -1));
    this.#set({ chats, ...(chat.id === this.#next.chatId && { chat }) });
  }

  #forget(chatId: string): void {
    this.#set({ chats: this.#next.chats.filter(({ id }) => id !== chatId) });
    for (const [id, state] of this.#live) if (state.chat_id === chatId) this.#live.delete(id);
    if (this.#next.chatId === chatId) this.go(null);
  }

  // The session, and the publication of changes.

  #enter(session: SessionRecord): void {
    this.#set({ session, failure: null });
    if (!session.signed_in || this.#close !== null) return;
    this.#close = shareFrames(this);
    void this.#openHash();
    void this.#attempt(async () => { this.#set({ models: await request<ModelRecord[]>("models") }); });
    void this.loadChats();
  }

  #leave(): void {
    this.#close?.();
    this.#close = null;
    this.#live.clear();
    this.#liveChanged = true;
    this.#visit += 1;
    const session = { signed_in: false, needs_key: this.#next.session?.needs_key ?? true };
    this.#set({ ...EMPTY, session });
  }

  /** Return true if `work` succeeds. Its failure is shown. */
  async #attempt(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (!(error instanceof TurnstreamError)) throw error;
      this.#set({ failure: { message: error.message, nextStep: error.nextStep } });
      if (error.status === 401 && this.#next.session?.signed_in === true) this.#leave();
      return false;
    }
  }

  /** Do what the next event or load makes good if it fails. */
  async #quietly(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof TurnstreamError)) throw error;
      console.warn("turnstream:", error.message);
    }
  }

  #set(change: Partial<Snapshot>): void {
    this.#next = { ...this.#next, ...change };
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    atNextFrame(() => {
      this.#isScheduled = false;
      if (this.#liveChanged) {
        this.#liveChanged = false;
        this.#next = { ...this.#next, live: new Map(this.#live) };
      }
      this.#snapshot = this.#next;
      for (const listener of this.#listeners) listener();
    });
  }
}

export interface ShownTurn {
  readonly status: TurnRecord["status"];
  readonly blocks: ReturnType<typeof blocksOf>;
}

/** Return true if a state has more than the announcement of its turn. */
export function hasBegun(state: TurnState | undefined): state is TurnState {
  return state !== undefined && state.status !== "pending";
}

/** Return the turn of a path that has not ended, or null. */
export function runningTurn({ path, live }: Pick<Snapshot, "path" | "live">): TurnRecord | null {
  const last = path.at(-1);
  if (last?.role !== "assistant" || isOver(last.status)) return null;
  return live.get(last.id)?.ended === true ? null : last;
}

function readPath(chatId: string, before?: string): Promise<PathRecord> {
  const query = new URLSearchParams({ limit: String(PAGE), media: "omit", ...(before !== undefined && { before }) });
  return request<PathRecord>(`chats/${chatId}/path?${query.toString()}`);
}

function merged(known: readonly ChatRecord[], more: readonly ChatRecord[]): readonly ChatRecord[] {
  const ids = new Set(known.map(({ id }) => id));
  return [...known, ...more.filter(({ id }) => !ids.has(id))];
}

/** Return a turn without the data of its images and documents: the page shows them by their addresses. */
function withoutData(turn: TurnRecord): TurnRecord {
  const blocks = turn.blocks.map((block) => {
    const { data, ...content } = block.content ?? {};
    return data === undefined ? block : { ...block, content };
  });
  return { ...turn, blocks };
}

/** Return a new key of a request. `crypto.randomUUID` is missing over plain HTTP. */
function randomKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Call `then` at the next frame, or after 100 ms in a tab that draws none. */
function atNextFrame(then: () => void): void {
  const once = () => {
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    then();
  };
  const timer = setTimeout(once, 100);
  const frame = requestAnimationFrame(once);
}
