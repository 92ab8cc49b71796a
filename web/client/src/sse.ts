// Server-sent events out of text. Any split of the text gives the same events (WHATWG HTML 9.2).

import { TurnstreamError } from "./errors.js";

/** One event as it was received. `id` is the id of this event, or null if it has none. */
export interface Frame {
  readonly event: string;
  readonly data: string;
  readonly id: string | null;
}

/** Largest event, in characters. A catch-up contains a whole block. */
export const FRAME_LIMIT = 64 * 1024 * 1024;

const LINE_ENDS = /\r\n?/g;

/** Splits one response body into events. An unfinished event is discarded with its decoder. */
export class SseDecoder {
  /** Milliseconds of the last `retry:` line, or null. */
  retry: number | null = null;
  /** Number of lines that were skipped, because they are neither a field nor a comment. */
  skipped = 0;
  #line = "";
  #afterCarriageReturn = false;
  #event = "";
  #data: string[] = [];
  #size = 0;
  #id: string | null = null;
  readonly #limit: number;

  constructor(limit = FRAME_LIMIT) {
    this.#limit = limit;
  }

  /** Return the events that `text` completes. Throws a TurnstreamError if an event exceeds the limit. */
  feed(text: string): Frame[] {
    const frames: Frame[] = [];
    if (this.#afterCarriageReturn && text) {
      this.#afterCarriageReturn = false;
      if (text.startsWith("\n")) text = text.slice(1);
    }
    if (text.includes("\r")) {
      this.#afterCarriageReturn = text.endsWith("\r");
      text = text.replace(LINE_ENDS, "\n");
    }
    let start = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", start)) {
      this.#endLine(this.#line + text.slice(start, end), frames);
      this.#line = "";
      start = end + 1;
    }
    this.#line += text.slice(start);
    if (this.#size + this.#line.length > this.#limit) {
      throw new TurnstreamError(`an event has more than ${this.#limit} characters`, { code: "event_too_large" });
    }
    return frames;
  }

  #endLine(line: string, frames: Frame[]): void {
    if (!line) {
      if (this.#data.length) {
        frames.push({ event: this.#event || "message", data: this.#data.join("\n"), id: this.#id });
      }
      this.#event = "";
      this.#data = [];
      this.#size = 0;
      this.#id = null;
      return;
    }
    this.#size += line.length;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d{1,9}$/.test(value)) this.retry = Number(value);
    else if (field) this.skipped += 1;
  }
}
