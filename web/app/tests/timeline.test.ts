import { expect, test } from "vitest";
import type { Attempt, StoredBlock, StoredTurn } from "@turnstream/client";
import { thoughtSeconds, timelineOf } from "../src/chat/timeline";

const at = (seconds: number) => new Date(1_700_000_000_000 + seconds * 1000).toISOString();

function call(begin: number, duration: number, first_output: number | null, outcome = "complete"): Attempt {
  return {
    step: 0, number: 1, model: "a/model", outcome, started_at: at(begin), duration, first_output, input_tokens: 1, output_tokens: 1,
    cache_read_tokens: null, cache_write_tokens: null, reasoning_tokens: null, cost: null, estimated: false,
  };
}

function block(sequence: number, block_type: StoredBlock["block_type"], end: number, content: StoredBlock["content"] = null): StoredBlock {
  return { id: `b${sequence}`, sequence, block_type, text_content: null, content, partial: false, created_at: at(end) };
}

const turn = (attempts: readonly Attempt[], blocks: readonly StoredBlock[], end: number) =>
  ({ created_at: at(0), completed_at: at(end), attempts, blocks }) as unknown as StoredTurn;

test("a timeline has calls, tools and the gaps between them", () => {
  const blocks = [
    block(0, "tool_use", 2, { tool_use_id: "t", tool_name: "clock" }),
    block(1, "tool_result", 5, { tool_use_id: "t", is_error: true }),
    block(2, "tool_use", 9, { tool_use_id: "without a result" }),
  ];
  const spans = timelineOf(turn([call(0, 1, null, "error"), call(1.5, 0.5, 0.2), call(5.05, 1, 0.5)], blocks, 9));
  expect(spans.map(({ kind, outcome, begin, seconds, firstOutput }) => [kind, outcome, +begin.toFixed(2), +seconds.toFixed(2), firstOutput])).toEqual([
    ["call", "error", 0, 1, null],
    ["gap", "", 1, 0.5, null],
    ["call", "complete", 1.5, 0.5, 0.2],
    ["tool", "failed", 2, 3, null],
    ["call", "complete", 5.05, 1, 0.5],
    ["gap", "", 6.05, 2.95, null],
  ]);
});

test("a thought lasts from the beginning of its turn, or from the block before it, until it is stored", () => {
  const blocks = [block(0, "thinking", 4.4), block(1, "text", 5), block(2, "thinking", 8), block(3, "thinking", 8.1)];
  expect([...thoughtSeconds({ created_at: at(0), blocks })]).toEqual([[0, 4], [2, 3], [3, 1]]);
});
