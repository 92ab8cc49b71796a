// The times of an ended turn's model calls and tools, from its stored record. Without I/O.

import type { StoredTurn } from "@turnstream/client";

/** Seconds without a model call or a tool that are listed as a gap. */
const LEAST_GAP = 0.1;

export interface Span {
  readonly kind: "call" | "tool" | "gap";
  /** The model, or the tool. */
  readonly name: string;
  readonly outcome: string;
  /** Seconds from the beginning of the turn. */
  readonly begin: number;
  readonly seconds: number;
  /** Seconds from the beginning of a model call to its first output, or null. */
  readonly firstOutput: number | null;
}

const secondsOf = (moment: string) => Date.parse(moment) / 1000;

/** Return the model calls and the tools of a turn in order, and the gaps without either. */
export function timelineOf({ created_at, completed_at, attempts, blocks }: StoredTurn): readonly Span[] {
  const zero = secondsOf(created_at);
  const calls = attempts.map((attempt): Span => ({
    kind: "call",
    name: attempt.model,
    outcome: attempt.outcome,
    begin: Math.max(0, secondsOf(attempt.started_at) - zero),
    seconds: attempt.duration,
    firstOutput: attempt.first_output,
  }));
  // A block is stored when it ends. A tool has the time from the end of its call's arguments to its result.
  const tools = blocks
    .filter(({ block_type }) => block_type === "tool_use")
    .flatMap((call): Span[] => {
      const result = blocks.find((block) => block.block_type === "tool_result" && block.content?.tool_use_id === call.content?.tool_use_id);
      if (result === undefined) return [];
      const seconds = Math.max(0, secondsOf(result.created_at) - secondsOf(call.created_at));
      const outcome = result.content?.is_error === true ? "failed" : "done";
      const name = typeof call.content?.tool_name === "string" ? call.content.tool_name : "";
      return [{ kind: "tool", name, outcome, begin: secondsOf(call.created_at) - zero, seconds, firstOutput: null }];
    });
  const spans = [...calls, ...tools].sort((one, other) => one.begin - other.begin);
  const gaps: Span[] = [];
  let end = 0;
  const note = (begin: number) => {
    if (begin - end >= LEAST_GAP) gaps.push({ kind: "gap", name: "no call, no tool", outcome: "", begin: end, seconds: begin - end, firstOutput: null });
  };
  for (const span of spans) {
    note(span.begin);
    end = Math.max(end, span.begin + span.seconds);
  }
  if (completed_at !== null) note(secondsOf(completed_at) - zero);
  return [...spans, ...gaps].sort((one, other) => one.begin - other.begin);
}

/**
 * Return the seconds of each stored thought, by the sequence of its block: from the end of the block before it, or
 * the beginning of the turn, to its own end. A branch is read without its model calls.
 */
export function thoughtSeconds({ created_at, blocks }: Pick<StoredTurn, "created_at" | "blocks">): ReadonlyMap<number, number> {
  const thoughts = blocks.flatMap((block, place): [number, number][] => {
    if (block.block_type !== "thinking") return [];
    const seconds = secondsOf(block.created_at) - secondsOf(blocks[place - 1]?.created_at ?? created_at);
    return [[block.sequence, Math.max(1, Math.round(seconds))]];
  });
  return new Map(thoughts);
}
