import type { ChatSnapshot } from "@turnstream/client/chat";
import { createContext, use, useSyncExternalStore } from "react";
import type { ChatsSnapshot } from "./chats";
import type { Page, PageSnapshot } from "./page";

export const PageContext = createContext<Page | null>(null);

export function usePage(): Page {
  const page = use(PageContext);
  if (page === null) throw new Error("the page has no state");
  return page;
}

interface Watchable<Snapshot> {
  readonly subscribe: (listener: () => void) => () => void;
  readonly getSnapshot: () => Snapshot;
}

/** Return a part of a store. The component renders again when this part is another object. */
function useSelected<Snapshot, Part>(store: Watchable<Snapshot>, select: (snapshot: Snapshot) => Part): Part {
  return useSyncExternalStore(store.subscribe, () => select(store.getSnapshot()));
}

export function usePagePart<Part>(select: (snapshot: PageSnapshot) => Part): Part {
  return useSelected(usePage(), select);
}

export function useChatsPart<Part>(select: (snapshot: ChatsSnapshot) => Part): Part {
  return useSelected(usePage().chats, select);
}

/** Return a part of the shown chat. */
export function useChatPart<Part>(select: (snapshot: ChatSnapshot) => Part): Part {
  return useSelected(usePagePart(({ chat }) => chat), select);
}
