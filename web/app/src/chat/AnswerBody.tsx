import type { StoredTurn } from "@turnstream/client";
import { visibleText } from "../markdown/visibleText";
import { useMemo } from "react";
import { Icon } from "../parts/Icon";
import { BlockView } from "./BlockView";
import { isOver, paired, type ShownTurn } from "./shown";
import { ToolCard } from "./ToolCard";
import { thoughtSeconds } from "./timeline";

interface AnswerBodyProps {
  readonly record: StoredTurn;
  readonly turn: ShownTurn;
  readonly onRetry: () => void;
}

/** The content of an answer, and its state. */
export function AnswerBody({ record, turn, onRetry }: AnswerBodyProps) {
  const seconds = useMemo(() => thoughtSeconds(record), [record]);
  return (
    <>
      <Steps turn={turn} />
      {paired(turn.blocks).map((shown) =>
        shown.kind === "block" ? (
          <BlockView key={shown.block.sequence} turnId={record.id} block={shown.block} seconds={seconds.get(shown.block.sequence)} />
        ) : (
          <ToolCard key={shown.call.sequence} turnId={record.id} call={shown.call} result={shown.result} turn={turn} />
        ),
      )}
      <Sources turn={turn} />
      <Notices turn={turn} />
      <Status turn={turn} onRetry={onRetry} />
    </>
  );
}

/** The stages of a workflow, with its progress. Plain model calls have no names. */
function Steps({ turn }: { turn: ShownTurn }) {
  const named = turn.steps.filter(({ name }) => name !== null);
  const progress = named.findLast((step) => step.progress !== null)?.progress ?? null;
  if (named.length === 0 || isOver(turn.status)) return null;
  return (
    <div className="stages">
      <ol aria-label="Stages">
        {named.map(({ step, name, ended }) => (
          <li key={step} className={ended ? "done" : ""} aria-current={ended ? undefined : "step"}>
            {visibleText(name ?? "")}
          </li>
        ))}
      </ol>
      {progress !== null && <progress value={progress} max={1} aria-label="Progress of the workflow" />}
    </div>
  );
}

function Sources({ turn }: { turn: ShownTurn }) {
  if (turn.sources.length === 0) return null;
  return (
    <ol className="sources" aria-label="Sources">
      {turn.sources.map(({ source_id, url, title }) => (
        <li key={source_id}>
          {typeof url === "string" && /^https?:\/\//i.test(url) ? (
            <a href={url} target="_blank" rel="noopener noreferrer nofollow" referrerPolicy="no-referrer">
              {visibleText(title ?? url)}
            </a>
          ) : (
            visibleText(title ?? source_id)
          )}
        </li>
      ))}
    </ol>
  );
}

const NOTICES: Readonly<Record<string, string>> = {
  truncated: "A part that was shown before is lost. The rest is as it was stored.",
  fallback: "Another model answered, because the first one failed.",
  continued: "A call failed in mid-answer. The next one continued it.",
  restarted: "A call failed in mid-answer. The next one began again.",
  max_rounds: "The model used its tools too often, and was asked to finish.",
  misplaced_delta: "The provider sent a text in the wrong place. It is left out.",
  malformed_event: "The provider sent something that cannot be read. It is left out.",
};

/** What happened to an answer besides its text. Each kind is said once. */
function Notices({ turn }: { turn: ShownTurn }) {
  const codes = [...new Set(turn.notices.map(({ code }) => code))].filter((code) => NOTICES[code] !== undefined);
  if (codes.length === 0) return null;
  return (
    <ul className="notices" aria-label="Notices">
      {codes.map((code) => (
        <li key={code}>{NOTICES[code]}</li>
      ))}
    </ul>
  );
}

const STOPPED: Readonly<Record<string, string>> = {
  max_tokens: "The answer reached its limit of tokens and is cut off.",
  content_filtered: "The provider’s filter ended the answer.",
  guardrail_intervened: "The provider’s guardrail ended the answer.",
  refusal: "The model refused to answer.",
  max_rounds: "The model used its tools too often. The answer ended.",
};

const WAITING = "Waiting for the model…";

function Status({ turn, onRetry }: { turn: ShownTurn; onRetry: () => void }) {
  switch (turn.status) {
    case "pending":
      return <Working text={WAITING} />;
    case "streaming": {
      if (turn.blocks.some((block) => block.open)) return null;
      const call = runningCall(turn);
      if (call !== null) return <Working text={`Running ${call}…`} />;
      if (isRetrying(turn)) return <Working text="A call failed. Trying again…" />;
      return <Working text={turn.blocks.length === 0 && turn.steps.every(({ name }) => name === null) ? WAITING : "Working…"} />;
    }
    case "waiting":
      return <p className="status">Waiting for your approval.</p>;
    case "cancelled":
      return <p className="notice">Stopped. This is what had come until then.</p>;
    case "error":
      return (
        <div className="notice error" role="alert">
          <Icon name="warning" />
          <span>{failureOf(turn)}</span>
          <button type="button" onClick={onRetry}>
            Try again
          </button>
        </div>
      );
    case "complete": {
      const reason = STOPPED[turn.stopReason ?? ""];
      return reason === undefined ? null : <p className="notice">{reason}</p>;
    }
  }
}

function failureOf({ error }: ShownTurn): string {
  if (error?.code === "orphaned") return "The server was interrupted while it wrote this answer. Text that was not stored yet is lost.";
  return visibleText(error?.message ?? "The answer failed.");
}

/** Return the name of the first tool that has no result yet, or null. */
function runningCall({ blocks }: ShownTurn): string | null {
  const call = paired(blocks).find((shown) => shown.kind === "call" && shown.result === null && !shown.call.open);
  if (call?.kind !== "call") return null;
  const { tool_name } = call.call.content ?? {};
  return typeof tool_name === "string" ? visibleText(tool_name) : "a tool";
}

/** Return true if a call has failed and the next one has not begun to answer. */
function isRetrying({ notices, steps, blocks }: ShownTurn): boolean {
  const last = notices.at(-1);
  if (last === undefined || !["attempt_failed", "fallback", "restarted", "continued"].includes(last.code)) return false;
  return blocks.length === 0 || steps.at(-1)?.ended === false;
}

function Working({ text }: { text: string }) {
  return (
    <p className="status">
      <span className="dot" /> {text}
    </p>
  );
}
