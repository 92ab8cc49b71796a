import type { UIMessage } from "ai";

const keyOf = (id: string) => `chat ${id}`;

export interface Saved {
  messages: UIMessage[];
  isEnded: boolean;
}

const parsed = (text: string | null): Saved =>
  text === null ? { messages: [], isEnded: true } : (JSON.parse(text) as Saved);

/** The chat that this browser keeps. An application keeps it in its own database. */
export const savedChat = (id: string) => parsed(localStorage.getItem(keyOf(id)));

export const saveChat = (id: string, chat: Saved) => localStorage.setItem(keyOf(id), JSON.stringify(chat));

/** Calls `act` when another tab has saved the chat. Returns a function that ends this. */
export function onSaved(id: string, act: (chat: Saved) => void) {
  const changed = (event: StorageEvent) => {
    if (event.key === keyOf(id)) act(parsed(event.newValue));
  };
  addEventListener("storage", changed);
  return () => removeEventListener("storage", changed);
}
