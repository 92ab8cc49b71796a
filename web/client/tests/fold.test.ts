// The fold: any cut and any catch-up give the same blocks, and a delta costs the same in a long turn.

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import type { BlockType, TurnEvent } from "../src/events.js";
import { type Block, blocksOf, fold, newTurn, textOf, type TurnState } from "../src/fold.js";

const TURN = "01a1fc3d-f972-7b3d-9880-2b4d5256380e";
const START: TurnEvent = {
  type: "turn_start", turn_id: TURN, chat_id: "c", role: "assistant", model: "m/x", timestamp: "2026-11-21T00:00:00Z",
};
const COMPLETE: TurnEvent = {
  type: "turn_complete", turn_id: TURN, stop_reason: "end_turn", input_tokens: 1, output_tokens: 2, total_blocks: 1,
  status: "complete", usage: null,
};

function all(events: readonly TurnEvent[], state: TurnState = newTurn(TURN)): TurnState {
  return events.reduce(fold, state);
}

function start(block_index: number, block_type: BlockType): TurnEvent {
  return { type: "block_start", turn_id: TURN, block_index, block_type };
}

function delta(block_index: number, text: string): TurnEvent {
  return { type: "block_delta", turn_id: TURN, block_index, block_type: "text", delta: { text } };
}

function stop(block_index: number): TurnEvent {
  return { type: "block_stop", turn_id: TURN, block_index, block_type: "text" };
}

/** Pieces of one block, as the server would send them. */
const block = fc.oneof(
  fc.record({ kind: fc.constantFrom("text", "thinking"), pieces: fc.array(fc.string({ unit: "grapheme" })) }),
  fc.record({ kind: fc.constant("tool_use"), pieces: fc.json().map((text) => text.match(/[^]{1,5}/g) ?? []) }),
);

interface Written {
  readonly kind: string;
  readonly pieces: readonly string[];
}

/** A model call that failed after some blocks: the next one keeps the first of them, and replaces the others. */
interface Attempt {
  readonly blocks: readonly Written[];
  readonly kept: number;
}

const attempts = fc.array(fc.record({ blocks: fc.array(block, { maxLength: 4 }), kept: fc.nat(4) }), { maxLength: 3 });

function eventsOf(attempts: readonly Attempt[]): TurnEvent[] {
  const written: TurnEvent[] = [];
  let index = 0;
  for (const { blocks, kept } of attempts) {
    if (kept < index) written.push({ type: "block_reset", turn_id: TURN, block_index: (index = kept) });
    for (const { kind, pieces } of blocks) {
      const about = { turn_id: TURN, block_index: index, block_type: kind as BlockType };
      written.push({ type: "block_start", ...about });
      for (const piece of pieces) {
        const delta = kind === "tool_use" ? { partial_json: piece } : { text: piece, content: { seen: [piece] } };
        written.push({ type: "block_delta", ...about, delta });
      }
      written.push({ type: "block_stop", ...about });
      index += 1;
    }
  }
  return [START, ...written, COMPLETE];
}

/** The catch-up of a block: what a server sends for a cursor that is not in memory any more. */
function catchup({ sequence, block_type, text_content, content, partial, open }: Block): TurnEvent {
  const isCall = block_type === "tool_use";
  const { input_json, ...rest } = content ?? {};
  // A catch-up of an open call shows what came before the arguments.
  const shown = Object.fromEntries(Object.entries(rest).filter(([key]) => !key.startsWith("input")));
  return {
    type: "block_catchup", turn_id: TURN, block_index: sequence, block_type, complete: !open,
    ...(isCall ? { input_partial: input_json as string } : { accumulated_text: text_content }),
    content: isCall && open ? shown : content, ...(partial && !open && { partial }),
  };
}

describe("resuming", () => {
  test("after any cut, the events that follow give the same blocks", () => {
    fc.assert(
      fc.property(attempts, fc.nat(), (written, seed) => {
        const events = eventsOf(written);
        const whole = blocksOf(all(events));
        const cut = seed % events.length;
        const before = all(events.slice(0, cut));
        expect(blocksOf(all(events.slice(cut), before))).toEqual(whole);
      }),
    );
  });

  test("after any cut, a snapshot or a catch-up gives the same blocks, whatever was seen before", () => {
    fc.assert(
      fc.property(attempts, fc.nat(), fc.nat(), (written, seed, more) => {
        const events = eventsOf(written);
        const whole = blocksOf(all(events));
        const cut = seed % events.length;
        const seen = all(events.slice(0, cut));
        const now = cut + (more % (events.length - cut));
        const server = all(events.slice(0, now));
        const caughtUp = blocksOf(server).map(catchup);
        const rest = events.slice(now);
        expect(blocksOf(all([START, ...caughtUp, ...rest], seen))).toEqual(whole);
        // For an older cursor, the lowest reset comes first, then each block that may not be known completely.
        const missed = events.slice(cut, now);
        const resets = missed.flatMap((event) => (event.type === "block_reset" ? [event.block_index] : []));
        const open = blocksOf(seen).findIndex((one) => one.open);
        const known = Math.min(...resets, open < 0 ? blocksOf(seen).length : open);
        const reset: TurnEvent[] = resets.length ? [{ type: "block_reset", turn_id: TURN, block_index: Math.min(...resets) }] : [];
        expect(blocksOf(all([...reset, ...caughtUp.slice(known), ...rest], seen))).toEqual(whole);
      }),
    );
  });

  test("reading the blocks between events changes nothing", () => {
    fc.assert(
      fc.property(attempts, (written) => {
        let state = newTurn(TURN);
        for (const event of eventsOf(written)) {
          state = fold(state, event);
          blocksOf(state);
        }
        expect(blocksOf(state)).toEqual(blocksOf(all(eventsOf(written))));
      }),
    );
  });

  test("a state is plain data: a copy in another tab continues alike", () => {
    fc.assert(
      fc.property(attempts, fc.nat(), (written, seed) => {
        const events = eventsOf(written);
        const cut = seed % events.length;
        const copy = structuredClone(all(events.slice(0, cut)));
        expect(blocksOf(all(events.slice(cut), copy))).toEqual(blocksOf(all(events)));
      }),
    );
  });
});

