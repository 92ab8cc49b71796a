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
    const message = `the server answers ${type}, not an event stream`;
    throw new TurnstreamError(message, { code: "unexpected_answer" });
  }
  sink.opened(true);
  const bytes = response.body.getReader();
  const text = new TextDecoder();
  const decoder = new SseDecoder();
  let skipped = 0;
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
    if (decoder.skipped > skipped) {
      skipped = decoder.skipped;
      console.warn(`turnstream: ${skipped} lines of the stream are no server-sent events, and were skipped`);
    }
    if (decoder.retry !== null) {
      sink.retry(decoder.retry);
      decoder.retry = null;
    }
  }
};
