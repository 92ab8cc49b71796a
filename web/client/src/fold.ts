// The fold: events of one turn in, the state of the turn out (PROTOCOL.md, "What a client must do").
// States are plain data. A new state shares everything with the old one that the event did not change.

import type { ApprovalRequest, BlockDelta, BlockStart, BlockType, Notice, Source, TurnEvent, Usage } from "./events.js";
import { finishToolUse } from "./tool_input.js";

export type Content = Readonly<Record<string, unknown>>;
export type TurnStatus = "pending" | "streaming" | "waiting" | "complete" | "error" | "cancelled";

/** A block of a turn. `open`: it still grows. `partial`: it was cut off, or would be if it ended now. */
export interface Block {
  readonly sequence: number;
  readonly block_type: BlockType;
  readonly text_content: string | null;
  readonly content: Content | null;
  readonly partial: boolean;
  readonly open: boolean;
}

/**
 * A block that grows. Its texts are joined by `+`, which costs the same however long they are. The contents to
 * merge are an array that versions of the block share: each version counts only its own first `merged` items.
 */
interface GrowingBlock {
  readonly sequence: number;
  readonly block_type: BlockType;
  readonly grows: true;
  readonly text: string;
  readonly signature: string;
  readonly content: Content;
  readonly merges: Content[];
  readonly merged: number;
}

export interface Step {
  readonly step: number;
  readonly name: string | null;
  readonly model: string | null;
  readonly progress: number | null;
  readonly stop_reason: string | null;
  readonly ended: boolean;
}

export interface TurnState {
  readonly turn_id: string;
  readonly chat_id: string | null;
  readonly user_turn_id: string | null;
  readonly model: string | null;
  /** Null if watching began at the turn's end: then the server does not send the final status. */
  readonly status: TurnStatus | null;
  /** True if no further events follow. */
  readonly ended: boolean;
  readonly stop_reason: string | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly usage: Usage | null;
  /** US dollars, a decimal number with six places. */
  readonly cost: string | null;
  readonly estimated: boolean;
  readonly unpriced: boolean;
  /** Unanswered approval requests. */
  readonly approvals: readonly ApprovalRequest[];
  readonly steps: readonly Step[];
  readonly sources: readonly Source[];
  /** The last notices, at most 100. */
  readonly notices: readonly Notice[];
  /** The last progress text of each tool call, by its `tool_use_id`. */
  readonly progress: Readonly<Record<string, string>>;
  /** The text that replaces what the user wrote, if the provider retracted it. */
  readonly user_redacted: string | null;
  /** Blocks in order, except `growing`. Read them with `blocksOf`. */
  readonly held: readonly (Block | GrowingBlock)[];
  /** The block that grew last. */
  readonly growing: GrowingBlock | null;
}

const MOST_NOTICES = 100;

/** Return the state of a turn before its first event. */
export function newTurn(turnId: string): TurnState {
  return {
    turn_id: turnId,
    chat_id: null,
    user_turn_id: null,
    model: null,
    status: "pending",
    ended: false,
    stop_reason: null,
    error: null,
    usage: null,
    cost: null,
    estimated: false,
    unpriced: false,
    approvals: [],
    steps: [],
    sources: [],
    notices: [],
    progress: {},
    user_redacted: null,
    held: [],
    growing: null,
  };
}

/**
 * Return the state after an event. Unknown events, and events after the end, change nothing.
 * Throws a TypeError if the event is broken.
 */
