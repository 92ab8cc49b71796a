// The fold and the reader against the cases that every client has to pass.

import { describe, expect, test } from "vitest";

import { TurnstreamError } from "../src/errors.js";
import { blocksOf } from "../src/fold.js";
import { RETRY, type Transport } from "../src/following.js";
import { fetchReader } from "../src/reading.js";
import { SseDecoder } from "../src/sse.js";
import { WatchedTurn } from "../src/watched_turn.js";
import { type Case, type CaseBlock, readCases } from "./cases.js";
import { ScriptedServer } from "./scripted_server.js";

const CASES = readCases();

/** @param idle a busy machine must not look like a silent server */
function transport(idle = 10_000): Transport {
  const retry = { ...RETRY, firstDelay: 1, maxDelay: 2, idle, budget: 20_000 };
  return { fetch, reader: fetchReader, retry, headers: () => Promise.resolve({}) };
}

function check(turn: WatchedTurn, { outcome }: Case): void {
  const { state } = turn;
  expect(state.ended).toBe(outcome.raises === undefined);
  if (outcome.raises === undefined) expect(state.status).toBe(outcome.status ?? null);
  // A block that is still open would be cut off if the turn ended now.
  const isOpen = (place: number) => blocksOf(state)[place]?.open ?? false;
  expect(blocksOf(state)).toEqual(outcome.blocks.map((block, place) => ({ ...whole(block), open: isOpen(place) })));
  if (state.ended) expect(blocksOf(state).some(({ open }) => open)).toBe(false);
  const lost = state.notices.filter((notice) => notice.code === "truncated");
  expect(lost.map((notice) => notice.block_index)).toEqual(outcome.lost ?? []);
  expect(state.error?.code).toBe(outcome.error?.code);
  if (outcome.usage) expect(state.usage).toEqual(outcome.usage);
  expect(turn.lastId).toBe(outcome.last_id);
}

function whole(block: CaseBlock) {
  return { text_content: null, content: null, partial: false, ...block };
}

/** Feed the body of an answer in pieces of `size` bytes. What is unfinished at its end is discarded. */
function receive(turn: WatchedTurn, body: Uint8Array, size: number): void {
  turn.connected();
  const decoder = new SseDecoder();
  const text = new TextDecoder();
  for (let start = 0; start < body.length; start += size) {
    for (const frame of decoder.feed(text.decode(body.subarray(start, start + size), { stream: true }))) {
      turn.take(frame);
    }
  }
}

/** Feed a case without a server. Return false if an event was reported as broken. */
function replay(one: Case, turn: WatchedTurn, size: number): boolean {
  try {
    for (const { asked_with, status = 200, body = "" } of one.connections) {
      if (asked_with !== undefined) expect(turn.lastId).toBe(asked_with);
      if (status === 204) turn.nothingFollows();
      else if (status === 200) receive(turn, new TextEncoder().encode(body), size);
    }
  } catch (error) {
    if (error instanceof TurnstreamError && error.code === "malformed_event") return false;
    throw error;
  }
  return true;
}

describe.each(CASES)("$name", (one) => {
  test.each([1, 5, 1 << 20])("the fold alone, in pieces of %i bytes", (size) => {
    const turn = new WatchedTurn(transport(), "", "t", one.after);
    expect(replay(one, turn, size)).toBe(one.outcome.raises !== "malformed");
    check(turn, one);
  });

  test.each([0, 7])("over HTTP, in pieces of %i bytes (0: whole)", async (pieces) => {
    await using server = new ScriptedServer(one.connections, pieces);
    const url = `${await server.start()}/api/turns/t/stream`;
    const isSilent = one.connections.some(({ end }) => end === "silent");
    const turn = new WatchedTurn(transport(isSilent ? 1_500 : undefined), url, "t", one.after);
    const ended = turn.wait();
    const { raises } = one.outcome;
    if (raises === undefined) await ended;
    else if (raises === "malformed") await expect(ended).rejects.toMatchObject({ code: "malformed_event" });
    else await expect(ended).rejects.toMatchObject({ status: raises, name: "TurnstreamError" });
    check(turn, one);
    expect(server.asked).toHaveLength(one.outcome.connections);
    for (const [place, { asked_with }] of one.connections.entries()) {
      expect(server.asked[place]).toMatchObject({ method: "GET", url: "/api/turns/t/stream" });
      if (asked_with !== undefined) expect(server.asked[place]?.headers["last-event-id"] ?? null).toBe(asked_with);
    }
  });
});

test("the cases are all there", () => {
  expect(CASES.length).toBeGreaterThanOrEqual(22);
  expect(new Set(CASES.map(({ name }) => name)).size).toBe(CASES.length);
});