describe("sharing", () => {
  test("a delta leaves every other block the same object", () => {
    const before = all([START, start(0, "text"), delta(0, "a"), stop(0), start(1, "text"), delta(1, "b")]);
    const [first, second] = blocksOf(before);
    const after = fold(before, delta(1, "c"));
    expect(blocksOf(after)[0]).toBe(first);
    expect(blocksOf(after)[1]).not.toBe(second);
    expect(blocksOf(after)[1]?.text_content).toBe("bc");
    expect(second?.text_content).toBe("b");
    expect(blocksOf(fold(after, { type: "usage", turn_id: TURN, usage: {} }))[1]).toBe(blocksOf(after)[1]);
  });

  test("two continuations of one state do not see each other", () => {
    const content = (letter: string): TurnEvent => ({
      type: "block_delta", turn_id: TURN, block_index: 0, block_type: "text",
      delta: { text: letter, content: { citations: [letter] } },
    });
    const common = all([START, content("a")]);
    const one = fold(fold(common, content("b")), content("c"));
    const other = fold(fold(common, content("x")), content("y"));
    expect(blocksOf(one)[0]?.content).toEqual({ citations: ["a", "b", "c"] });
    expect(blocksOf(other)[0]?.content).toEqual({ citations: ["a", "x", "y"] });
    expect(blocksOf(common)[0]?.content).toEqual({ citations: ["a"] });
    expect([textOf(one), textOf(other), textOf(common)]).toEqual(["abc", "axy", "a"]);
  });
});

describe("cost", () => {
  test("a delta copies no other block and no list that grows", () => {
    const many = Array.from({ length: 500 }, (_, index) => [start(index, "text"), delta(index, "x"), stop(index)]);
    const before = all([START, ...many.flat(), start(500, "text"), delta(500, "a")]);
    const after = fold(before, delta(500, "b"));
    expect(after.held).toBe(before.held);
    const cited: TurnEvent = {
      type: "block_delta", turn_id: TURN, block_index: 500, block_type: "text", delta: { content: { citations: [1] } },
    };
    const once = fold(after, cited);
    expect(fold(once, cited).growing?.merges).toBe(once.growing?.merges);
  });

  test("all states of a long answer share its text: each costs bytes, not a copy", () => {
    const count = 8_000;
    const events = [START, start(0, "text"), ...Array.from({ length: count }, () => delta(0, "eight ch"))];
    const before = process.memoryUsage().heapUsed;
    let state = newTurn(TURN);
    const states = events.map((event) => (state = fold(state, event)));
    // Copies of the text would need 32 kB per state, which are 256 MB.
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(32e6);
    expect(textOf(state)).toHaveLength(8 * count);
    expect(states).toHaveLength(events.length);
  });
});

