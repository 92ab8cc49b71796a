// The events of all turns, read by one tab of a browser for all of its tabs. A browser allows six connections to a
// server over HTTP/1.1, so eight tabs with a stream each would block all requests.

import { fetchReader, follow, RETRY, type ConnectionState, type Followed, type Frame, TurnstreamError } from "@turnstream/client";
import { API, HEADERS } from "./api";

const NAME = `turnstream ${API.pathname}`;

/** What tabs send each other. */
type Message =
  | { readonly kind: "frames"; readonly frames: readonly Frame[] }
  | { readonly kind: "connection"; readonly state: Connection }
  | { readonly kind: "hello" }
  | { readonly kind: "snapshot"; readonly state: unknown; readonly lastId: string | null; readonly connection: Connection };

/** The state of the one connection. `refused`: the server does not know this browser any more. */
export type Connection = "connecting" | "open" | "lost" | "refused";

export interface FrameReceiver {
  /** Take events that all tabs get, in order. */
  frames(frames: readonly Frame[]): void;
  connection(state: Connection): void;
  /** Return the state that a new tab needs. It is plain data. */
  snapshot(): unknown;
  /** Replace the state by that of another tab. */
  restore(snapshot: unknown): void;
}

/** Give events to `receiver` until the returned function is called. */
export function shareFrames(receiver: FrameReceiver): () => void {
  const closing = new AbortController();
  // Without these, as over plain HTTP from another machine, each tab has its own connection.
  const isShared = "locks" in navigator && "BroadcastChannel" in window;
  const channel = isShared ? new BroadcastChannel(NAME) : null;
  let lastId: string | null = null;
  let connection: Connection = "connecting";
  let isLeader = !isShared;
  let knows = false;
  let waiting: Frame[] = [];

  const post = (message: Message) => {
    if (!closing.signal.aborted) channel?.postMessage(message);
  };
  const take = (frames: readonly Frame[]) => {
    lastId = frames.at(-1)?.id ?? lastId;
    receiver.frames(frames);
  };
  const report = (state: Connection) => {
    connection = state;
    receiver.connection(state);
    if (isLeader) post({ kind: "connection", state });
  };
  const flush = () => {
    const frames = waiting;
    waiting = [];
    if (frames.length === 0 || closing.signal.aborted) return;
    take(frames);
    post({ kind: "frames", frames });
  };

  if (channel !== null) {
    channel.onmessage = ({ data }: MessageEvent<Message>) => {
      switch (data.kind) {
        case "hello":
          if (isLeader) {
            flush();
            post({ kind: "snapshot", state: receiver.snapshot(), lastId, connection });
          }
          break;
        case "snapshot":
          if (!isLeader && !knows) {
            knows = true;
            lastId = data.lastId;
            receiver.restore(data.state);
            report(data.connection);
          }
          break;
        case "frames":
          // Events before the snapshot are part of it.
          if (!isLeader && knows) take(data.frames);
          break;
        case "connection":
          if (!isLeader && knows) report(data.state);
          break;
      }
    };
    post({ kind: "hello" });
  }

  const lead = async () => {
    isLeader = true;
    const followed: Followed = {
      url: new URL("events", API).href,
      lastId,
      ended: false,
      quiet: true,
      connected: () => undefined,
      nothingFollows: () => undefined,
      take(frame) {
        this.lastId = frame.id ?? this.lastId;
        // The events of one read go to the other tabs together.
        if (waiting.push(frame) === 1) queueMicrotask(flush);
        return true;
      },
    };
    const transport = { fetch: window.fetch.bind(window), reader: fetchReader, retry: RETRY, headers: () => Promise.resolve(HEADERS) };
    while (!closing.signal.aborted) {
      try {
        await follow(followed, transport, closing.signal, (state) => {
          const shown = connectionOf(state);
          if (shown !== null) report(shown);
        });
      } catch (error) {
        flush();
        const isRefused = error instanceof TurnstreamError && (error.status === 401 || error.status === 403);
        report(isRefused ? "refused" : "lost");
        if (isRefused) return;
        await pause(RETRY.maxDelay, closing.signal);
      }
    }
  };

  if (isShared) {
    navigator.locks.request(NAME, { signal: closing.signal }, lead).catch((error: unknown) => {
      if (!closing.signal.aborted) throw error;
    });
  } else {
    void lead();
  }
  return () => {
    closing.abort();
    channel?.close();
  };
}

function connectionOf(state: ConnectionState): Connection | null {
  switch (state.kind) {
    case "open":
      return "open";
    case "retrying":
      return "lost";
    case "connecting":
      return null;
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