export function fold(before: TurnState, event: TurnEvent): TurnState {
  if (before.ended) return before;
  const state: TurnState = before.status === "pending" ? { ...before, status: "streaming" } : before;
  switch (event.type) {
    case "block_delta":
      return grow(state, event);
    case "block_start":
      return opened(state, newBlock(event));
    case "block_stop": {
      const sequence = index(event.block_index);
      const block = blockAt(state, sequence);
      return block && "grows" in block ? closed(state, finished(block, event.partial ?? false)) : state;
    }
    case "block_catchup": {
      const text = event.input_partial ?? event.accumulated_text;
      const block = newBlock(event, text ?? "");
      if (!event.complete) return opened(state, block);
      const { sequence, block_type } = block;
      const text_content = event.accumulated_text ?? null;
      const { content = null, partial = false } = event;
      return closed(state, { sequence, block_type, text_content, content, partial, open: false });
    }
    case "block_reset":
      return dropped(state, index(event.block_index));
    case "notice": {
      const noted = { ...state, notices: [...state.notices.slice(1 - MOST_NOTICES), event] };
      return string(event.code) === "truncated" ? dropped(noted, index(event.block_index ?? 0)) : noted;
    }
    case "turn_start":
      return {
        ...newTurn(string(event.turn_id)),
        status: "streaming",
        chat_id: string(event.chat_id),
        user_turn_id: event.user_turn_id ?? null,
        model: event.model,
        // If all shown text is lost, the server sends the turn again from its start after this notice.
        notices: state.notices.filter(({ code }) => code === "truncated"),
      };
    case "step_start": {
      const { step, name = null, model = null, progress = null } = event;
      return withStep(state, { step: index(step), name, model, progress, stop_reason: null, ended: false });
    }
    case "step_stop": {
      const { step, stop_reason = null } = event;
      const begun = { step: index(step), name: null, model: null, progress: null };
      return withStep(state, { ...begun, ...state.steps.find((one) => one.step === step), stop_reason, ended: true });
    }
    case "usage":
      return { ...state, ...account(state, event) };
    case "tool_progress":
      return { ...state, progress: { ...state.progress, [string(event.tool_use_id)]: string(event.text) } };
    case "source": {
      const others = state.sources.filter((source) => source.source_id !== event.source_id);
      return { ...state, sources: [...others, event] };
    }
    case "approval_request":
    case "approval_response": {
      const id = string(event.approval_id);
      const others = state.approvals.filter((approval) => approval.approval_id !== id);
      const approvals = event.type === "approval_request" ? [...others, event] : others;
      return { ...state, approvals, status: approvals.length ? "waiting" : "streaming" };
    }
    case "user_redacted":
      return { ...state, user_redacted: string(event.replacement) };
    case "turn_complete":
      return { ...ended(state, event), stop_reason: event.stop_reason };
    case "turn_error":
      return { ...ended(state, event), error: { code: string(event.code), message: string(event.error) } };
    case "turn_cancelled":
      return ended(state, event);
    case "data":
      return state;
    default:
      return before;
  }
}

/** Return the state of a turn that the server says nothing more of (its status 204). */
export function atEnd(state: TurnState): TurnState {
  const { status } = state;
  const final = status === "complete" || status === "error" || status === "cancelled";
  return { ...cutOff(state), ended: true, approvals: [], status: final ? status : null };
}

const shownStates = new WeakMap<TurnState, readonly Block[]>();
const shownBlocks = new WeakMap<GrowingBlock, Block>();

/** Return the blocks of a turn, in order. A block that did not change is the same object as before. */
export function blocksOf(state: TurnState): readonly Block[] {
  let blocks = shownStates.get(state);
  if (!blocks) {
    const { held, growing } = state;
    blocks = (growing ? placed(held, growing) : held).map(shown);
    shownStates.set(state, blocks);
  }
  return blocks;
}

/** Return the text of a turn: its text blocks, joined. */
export function textOf(state: TurnState): string {
  return blocksOf(state)
    .map((block) => (block.block_type === "text" ? (block.text_content ?? "") : ""))
    .join("");
}

function shown(block: Block | GrowingBlock): Block {
  if (!("grows" in block)) return block;
  let open = shownBlocks.get(block);
  if (!open) {
    open = { ...finished(block, true), open: true };
    shownBlocks.set(block, open);
  }
  return open;
}

function index(value: unknown): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw new TypeError("not an index");
}

function string(value: unknown): string {
  if (typeof value === "string") return value;
  throw new TypeError("not a text");
}

function object(value: unknown): Content {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Content;
  throw new TypeError("not an object");
}

type BlockBeginning = Pick<BlockStart, "block_index" | "block_type" | "content">;

/** Return a block that grows. A catch-up has a text and a signature already. */
function newBlock({ block_index, block_type, content }: BlockBeginning, text = ""): GrowingBlock {
  const { signature = "", ...fields } = object(content ?? {});
  return {
    sequence: index(block_index),
    block_type: string(block_type) as BlockType,
    grows: true,
    text: string(text),
    signature: string(signature),
    content: fields,
    merges: [],
    merged: 0,
  };
}

function blockAt({ growing, held }: TurnState, sequence: number): Block | GrowingBlock | undefined {
  return growing?.sequence === sequence ? growing : held.find((block) => block.sequence === sequence);
}

function grow(state: TurnState, event: BlockDelta): TurnState {
  const { growing } = state;
  const sequence = index(event.block_index);
  if (growing?.sequence === sequence) return { ...state, growing: grown(growing, event) };
  const block = blockAt(state, sequence);
  return opened(state, grown(block && "grows" in block ? block : newBlock(event), event));
}

