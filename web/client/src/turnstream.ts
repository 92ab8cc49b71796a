// The API of a server: chats, turns, and the streams of turns.

import type {
  Approval,
  CallBody,
  Chat,
  ChatList,
  Interrupt,
  Model,
  Path,
  Started,
  Statistics,
  StoredTurn,
  ToolResult,
  TurnList,
  UserBlock,
} from "./answers.js";
import { type Retry, RETRY, type Transport } from "./following.js";
import { fetchReader, type StreamReader } from "./reading.js";
import { ask, type JsonRequest, newKey, path, query } from "./requests.js";
import { WatchedTurn } from "./watched_turn.js";

export type Headers = Readonly<Record<string, string>>;

export interface TurnstreamOptions {
  /** Address of the routes, such as `/api` or `https://host/api`. Default: `/api`. */
  readonly baseUrl?: string;
  /** Headers of each request, or a function that returns them, for example with a fresh token. */
  readonly headers?: Headers | (() => Headers | Promise<Headers>);
  readonly fetch?: typeof fetch;
  /** Reads the streams. Default: `fetchReader`. */
  readonly reader?: StreamReader;
  readonly retry?: Partial<Retry>;
}

/** Days in UTC, both included, as `2026-01-31`. Left out: the last 30 days. */
export interface StatisticsOptions {
  readonly first_day?: string;
  readonly last_day?: string;
  readonly signal?: AbortSignal;
}

/** A text, or blocks as in PROTOCOL.md. */
export type Message = string | readonly UserBlock[];

/** Options of a model call. The server chooses what is left out. */
export interface SendOptions extends CallBody {
  /** The turn that the message follows. Left out: a new conversation begins in the chat. */
  readonly prev_turn_id?: string | null;
  /** The same key and message never start a second turn. Default: a new key for each call. */
  readonly key?: string;
  readonly signal?: AbortSignal;
}

export type RegenerateOptions = Omit<SendOptions, "prev_turn_id">;

export interface PageOptions {
  readonly limit?: number;
  /** Value of the last page's `next` or `previous`. */
  readonly before?: string | null;
  readonly signal?: AbortSignal;
}

export interface PathOptions extends PageOptions {
  /** The branch of this turn. Left out: the shown branch. */
  readonly turn_id?: string;
  /** `omit` leaves out the data of images and documents: a block's own address has it. */
  readonly media?: "data" | "omit";
}

/** A chat that is created. */
export interface NewChat {
  readonly title?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** Watched turns that are remembered without subscribers. */
const MOST_TURNS = 200;

export class Turnstream {
  /** Address of the routes, without a slash at its end. */
  readonly root: string;
  readonly transport: Transport;
  /** Feeds a new turn from a stream of many turns, while there is one (`LiveEvents`). */
  feed: ((turn: WatchedTurn) => void) | null = null;
  readonly #turns = new Map<string, WatchedTurn>();

  constructor(options: TurnstreamOptions = {}) {
    const { baseUrl = "/api", headers = {}, reader = fetchReader, retry } = options;
    const page = (globalThis as { location?: { href: string } }).location?.href;
    this.root = new URL(baseUrl, page).href.replace(/\/+$/, "");
    this.transport = {
      fetch: options.fetch ?? ((...request) => globalThis.fetch(...request)),
      reader,
      retry: { ...RETRY, ...retry },
      headers: async () => (typeof headers === "function" ? headers() : headers),
    };
  }

  /** Create a chat. The request is repeated only if it certainly created none. */
  createChat(chat: NewChat = {}, signal?: AbortSignal): Promise<Chat> {
    return this.ask("POST", "/chats", chat, { signal });
  }

  /**
   * Read a page of the chats, last changed first. `search`: a text in their titles and messages. One page of a
   * search has only the finds among 1000 chats: `next` continues it, also after a page without any.
   */
  chats({ signal, ...page }: PageOptions & { readonly search?: string } = {}): Promise<ChatList> {
    return this.#get(`/chats${query({ ...page })}`, signal);
  }

  readChat(chatId: string): Promise<Chat> {
    return this.#get(path`/chats/${chatId}`);
  }

  changeChat(
    chatId: string,
    change: { title?: string | null; metadata?: Readonly<Record<string, unknown>>; active_turn_id?: string },
  ): Promise<Chat> {
    return this.ask("PATCH", path`/chats/${chatId}`, change);
  }

  /** Show the branch of a turn. */
  showBranch(chatId: string, turnId: string): Promise<Chat> {
    return this.changeChat(chatId, { active_turn_id: turnId });
  }

