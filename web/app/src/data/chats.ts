// The list of chats, and the record of the chat that is shown.

import type { Chat, ChatEvent } from "@turnstream/client";
import { visibleText } from "../markdown/visibleText";
import { client } from "./api";
import { Store } from "./store";

const PAGE = 50;
/** Requests of one search until the first find. Each searches 1000 chats. */
const MOST_REQUESTS = 10;

export interface ChatsSnapshot {
  /** Chats that were read, last changed first. */
  readonly list: readonly Chat[];
  /** Position of the next page of chats; null on the last page. */
  readonly next: string | null;
  readonly search: string;
  /** The record of the shown chat, or null. */
  readonly shown: Chat | null;
}

const EMPTY: ChatsSnapshot = { list: [], next: null, search: "", shown: null };

export class Chats extends Store<ChatsSnapshot> {
  readonly #attempt: (work: () => Promise<void>) => Promise<boolean>;
  #shownId: string | null = null;

  /** @param attempt does a work, and shows its failure */
  constructor(attempt: (work: () => Promise<void>) => Promise<boolean>) {
    super(EMPTY);
    this.#attempt = attempt;
  }

  clear(): void {
    this.#shownId = null;
    this.set(EMPTY);
  }

  /** Read the first page of a search, or the page after the last one. */
  async read(search = this.getSnapshot().search, more = false): Promise<void> {
    if (!more) this.set({ search });
    let before = more ? this.getSnapshot().next : null;
    await this.#attempt(async () => {
      let read = await client.chats({ limit: PAGE, before, ...(search !== "" && { search }) });
      for (let requests = 1; requests < MOST_REQUESTS; requests += 1) {
        if (search !== this.getSnapshot().search) return;
        if (read.chats.length > 0 || read.next === null) break;
        before = read.next;
        read = await client.chats({ limit: PAGE, before, search });
      }
      const { chats, next } = read;
      const { list, search: now } = this.getSnapshot();
      if (search !== now) return;
      const known = more ? list : [];
      const ids = new Set(known.map(({ id }) => id));
      this.set({ list: [...known, ...chats.filter(({ id }) => !ids.has(id))], next });
    });
  }

  /** Show the record of a chat: of the list, else it is read. */
  async show(chatId: string | null): Promise<void> {
    this.#shownId = chatId;
    this.set({ shown: this.getSnapshot().list.find(({ id }) => id === chatId) ?? null });
    if (chatId !== null && this.getSnapshot().shown === null) await this.#read(chatId);
  }

  async change(chat: Chat, change: { title?: string; metadata?: Chat["metadata"] }): Promise<void> {
    await this.#attempt(async () => { this.put(await client.changeChat(chat.id, change)); });
  }

  async delete(chatId: string): Promise<void> {
    await this.#attempt(async () => {
      await client.deleteChat(chatId);
      this.#forget(chatId);
    });
  }

  /** Take an event of a chat, of this browser or another one. */
  take(event: ChatEvent): void {
    switch (event.type) {
      case "events_start":
        void this.read();
        if (this.#shownId !== null) void this.#read(this.#shownId);
        return;
      case "chat_created":
      case "chat_changed": {
        const { list, shown, search } = this.getSnapshot();
        const known = list.find(({ id }) => id === event.chat_id) ?? (shown?.id === event.chat_id ? shown : null);
        const { title, updated_at, active_turn_id } = event;
        if (known !== null) this.put({ ...known, title, updated_at, active_turn_id });
        else if (search === "") void this.#read(event.chat_id);
        return;
      }
      case "chat_deleted":
        this.#forget(event.chat_id);
        return;
      default:
    }
  }

  async #read(chatId: string): Promise<void> {
    try {
      this.put(await client.readChat(chatId));
    } catch (error) {
      // The next event of the chat, or its own view, says the same.
      console.warn("turnstream: a chat could not be read:", error);
    }
  }

  /** Add a chat to the list, or replace it. */
  put(chat: Chat): void {
    const { list, search, next } = this.getSnapshot();
    const others = list.filter(({ id }) => id !== chat.id);
    // A chat that is older than all of them belongs to a later page.
    const isListed = others.length < list.length || (search === "" && (next === null || chat.updated_at >= (list.at(-1)?.updated_at ?? "")));
    this.set({
      ...(isListed && { list: [chat, ...others].sort((one, other) => (one.updated_at < other.updated_at ? 1 : -1)) }),
      ...(chat.id === this.#shownId && { shown: chat }),
    });
  }

  #forget(chatId: string): void {
    this.set({ list: this.getSnapshot().list.filter(({ id }) => id !== chatId) });
  }
}

export function isPinned(chat: Chat): boolean {
  return chat.metadata.pinned === true;
}

export function titleOf(chat: Chat): string {
  return chat.title === null || chat.title === "" ? "Untitled chat" : visibleText(chat.title);
}
