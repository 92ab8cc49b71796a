// The tabs of a browser that read one stream together: one tab reads, and sends what it reads to the others.

import type { TurnState } from "../fold.js";
import type { Frame } from "../sse.js";

export type TabMessage =
  /** Events, as they were received together. */
  | { readonly frames: readonly Frame[] }
  /** The state of the connection. */
  | { readonly connection: TabConnection }
  /** A tab has come, and asks for the states of the running turns. */
  | { readonly hello: true }
  /** The answer to it. */
  | { readonly states: readonly TurnState[]; readonly lastId: string | null; readonly connection: TabConnection };

/** The state of a connection, without its error: a channel cannot carry that. */
export type TabConnection = { readonly kind: "connecting" | "open" } | { readonly kind: "retrying"; readonly at: number; readonly attempt: number };

export class TabChannel {
  readonly #name: string;
  #channel: BroadcastChannel | null = null;
  #reads = false;

  /** True if tabs can share. Pages without TLS have no locks: then each tab reads for itself. */
  static get isAvailable(): boolean {
    return typeof BroadcastChannel === "function" && typeof navigator === "object" && "locks" in navigator;
  }

  constructor(name: string) {
    this.#name = `turnstream.${name}`;
  }

  /**
   * Join the tabs until `signal` aborts. `read` runs while this tab is the one that reads: when it is the first,
   * or when the tab before it has closed. It goes on after the last event that this tab has received.
   */
  join(signal: AbortSignal, read: () => Promise<void>, receive: (message: TabMessage) => void): void {
    const channel = new BroadcastChannel(this.#name);
    this.#channel = channel;
    channel.onmessage = ({ data }: MessageEvent<TabMessage>) => {
      // The tab that reads knows all, and only answers. The others only listen.
      if (this.#reads === "hello" in data) receive(data);
    };
    signal.addEventListener("abort", () => {
      channel.close();
      this.#reads = false;
    });
    channel.postMessage({ hello: true } satisfies TabMessage);
    const held = navigator.locks.request(this.#name, { signal }, async () => {
      this.#reads = true;
      await read();
      this.#reads = false;
    });
    held.catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }

  /** Send a message to the other tabs, if this tab reads. */
  post(message: TabMessage): void {
    if (this.#reads) this.#channel?.postMessage(message);
  }
}