  /** Delete a chat and its turns. Running turns are stopped. */
  deleteChat(chatId: string): Promise<void> {
    return this.ask("DELETE", path`/chats/${chatId}`);
  }

  /** Read a branch of a chat with its blocks, or its last `limit` turns. Default: the shown branch. */
  path(chatId: string, { signal, ...page }: PathOptions = {}): Promise<Path> {
    return this.#get(`${path`/chats/${chatId}/path`}${query({ ...page })}`, signal);
  }

  /** Send a message and start the answer. A repetition after a lost answer never starts a second turn. */
  send(chatId: string, message: Message, options: SendOptions = {}): Promise<Started> {
    return this.#start(path`/chats/${chatId}/turns`, { ...options }, { turn_blocks: message });
  }

  /** Replace a user turn in a new branch, and start an answer to it. */
  edit(turn: Pick<StoredTurn, "chat_id" | "prev_turn_id">, message: Message, options: RegenerateOptions = {}) {
    return this.send(turn.chat_id, message, { ...options, prev_turn_id: turn.prev_turn_id });
  }

  /** Start another answer beside the existing ones. `turnId`: an answer or a user turn. */
  regenerate(turnId: string, options: RegenerateOptions = {}): Promise<Started> {
    return this.#start(path`/turns/${turnId}/regenerate`, { ...options });
  }

  /** Send the results of tools that the client runs, and start the answer to them. */
  sendToolResults(turn: Pick<StoredTurn, "id" | "chat_id">, results: readonly ToolResult[], options: RegenerateOptions = {}) {
    const blocks = results.map((result) => ({ block_type: "tool_result" as const, content: result }));
    return this.send(turn.chat_id, blocks, { ...options, prev_turn_id: turn.id });
  }

  /** Answer an approval request. Repeating the same answer is safe. */
  approve(turnId: string, approvalId: string, answer: { approved: boolean; reason?: string }): Promise<Approval> {
    return this.ask("POST", path`/turns/${turnId}/approvals/${approvalId}`, answer, { repeatable: true });
  }

  /** Stop a turn, and return its status. A turn that has ended does not change. */
  stop(turnId: string): Promise<Interrupt> {
    return this.ask("POST", path`/turns/${turnId}/interrupt`, undefined, { repeatable: true });
  }

  readTurn(turnId: string): Promise<StoredTurn> {
    return this.#get(path`/turns/${turnId}`);
  }

  siblings(turnId: string, { signal, ...page }: PageOptions = {}): Promise<TurnList> {
    return this.#get(`${path`/turns/${turnId}/siblings`}${query({ ...page })}`, signal);
  }

  models(): Promise<readonly Model[]> {
    return this.#get("/models");
  }

  /** Return tokens, cost, times, errors and fallbacks of the caller's model calls, by model and day in UTC. */
  statistics({ signal, ...days }: StatisticsOptions = {}): Promise<Statistics> {
    return this.#get(`/stats${query({ ...days })}`, signal);
  }

  /** Return the store of a turn. All callers share one store and one connection per turn. */
  turn(turnId: string, after: string | null = null): WatchedTurn {
    let turn = this.#turns.get(turnId);
    if (!turn) {
      turn = new WatchedTurn(this.transport, this.root + path`/turns/${turnId}/stream`, turnId, after);
      this.#forget();
      this.#turns.set(turnId, turn);
      this.feed?.(turn);
    }
    return turn;
  }

  #forget(): void {
    for (const [id, turn] of this.#turns) {
      if (this.#turns.size < MOST_TURNS) return;
      if (!turn.subscribed && !turn.fed) this.#turns.delete(id);
    }
  }

  #start(path: string, options: SendOptions, more: object = {}): Promise<Started> {
    const { key = newKey(), signal, ...body } = options;
    return this.ask("POST", path, { ...body, ...more }, { key, signal });
  }

  #get<Answer>(path: string, signal?: AbortSignal): Promise<Answer> {
    return this.ask("GET", path, undefined, { signal });
  }

  /** Send any request to the server's routes, and return its JSON. Throws a TurnstreamError. */
  ask<Answer>(
    method: "GET" | "POST" | "PATCH" | "DELETE",
    path: string,
    body?: unknown,
    more: Pick<JsonRequest, "key" | "repeatable" | "signal"> = {},
  ): Promise<Answer> {
    return ask(this.root, this.transport, { method, path, body, ...more });
  }
}

/** Return a client of the server at `baseUrl`. */
export function createTurnstream(options?: TurnstreamOptions): Turnstream {
  return new Turnstream(options);
}