function grown(block: GrowingBlock, { delta }: BlockDelta): GrowingBlock {
  const { text, partial_json, signature, content } = object(delta) as BlockDelta["delta"];
  let { merges, merged } = block;
  if (content !== undefined) {
    // A version that is not the newest one gets an array of its own.
    if (merges.length !== merged) merges = merges.slice(0, merged);
    merges.push(object(content));
    merged += 1;
  }
  return {
    ...block,
    text: block.text + string(text ?? "") + string(partial_json ?? ""),
    signature: block.signature + string(signature ?? ""),
    merges,
    merged,
  };
}

/** Return the state with `block` as the one that grows, in place of any other block with its index. */
function opened(state: TurnState, block: GrowingBlock): TurnState {
  const { held } = closed(state, block);
  return { ...state, held: held.filter((one) => one !== block), growing: block };
}

/** Return the state with `block` among `held`, in place of any other block with its index. */
function closed(state: TurnState, block: Block | GrowingBlock): TurnState {
  const rest = state.growing?.sequence === block.sequence ? state : settled(state);
  return { ...rest, growing: null, held: placed(rest.held, block) };
}

/** Return the state without `growing`: the block is one of `held`, and may grow later. */
function settled(state: TurnState): TurnState {
  return state.growing ? { ...state, growing: null, held: placed(state.held, state.growing) } : state;
}

/** Return the blocks with one more, in order, in place of the one with its index. */
function placed<B extends { readonly sequence: number }>(blocks: readonly B[], block: B): readonly B[] {
  const start = blocks.findLastIndex((one) => one.sequence < block.sequence) + 1;
  return blocks.toSpliced(start, blocks[start]?.sequence === block.sequence ? 1 : 0, block);
}

function dropped(state: TurnState, from: number): TurnState {
  const { growing } = state;
  return {
    ...state,
    held: state.held.filter((block) => block.sequence < from),
    growing: growing && growing.sequence < from ? growing : null,
  };
}

function finished(block: GrowingBlock, partial: boolean): Block {
  const { sequence, block_type, text, signature } = block;
  let content = merged(block);
  if (signature) content = { ...content, signature };
  const isCall = block_type === "tool_use";
  if (isCall) content = finishToolUse(content ?? {}, text);
  const hasText = !isCall && (text || block_type === "text" || block_type === "thinking");
  return { sequence, block_type, text_content: hasText ? text : null, content, partial, open: false };
}

/** Return the content with all merges. A list extends a list, any other value replaces the old one. */
function merged(block: GrowingBlock): Content | null {
  const fields = new Map<string, unknown>(Object.entries(block.content));
  const own = new Set<string>();
  for (const addition of block.merges.slice(0, block.merged)) {
    for (const [key, value] of Object.entries(addition)) {
      const old = fields.get(key);
      if (!Array.isArray(old) || !Array.isArray(value)) {
        fields.set(key, value);
        own.delete(key);
      } else if (own.has(key)) {
        for (const item of value) old.push(item);
      } else {
        fields.set(key, [...(old as unknown[]), ...(value as unknown[])]);
        own.add(key);
      }
    }
  }
  return fields.size ? Object.fromEntries(fields) : null;
}

function withStep(state: TurnState, step: Step): TurnState {
  return { ...state, steps: [...state.steps.filter((one) => one.step !== step.step), step] };
}

interface Account {
  readonly usage?: Usage | null;
  readonly cost?: string | null;
  readonly estimated?: boolean;
  readonly unpriced?: boolean;
}

function account(state: TurnState, { usage, cost, estimated, unpriced }: Account) {
  return {
    usage: usage ? (object(usage) as Usage) : state.usage,
    cost: cost ?? state.cost,
    estimated: estimated ?? false,
    unpriced: unpriced ?? false,
  };
}

function ended(state: TurnState, event: Account & { readonly status: TurnStatus }): TurnState {
  const { status } = event;
  return { ...cutOff(state), ...account(state, event), status, ended: true, approvals: [] };
}

/** Return the state with each growing block as one that was cut off. */
function cutOff(state: TurnState): TurnState {
  const all = settled(state);
  const cut = (block: Block | GrowingBlock) => ("grows" in block ? finished(block, true) : block);
  return all.held.some((block) => "grows" in block) ? { ...all, held: all.held.map(cut) } : all;
}
