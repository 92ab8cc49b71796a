// React hooks over the stores.

import { useEffect, useMemo, useState, useSyncExternalStore } from "react";

import { type ChatSnapshot, ChatStore } from "./chat_store.js";
import { type Block, blocksOf, type TurnState } from "./fold.js";
import type { LiveEvents } from "./live/live_events.js";
import type { Turnstream } from "./turnstream.js";
import type { WatchedTurn, WatchState } from "./watched_turn.js";

/** A chat's store and its snapshot. The component renders when messages change, not when an answer grows. */
export function useChat(client: Turnstream, chatId: string | null = null): ChatSnapshot & { readonly chat: ChatStore } {
  const chat = useMemo(() => new ChatStore(client, chatId), [client, chatId]);
  const snapshot = useSyncExternalStore(chat.subscribe, chat.getSnapshot, chat.getSnapshot);
  return useMemo(() => ({ ...snapshot, chat }), [snapshot, chat]);
}

export interface TurnView {
  readonly turn: TurnState;
  /** The turn's blocks. A block that did not change is the same object as before, for `memo`. */
  readonly blocks: readonly Block[];
  readonly connection: WatchState;
}

/** The state of a turn. The component renders at most once per frame, and only when this turn changes. */
export function useTurn(turn: WatchedTurn): TurnView;
export function useTurn(turn: WatchedTurn | null): TurnView | null;
export function useTurn(turn: WatchedTurn | null): TurnView | null {
  const { subscribe, getSnapshot } = turn ?? NO_TURN;
  const snapshot = useSyncExternalStore(subscribe, getSnapshot, getSnapshot);
  return useMemo(() => snapshot && { ...snapshot, blocks: blocksOf(snapshot.turn) }, [snapshot]);
}

const NO_TURN = { subscribe: () => () => undefined, getSnapshot: () => null };

/** The state of the connection of many turns, and the running turns with the ids of their chats. */
export function useLiveEvents(live: LiveEvents): { readonly connection: WatchState; readonly running: ReadonlyMap<string, string> } {
  const connection = useSyncExternalStore(live.subscribe, live.getSnapshot, live.getSnapshot);
  const running = useSyncExternalStore(live.subscribe, live.getRunning, live.getRunning);
  return { connection, running };
}

/** Seconds until the next attempt of a lost connection, or null. */
export function useRetryCountdown(connection: WatchState): number | null {
  const at = connection.kind === "retrying" ? connection.at : null;
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (at === null) return;
    const timer = setInterval(() => {
      setNow(Date.now());
    }, 1000);
    return () => {
      clearInterval(timer);
    };
  }, [at]);
  return at === null ? null : Math.max(0, Math.ceil((at - now) / 1000));
}
