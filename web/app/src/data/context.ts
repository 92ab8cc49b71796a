import { createContext, use, useSyncExternalStore } from "react";
import type { PageStore, Snapshot } from "./store";

export const StoreContext = createContext<PageStore | null>(null);

export function useStore(): PageStore {
  const store = use(StoreContext);
  if (store === null) throw new Error("the page has no store");
  return store;
}

/** Return a part of the page's state. The component renders again when this part is another object. */
export function useSnapshot<Part>(select: (snapshot: Snapshot) => Part): Part {
  const store = useStore();
  return useSyncExternalStore(store.subscribe, () => select(store.getSnapshot()));
}
