// A turn as it is shown: what the events say if they came, else what is stored.

import { blocksOf, type ApprovalRequest, type Block, type Notice, type Source, type Step, type StoredBlock, type StoredTurn, type TurnState, type TurnStatus } from "@turnstream/client";

export interface ShownTurn {
  readonly status: TurnStatus;
  readonly blocks: readonly Block[];
  readonly approvals: readonly ApprovalRequest[];
  readonly steps: readonly Step[];
  readonly sources: TurnState["sources"];
  readonly notices: TurnState["notices"];
  readonly progress: TurnState["progress"];
  readonly error: StoredTurn["error"];
  readonly stopReason: string | null;
}

const storedBlocks = new WeakMap<StoredTurn, readonly Block[]>();

export function isOver(status: string): boolean {
  return status === "complete" || status === "error" || status === "cancelled";
}

export function shownTurn(record: StoredTurn, state: TurnState | null): ShownTurn {
  if (state === null || state.status === "pending") {
    const approvals = record.approvals.filter(({ approved }) => approved === null).map((approval) => ({ ...approval, type: "approval_request" as const }));
    return {
      status: record.status as TurnStatus,
      blocks: blocksOfRecord(record),
      approvals,
      steps: [],
      ...eventsOf(record),
      progress: {},
      error: record.error,
      stopReason: record.stop_reason,
    };
  }
  const status = (state.ended && isOver(record.status) ? record.status : (state.status ?? record.status)) as TurnStatus;
  return {
    status,
    blocks: blocksOf(state),
    approvals: state.approvals,
    steps: state.steps,
    sources: state.sources,
    notices: state.notices,
    progress: state.progress,
    error: state.error ?? record.error,
    stopReason: state.stop_reason ?? record.stop_reason,
  };
}

/** Return the sources and notices that are stored with a turn of a branch. */
function eventsOf(record: StoredTurn): Pick<ShownTurn, "sources" | "notices"> {
  const events = ("events" in record ? record.events : []) as readonly (Source | Notice)[];
  return { sources: events.filter((event) => event.type === "source"), notices: events.filter((event) => event.type === "notice") };
}

function blocksOfRecord(record: StoredTurn): readonly Block[] {
  let blocks = storedBlocks.get(record);
  if (blocks === undefined) {
    blocks = record.blocks.map(shownBlock);
    storedBlocks.set(record, blocks);
  }
  return blocks;
}

function shownBlock({ sequence, block_type, text_content, content, partial }: StoredBlock): Block {
  return { sequence, block_type, text_content, content, partial, open: false };
}

/** Return the text of an answer: its text blocks, joined. */
export function textOf({ blocks }: ShownTurn): string {
  return blocks.map(({ block_type, text_content }) => (block_type === "text" ? (text_content ?? "") : "")).join("");
}

/** A tool's call with its result, or another block. */
export type Shown = { readonly kind: "block"; readonly block: Block } | { readonly kind: "call"; readonly call: Block; readonly result: Block | null };

/** Return blocks in order, with each tool's result beside its call. */
export function paired(blocks: readonly Block[]): Shown[] {
  const results = new Map<unknown, Block>();
  const calls = new Set<unknown>();
  for (const block of blocks) {
    if (block.block_type === "tool_use") calls.add(block.content?.tool_use_id);
    if (block.block_type === "tool_result") results.set(block.content?.tool_use_id, block);
  }
  const shown: Shown[] = [];
  for (const block of blocks) {
    const id = block.content?.tool_use_id;
    if (block.block_type === "tool_use") shown.push({ kind: "call", call: block, result: results.get(id) ?? null });
    else if (block.block_type !== "tool_result" || !calls.has(id)) shown.push({ kind: "block", block });
  }
  return shown;
}
