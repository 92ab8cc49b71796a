// The server's answers, as PROTOCOL.md describes them: the fields that the page reads.

import type { ApprovalRequest, Block, Usage } from "@turnstream/client";

export interface ChatRecord {
  readonly id: string;
  readonly title: string | null;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly created_at: string;
  readonly updated_at: string;
  readonly active_turn_id: string | null;
}

export interface BlockRecord {
  readonly sequence: number;
  readonly block_type: Block["block_type"];
  readonly text_content: string | null;
  readonly content: Readonly<Record<string, unknown>> | null;
  readonly partial: boolean;
}

export interface AttemptRecord {
  readonly step: number;
  readonly number: number;
  readonly model: string;
  readonly outcome: string;
  readonly started_at: string;
  /** Seconds. */
  readonly duration: number;
  readonly cost: string | null;
}

export type Status = "pending" | "streaming" | "waiting" | "complete" | "error" | "cancelled";

export interface TurnRecord extends Usage {
  readonly id: string;
  readonly chat_id: string;
  readonly prev_turn_id: string | null;
  readonly role: "user" | "assistant";
  readonly status: Status;
  readonly model: string | null;
  readonly asked_model: string | null;
  readonly system: string | null;
  readonly params: Readonly<Record<string, unknown>>;
  readonly stop_reason: string | null;
  readonly cost: string | null;
  readonly cost_estimated: boolean;
  readonly unpriced: boolean;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly attempts: readonly AttemptRecord[];
  readonly approvals: readonly (ApprovalRequest & { readonly approved: boolean | null })[];
  readonly created_at: string;
  readonly completed_at: string | null;
  readonly blocks: readonly BlockRecord[];
  /** Ids of this turn and its alternatives, oldest first. Only turns of a path have them. */
  readonly siblings?: readonly string[];
}

export interface ModelRecord {
  readonly id: string;
  readonly provider: string;
  readonly ready: boolean;
  readonly default: boolean;
}

export interface PathRecord {
  readonly chat_id: string;
  readonly turns: readonly TurnRecord[];
  readonly previous: string | null;
}

export interface SessionRecord {
  readonly signed_in: boolean;
  /** True if the server has a key, so that a browser can sign in and out. */
  readonly needs_key: boolean;
}

export function isOver(status: Status): boolean {
  return status === "complete" || status === "error" || status === "cancelled";
}
