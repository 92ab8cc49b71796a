// The state of the page: the session, the chat that is shown, and what the reader has chosen.

import { type CallBody, type ChatEvent, type Model, TurnstreamError, type UserBlock } from "@turnstream/client";
import { ChatStore } from "@turnstream/client/chat";
import { LiveEvents } from "@turnstream/client/live";
import { exportChat, type ExportForm } from "../chat/exported";
import { API, client, request } from "./api";
import { Chats } from "./chats";
import { Store } from "./store";

export interface Session {
  readonly signed_in: boolean;
  /** True if the server has a key, so that a browser can sign in and out. */
  readonly needs_key: boolean;
}

/** What the reader has chosen for the answers that follow. The rest is as in the answer before. */
export type CallOptions = Pick<CallBody, "model" | "system" | "params" | "alternatives">;

/** The question whose answers are, or are not, shown side by side, as the reader has chosen. */
export interface Comparison {
  readonly questionId: string | null;
  readonly isShown: boolean;
}

export interface PageSnapshot {
  readonly session: Session | null;
  /** The chat that is shown. A new chat has no id until its first message is sent. */
  readonly chat: ChatStore;
  /** Rises whenever another chat is opened. */
  readonly visit: number;
  readonly models: readonly Model[];
  readonly options: CallOptions;
  readonly comparison: Comparison | null;
  /** `STATISTICS`, or null for the chat. */
  readonly view: typeof STATISTICS | null;
  /** The last failure, until it is dismissed or something succeeds. */
  readonly failure: TurnstreamError | null;
}

/** Hash of the address at which the statistics are shown. */
export const STATISTICS = "#/statistics";

export class Page extends Store<PageSnapshot> {
  readonly chats: Chats;
  /** The events of all turns, read by one tab of the browser for all of its tabs. */
  readonly live = new LiveEvents(client, { share: API.pathname });
  #isEntered = false;

  constructor() {
    super({ session: null, chat: new ChatStore(client, null), visit: 0, models: [], options: {}, comparison: null, view: null, failure: null });
    this.chats = new Chats((work) => this.attempt(work));
    this.live.onChatEvent((event) => { this.#take(event); });
    this.live.subscribe(() => { this.#checkConnection(); });
  }

  /** Read the session, and open the page if the browser is signed in. */
  async start(): Promise<void> {
    window.addEventListener("hashchange", () => { this.#openHash(); });
    await this.attempt(async () => { this.#enter(await request<Session>("session")); });
  }

  async signIn(key: string): Promise<void> {
    await this.attempt(async () => { this.#enter(await request<Session>("session", { method: "POST", body: { key } })); });
  }

  async signOut(): Promise<void> {
    await this.attempt(async () => {
      await request("session", { method: "DELETE" });
      this.#leave();
    });
  }

  go(chatId: string | null): void {
    location.hash = chatId === null ? "#/" : `#/chat/${chatId}`;
  }

  setOptions(options: CallOptions): void {
    this.set({ options });
  }

  compare(comparison: Comparison): void {
    this.set({ comparison });
  }

  dismiss(): void {
    this.set({ failure: null });
  }

  /** Send a message in the shown chat. Return false if the server does not have it. */
  async send(text: string, files: readonly UserBlock[]): Promise<boolean> {
    const { chat, options } = this.getSnapshot();
    const title = text.trim().split("\n", 1)[0]?.slice(0, 80) ?? "";
    const blocks: UserBlock[] = [...files, ...(text === "" ? [] : [{ block_type: "text" as const, text_content: text }])];
    return this.attempt(async () => {
      // A model that the server uses for titles may replace this one. A title that a reader gives stays.
      await chat.send(blocks, { ...options, chat: { ...(title !== "" && { title }), metadata: { provisional_title: true } } });
    });
  }

  /** Stop the answer that is being written, and the alternatives that are written beside it. */
  async stop(): Promise<void> {
    const { messages, running } = this.getSnapshot().chat.getSnapshot();
    const started = this.live.getRunning();
    const answer = running === null ? messages.at(-1) : messages.find(({ live }) => live === running);
    const ids = answer?.siblings.filter((id) => id === running?.id || started.has(id)) ?? [];
    await this.attempt(() => Promise.all(ids.map((id) => client.stop(id))));
  }

  async exportChat(form: ExportForm): Promise<void> {
    const { shown } = this.chats.getSnapshot();
    if (shown !== null) await this.attempt(() => exportChat(shown, form));
  }

  /** Return true if `work` succeeds. Its failure is shown. */
  async attempt(work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      if (this.getSnapshot().failure !== null) this.dismiss();
      return true;
    } catch (error) {
      if (!(error instanceof TurnstreamError)) throw error;
      this.set({ failure: error });
      if (error.status === 401) this.#leave();
      return false;
    }
  }

  #enter(session: Session): void {
    this.set({ session, failure: null });
    if (!session.signed_in || this.#isEntered) return;
    this.#isEntered = true;
    this.live.start();
    this.#openHash();
    void this.attempt(async () => { this.set({ models: await request<readonly Model[]>("models") }); });
    void this.chats.read();
  }

  #leave(): void {
    const { session } = this.getSnapshot();
    if (session?.signed_in !== true) return;
    this.#isEntered = false;
    this.live.close();
    this.chats.clear();
    // Nothing of the chat stays in the page.
    this.set({ session: { ...session, signed_in: false }, chat: new ChatStore(client, null), visit: 0, options: {}, comparison: null });
  }

  #openHash(): void {
    const view = location.hash === STATISTICS ? STATISTICS : null;
    if (view !== this.getSnapshot().view) this.set({ view });
    if (view !== null) return;
    const chatId = /^#\/chat\/([0-9a-f-]{36})$/.exec(location.hash)?.[1] ?? null;
    const { chat, visit } = this.getSnapshot();
    if (chatId === chat.getSnapshot().chat_id && visit > 0) return;
    const opened = new ChatStore(client, chatId, (created) => {
      this.chats.put(created);
      if (this.getSnapshot().chat !== opened) return;
      history.replaceState(null, "", `#/chat/${created.id}`);
      void this.chats.show(created.id);
    });
    this.set({ chat: opened, visit: visit + 1, options: {}, comparison: null, failure: null });
    void this.chats.show(chatId);
  }

  #take(event: ChatEvent): void {
    const { chat } = this.getSnapshot();
    this.chats.take(event);
    chat.takeChatEvent(event);
    if (event.type === "chat_deleted" && event.chat_id === chat.getSnapshot().chat_id) this.go(null);
  }

  #checkConnection(): void {
    const connection = this.live.getSnapshot();
    if (connection.kind !== "failed") return;
    if (connection.error.status === 401 || connection.error.status === 403) this.#leave();
    else this.set({ failure: connection.error });
  }
}
