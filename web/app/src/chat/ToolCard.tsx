import { useState } from "react";
import type { ApprovalRequest, Block } from "@turnstream/client";
import { client } from "../data/api";
import { usePage } from "../data/context";
import { visibleText } from "../markdown/visibleText";
import { isOver, type ShownTurn } from "./shown";

interface ToolCardProps {
  readonly turnId: string;
  readonly call: Block;
  readonly result: Block | null;
  readonly turn: ShownTurn;
}

/** A tool's call: its arguments while they come, its progress, its result, and the question for an approval. */
export function ToolCard({ turnId, call, result, turn }: ToolCardProps) {
  const { tool_use_id, tool_name, input, input_json } = call.content ?? {};
  const id = typeof tool_use_id === "string" ? tool_use_id : "";
  const approval = turn.approvals.find((one) => one.tool_use_id === id);
  // A tool that was stopped with its answer has not failed.
  const isStopped = turn.status === "cancelled" && result?.content?.content === "cancelled";
  const failed = result?.content?.is_error === true && !isStopped;
  const shownInput = input ?? input_json;
  const state = isStopped ? "stopped" : stateOf(call, result, approval, isOver(turn.status));
  return (
    <section className={`card ${failed ? "failed" : ""} ${approval === undefined ? "" : "asks"}`} aria-label={`Tool ${String(tool_name)}`}>
      <header>
        <strong>{visibleText(typeof tool_name === "string" && tool_name !== "" ? tool_name : "tool")}</strong>
        <span className="state">{state}</span>
      </header>
      <div className="body">
        <details open={approval !== undefined || undefined}>
          <summary>Arguments</summary>
          <pre tabIndex={0}>{visibleText(textOfValue(shownInput))}</pre>
        </details>
        {result === null && turn.progress[id] !== undefined && <p className="status">{visibleText(turn.progress[id])}</p>}
        {result !== null && !isStopped && (
          <details open={failed || undefined}>
            <summary>{failed ? "Error" : "Result"}</summary>
            <pre tabIndex={0}>{visibleText(textOfValue(result.content?.content ?? result.text_content))}</pre>
          </details>
        )}
        {approval !== undefined && <ApprovalForm turnId={turnId} approval={approval} />}
      </div>
    </section>
  );
}

function stateOf(call: Block, result: Block | null, approval: ApprovalRequest | undefined, isEnded: boolean): string {
  if (result !== null) return result.content?.is_error === true ? "failed" : "done";
  if (approval !== undefined) return "asks for your approval";
  if (call.open) return "arguments are being written…";
  if (call.partial) return "cut off";
  return isEnded ? "not run here" : "running…";
}

/** Approve or deny a call. Enter in the text does neither: only the buttons do. */
function ApprovalForm({ turnId, approval }: { turnId: string; approval: ApprovalRequest }) {
  const page = usePage();
  const [reason, setReason] = useState("");
  const [isSending, setIsSending] = useState(false);
  const answer = async (approved: boolean) => {
    if (isSending) return;
    setIsSending(true);
    const given = { approved, ...(reason.trim() !== "" && { reason: reason.trim() }) };
    await page.attempt(() => client.approve(turnId, approval.approval_id, given));
    setIsSending(false);
  };
  return (
    <div className="choices" role="group" aria-label="Approval">
      <input aria-label="Reason, for the model" placeholder="Reason (optional)" maxLength={2000} value={reason} onChange={(event) => { setReason(event.target.value); }} />
      <button type="button" className="primary" disabled={isSending} {...byClickAlone(() => void answer(true))}>
        Approve
      </button>
      <button type="button" className="danger" disabled={isSending} {...byClickAlone(() => void answer(false))}>
        Deny
      </button>
    </div>
  );
}

/** Handlers of a button that Enter does not press: a key that was meant for a text must not run a tool. Space does. */
function byClickAlone(act: () => void) {
  return {
    onClick: act,
    onKeyDown: (event: React.KeyboardEvent) => { if (event.key === "Enter") event.preventDefault(); },
  };
}

function textOfValue(value: unknown): string {
  if (typeof value === "string") return value;
  return value === undefined || value === null ? "" : JSON.stringify(value, null, 2);
}
