// Readers of an event stream: one connection each. They parse, and know nothing of the events.

import { lostConnection, refusal, TurnstreamError } from "./errors.js";
import { type Frame, SseDecoder } from "./sse.js";

export interface StreamRequest {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The id of the last complete event, or null. */
  readonly lastId: string | null;
  /** Aborts the connection. */
  readonly signal: AbortSignal;
  readonly fetch: typeof fetch;
}

/** Gets what a connection brings. */
export interface FrameSink {
  /** The server has accepted the request: events of a new connection follow. `heard`: comments are seen. */
  opened(heard: boolean): void;
  /** Bytes came, perhaps only a comment. */
  alive(): void;
  /** One complete event came. */
  frame(frame: Frame): void;
  /** The server asks for this delay in milliseconds before the next connection. */
  retry(milliseconds: number): void;
}

/**
 * Read one connection until it ends. Resolves to `"nothing"` if the server says that nothing follows (204),
 * else to `"closed"`. Rejects with a TurnstreamError if the request is refused or the connection fails.
 */
export type StreamReader = (request: StreamRequest, sink: FrameSink) => Promise<"closed" | "nothing">;

/** Read a stream by `fetch`, which can send headers and sees the status of each answer. */
export const fetchReader: StreamReader = async (request, sink) => {
  const headers: Record<string, string> = { ...request.headers, Accept: "text/event-stream" };
  if (request.lastId !== null) headers["Last-Event-ID"] = request.lastId;
  let response: Response;
  try {
    response = await request.fetch(request.url, { headers, signal: request.signal, cache: "no-store" });
  } catch (error) {
    throw lostConnection(error);
  }
  if (response.status === 204) return "nothing";
  if (response.status !== 200) throw await refusal(response);
  const type = response.headers.get("Content-Type") ?? "nothing";
  if (!type.startsWith("text/event-stream") || !response.body) {
    await response.body?.cancel();
    const message = `the server answers ${type}, not an event stream: is this the address of a turnstream server?`;
    throw new TurnstreamError(message, { code: "unexpected_answer" });
  }
  sink.opened(true);
  const bytes = response.body.getReader();
  const text = new TextDecoder();
  const decoder = new SseDecoder();
  for (;;) {
    let read: ReadableStreamReadResult<Uint8Array>;
    try {
      read = await bytes.read();
    } catch (error) {
      throw lostConnection(error);
    }
    if (read.done) return "closed";
    sink.alive();
    for (const frame of decoder.feed(text.decode(read.value, { stream: true }))) {
      if (request.signal.aborted) return "closed";
      sink.frame(frame);
    }
    if (decoder.retry !== null) {
      sink.retry(decoder.retry);
      decoder.retry = null;
    }
  }
};

/**
 * Read a stream by `EventSource`, for pages whose policy or proxy allows nothing else. It sends cookies, but no
 * headers. It does not see comments: so silence between events does not count as a lost connection, and the
 * browser alone notices a dead one.
 *
 * @param names names of the events to read
 */
export function eventSourceReader(names: readonly string[], Source: typeof EventSource = EventSource): StreamReader {
  return async (request, sink) => {
    const url = new URL(request.url);
    if (request.lastId !== null) url.searchParams.set("after", request.lastId);
    const source = new Source(url, { withCredentials: true });
    let isOpen = false;
    try {
      return await new Promise<"closed">((resolve, reject) => {
        request.signal.addEventListener("abort", () => {
          resolve("closed");
        });
        source.onopen = () => {
          isOpen = true;
          sink.opened(false);
        };
        // The browser's own reconnecting knows no limit. Each connection is a new EventSource.
        source.onerror = () => {
          if (isOpen) resolve("closed");
          else reject(lostConnection(undefined));
        };
        for (const name of names) {
          source.addEventListener(name, ({ data, lastEventId }: MessageEvent<string>) => {
            if (request.signal.aborted) return;
            sink.alive();
            sink.frame({ event: name, data, id: lastEventId || null });
          });
        }
      });
    } catch (error) {
      // An EventSource hides the status. The same request by fetch shows it.
      const probe = await request.fetch(url, { headers: { ...request.headers, Accept: "text/event-stream" } });
      await probe.body?.cancel();
      if (probe.status === 204) return "nothing";
      if (probe.status !== 200) throw await refusal(probe);
      throw error;
    } finally {
      source.close();
    }
  };
}
