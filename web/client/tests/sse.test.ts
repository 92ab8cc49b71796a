import fc from "fast-check";
import { expect, test } from "vitest";

import { TurnstreamError } from "../src/errors.js";
import { type Frame, SseDecoder } from "../src/sse.js";

/** Return the events of a body whose bytes come in pieces that end at `cuts`. */
function read(body: Uint8Array, cuts: readonly number[]): Frame[] {
  const decoder = new SseDecoder();
  const text = new TextDecoder();
  const frames: Frame[] = [];
  let start = 0;
  for (const end of [...cuts, body.length]) {
    frames.push(...decoder.feed(text.decode(body.subarray(start, end), { stream: true })));
    start = end;
  }
  return frames;
}

const BODY = [
  "\uFEFF: a comment\r\n\r\n",
  'event: one\r\ndata: {"text": "Grüße 👋"}\r\nid: 7-1\r\n\r\n',
  "data:two\rdata: lines\rid\r\r",
  "event: three\nretry: 250\ndata\nid: 7-3\nunknown: field\n\n",
  "event: empty\nid: 7-4\n\n",
  "data: \u2028 ends no line\n\n",
  "data: unfinished\nid: 7-9\n",
].join("");

const FRAMES: Frame[] = [
  { event: "one", data: '{"text": "Grüße 👋"}', id: "7-1" },
  { event: "message", data: "two\nlines", id: "" },
  { event: "three", data: "", id: "7-3" },
  { event: "message", data: "\u2028 ends no line", id: null },
];

test("every split into two pieces gives the same events", () => {
  const body = new TextEncoder().encode(BODY);
  for (let cut = 0; cut <= body.length; cut += 1) expect(read(body, [cut])).toEqual(FRAMES);
});

test("single bytes give the same events", () => {
  const body = new TextEncoder().encode(BODY);
  expect(read(body, [...body.keys()])).toEqual(FRAMES);
});

test("any text gives the same events however it is split", () => {
  const pieces = fc.array(fc.constantFrom("\r", "\n", "data:", "data: x", "event: e", "id: 1", ":", "é👋", " "));
  fc.assert(
    fc.property(pieces, fc.array(fc.nat(60), { maxLength: 8 }), (lines, cuts) => {
      const body = new TextEncoder().encode(lines.join(""));
      const ends = cuts.filter((cut) => cut <= body.length).sort((a, b) => a - b);
      expect(read(body, ends)).toEqual(read(body, []));
    }),
  );
});

test("a line that is neither a field nor a comment is skipped and counted", () => {
  const decoder = new SseDecoder();
  expect(decoder.feed(": fine\ndata: a\nnonsense\n<html>: b\nretry: soon\n\n")).toEqual([{ event: "message", data: "a", id: null }]);
  expect(decoder.skipped).toBe(3);
});

test("the delay of a retry line is read, and a broken one is not", () => {
  const decoder = new SseDecoder();
  decoder.feed("retry: 1500\n\n");
  expect(decoder.retry).toBe(1500);
  decoder.feed("retry: soon\n\n");
  expect(decoder.retry).toBe(1500);
});

test.each(["data: 123456789\n", "data: 1\ndata: 2\ndata: 345\n", "data: 1234567890123"])(
  "an event over the limit is refused before it ends: %j",
  (text) => {
    const decoder = new SseDecoder(12);
    expect(decoder.feed("data: 1\n\ndata: 2\n\n")).toHaveLength(2);
    expect(() => decoder.feed(text)).toThrow(TurnstreamError);
  },
);