describe("events", () => {
  test("the end cuts open blocks off, ends approvals, and nothing changes it", () => {
    const asked: TurnEvent = {
      type: "approval_request", turn_id: TURN, approval_id: "p", tool_use_id: "u", tool_name: "erase",
      input_digest: "d", expires_at: "2026-11-21T00:00:00Z",
    };
    const waiting = all([START, start(0, "text"), delta(0, "half"), asked]);
    expect([waiting.status, waiting.approvals.length, blocksOf(waiting)[0]?.open]).toEqual(["waiting", 1, true]);
    const ended = fold(waiting, { ...COMPLETE, type: "turn_cancelled", status: "cancelled", blocks_completed: 0 });
    expect([ended.status, ended.approvals, blocksOf(ended)[0]?.open]).toEqual(["cancelled", [], false]);
    expect(blocksOf(ended)[0]?.partial).toBe(true);
    for (const event of [delta(0, "x"), START, COMPLETE]) expect(fold(ended, event)).toBe(ended);
  });

  test("an answered approval lets the turn continue", () => {
    const turn_id = TURN;
    const asked = ["p", "q"].map((approval_id): TurnEvent => ({
      type: "approval_request", turn_id, approval_id, tool_use_id: approval_id, tool_name: "erase", input_digest: "",
      expires_at: "",
    }));
    const answered = (approval_id: string): TurnEvent =>
      ({ type: "approval_response", turn_id, approval_id, tool_use_id: approval_id, approved: true });
    const half = all([START, ...asked, answered("p")]);
    expect([half.status, half.approvals.map((one) => one.approval_id)]).toEqual(["waiting", ["q"]]);
    expect(fold(half, answered("q")).status).toBe("streaming");
  });

  test("steps, sources, progress and notices are kept, the last notices only", () => {
    const turn_id = TURN;
    const state = all([
      START,
      { type: "step_start", turn_id, step: 0, name: "intent", progress: 0.25 },
      { type: "step_stop", turn_id, step: 0, stop_reason: "end_turn" },
      { type: "step_stop", turn_id, step: 1 },
      { type: "source", turn_id, source_id: "s", url: "https://example.org/a" },
      { type: "source", turn_id, source_id: "s", url: "https://example.org/b" },
      { type: "tool_progress", turn_id, tool_use_id: "u", text: "half" },
      { type: "user_redacted", turn_id, replacement: "[blocked]", user_turn_id: "v" },
      ...Array.from({ length: 150 }, (_, number): TurnEvent => ({ type: "notice", turn_id, code: "fallback", message: `${number}` })),
    ]);
    expect(state.steps).toEqual([
      { step: 0, name: "intent", model: null, progress: 0.25, stop_reason: "end_turn", ended: true },
      { step: 1, name: null, model: null, progress: null, stop_reason: null, ended: true },
    ]);
    expect(state.sources.map(({ url }) => url)).toEqual(["https://example.org/b"]);
    expect(state.progress).toEqual({ u: "half" });
    expect(state.user_redacted).toBe("[blocked]");
    expect(state.notices).toHaveLength(100);
    expect(state.notices.at(-1)?.message).toBe("149");
  });
});

describe("hostile input", () => {
  test.each<unknown>([
    { type: "block_delta", block_index: -1, delta: { text: "x" } },
    { type: "block_delta", block_index: "__proto__", delta: { text: "x" } },
    { type: "block_delta", block_index: 0, block_type: "text", delta: { text: 7 } },
    { type: "block_delta", block_index: 0, block_type: "text", delta: { content: [1] } },
    { type: "block_delta", block_index: 0, block_type: "text", delta: null },
    { type: "block_delta", block_index: 0, block_type: "text" },
    { type: "block_start", block_index: 0.5, block_type: "text" },
    { type: "block_start", block_index: 1e300, block_type: "text" },
    { type: "block_start", block_index: 0 },
    { type: "block_stop" },
    { type: "block_catchup", block_index: 0, block_type: "text", complete: true, accumulated_text: {} },
    { type: "block_reset" },
    { type: "notice" },
    { type: "notice", code: "truncated", block_index: "0" },
    { type: "turn_start" },
    { type: "turn_error" },
    { type: "approval_request" },
    { type: "usage", usage: "many" },
  ])("a broken event is an error, and no text is lost: %j", (event) => {
    const before = all([START, delta(0, "kept")]);
    expect(() => fold(before, event as TurnEvent)).toThrow(TypeError);
    expect(textOf(before)).toBe("kept");
  });

  test("any JSON value folds or is refused, and never changes the prototype of objects", () => {
    const state = all([START, delta(0, "kept")]);
    const kinds = fc.constantFrom("block_delta", "block_start", "block_catchup", "source", "notice", "usage", "tool_progress");
    fc.assert(
      fc.property(fc.jsonValue(), kinds, (value, type) => {
        try {
          blocksOf(fold(state, { ...(value as object), type } as TurnEvent));
        } catch (error) {
          expect(error).toBeInstanceOf(TypeError);
        }
        expect(textOf(state)).toBe("kept");
      }),
    );
    const evil = JSON.parse('{"__proto__": {"polluted": true}, "constructor": {"prototype": {"polluted": true}}}') as object;
    const merged = all([START, {
      type: "block_delta", turn_id: TURN, block_index: 0, block_type: "text", delta: { content: { ...evil } },
    }]);
    expect(Object.keys(blocksOf(merged)[0]?.content ?? {})).toContain("constructor");
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    expect((blocksOf(merged)[0]?.content as { polluted?: boolean }).polluted).toBeUndefined();
  });

  test("an input that nests too deep is not read", () => {
    const call = (levels: number): TurnEvent[] => [
      START, start(0, "tool_use"),
      {
        type: "block_delta", turn_id: TURN, block_index: 0, block_type: "tool_use",
        delta: { partial_json: `{"a":${"[".repeat(levels)}${"]".repeat(levels)}}` },
      },
      COMPLETE,
    ];
    expect(blocksOf(all(call(98)))[0]?.content?.input).not.toBeNull();
    expect(blocksOf(all(call(50_000)))[0]?.content).toMatchObject({ input: null, input_error: expect.stringContaining("100") as string });
  });
});
