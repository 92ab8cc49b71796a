import { lazy, memo, Suspense, useState } from "react";
import { useSnapshot, useStore } from "../data/context";
import type { TurnRecord } from "../data/records";
import { isOver } from "../data/records";
import { visibleText } from "../markdown/visibleText";
import type { UnsentTurn as Unsent } from "../data/store";
import { CopyButton } from "../parts/CopyButton";
import { Icon } from "../parts/Icon";
import { BlockView } from "./BlockView";
import { Facts } from "./Facts";
import { paired, shownTurn, type ShownTurn } from "./shown";
import { ToolCard } from "./ToolCard";

const Inspector = lazy(() => import("./Inspector"));

export const Turn = memo(function Turn({ record }: { record: TurnRecord }) {
  return record.role === "user" ? <Question record={record} /> : <Answer record={record} />;
});

export function UnsentTurn({ turn }: { turn: Unsent }) {
  return (
    <li className="turn user unsent" aria-busy="true">
      <div className="said">{visibleText(turn.text)}</div>
      <span className="status">Sending…</span>
    </li>
  );
}

function Question({ record }: { record: TurnRecord }) {
  const store = useStore();
  const [edited, setEdited] = useState<string | null>(null);
  const text = record.blocks.map(({ text_content }) => text_content ?? "").join("");
  if (edited !== null) {
    const files = record.blocks.filter(({ block_type }) => block_type !== "text");
    const send = async () => {
      setEdited(null);
      if (!(await store.send(edited.trim(), files, record.prev_turn_id))) setEdited(edited);
    };
    return (
      <li className="turn user">
        <form
          className="edit"
          onSubmit={(event) => {
            event.preventDefault();
            void send();
          }}
        >
          <textarea aria-label="Edit the question" autoFocus value={edited} onChange={(event) => { setEdited(event.target.value); }} />
          <div className="choices">
            <button type="submit" className="primary" disabled={edited.trim() === ""}>
              Send as a new branch
            </button>
            <button type="button" onClick={() => { setEdited(null); }}>
              Cancel
            </button>
          </div>
        </form>
      </li>
    );
  }
  // The data of a file is not in the page, so a question with one is asked again as a whole.
  const isEditable = record.blocks.every(({ block_type }) => block_type === "text");
  return (
    <li className="turn user">
      <div className="said">
        <span className="hidden">You said: </span>
        {record.blocks.map((block) => (
          <BlockView key={block.sequence} turnId={record.id} block={{ ...block, open: false }} isPlain />
        ))}
      </div>
      <div className="foot">
        <Branches record={record} />
        <CopyButton text={text} label="Copy question" />
        {isEditable && (
          <button type="button" className="icon" onClick={() => { setEdited(text); }} aria-label="Edit question" title="Edit question">
            <Icon name="edit" />
          </button>
        )}
      </div>
    </li>
  );
}

function Answer({ record }: { record: TurnRecord }) {
  const store = useStore();
  const state = useSnapshot((snapshot) => snapshot.live.get(record.id));
  const [isInspected, setIsInspected] = useState(false);
  const turn = shownTurn(record, state);
  const isRunning = !isOver(turn.status);
  const text = turn.blocks.map(({ block_type, text_content }) => (block_type === "text" ? (text_content ?? "") : "")).join("");
  return (
    <li className={`turn assistant ${turn.status}`} aria-busy={isRunning}>
      <span className="hidden">Answer: </span>
      <Steps turn={turn} />
      {paired(turn.blocks).map((shown) =>
        shown.kind === "block" ? (
          <BlockView key={shown.block.sequence} turnId={record.id} block={shown.block} />
        ) : (
          <ToolCard key={shown.call.sequence} turnId={record.id} call={shown.call} result={shown.result} turn={turn} />
        ),
      )}
      <Sources turn={turn} />
      <Status turn={turn} onRetry={() => void store.regenerate(record.id)} />
      {isInspected && (
        <Suspense>
          <Inspector record={record} onClose={() => { setIsInspected(false); }} />
        </Suspense>
      )}
      {!isRunning && (
        <div className="foot">
          <Branches record={record} />
          <CopyButton text={text} label="Copy answer" />
          <button type="button" className="icon" onClick={() => void store.regenerate(record.id)} aria-label="Answer again" title="Answer again, with the chosen model">
            <Icon name="retry" />
          </button>
          <button type="button" className="icon" onClick={() => { setIsInspected(true); }} aria-label="Inspect" title="Inspect">
            <Icon name="inspect" />
          </button>
          <Facts record={record} />
        </div>
      )}
    </li>
  );
}

/** The stages of a workflow, with its progress. Plain model calls have no names. */
function Steps({ turn }: { turn: ShownTurn }) {
  const step = turn.steps.findLast(({ name }) => name !== null);
  if (step === undefined || isOver(turn.status)) return null;
  return (
    <div className="step-name">
      <span>{visibleText(step.name ?? "")}</span>
      {step.progress !== null && <progress value={step.progress} max={1} aria-label="Progress of the workflow" />}
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

const STOPPED: Readonly<Record<string, string>> = {
  max_tokens: "The answer reached its limit of tokens and is cut off.",
  content_filtered: "The provider’s filter ended the answer.",
  guardrail_intervened: "The provider’s guardrail ended the answer.",
  refusal: "The model refused to answer.",
  max_rounds: "The model used its tools too often. The answer ended.",
};

function Status({ turn, onRetry }: { turn: ShownTurn; onRetry: () => void }) {
  const notice = turn.notices.at(-1);
  switch (turn.status) {
    case "pending":
      return <Working text="Waiting for the model…" />;
    case "streaming": {
      const open = turn.blocks.at(-1);
      if (notice?.code === "retry" || notice?.code === "fallback") return <Working text="Trying again…" />;
      if (open?.open !== true) return <Working text="Working…" />;
      return open.block_type === "thinking" ? <Working text="Thinking…" /> : null;
    }
    case "waiting":
      return <p className="status">Waiting for your approval.</p>;
    case "cancelled":
      return <p className="notice">Stopped. This is what had come until then.</p>;
    case "error":
      return (
        <div className="notice error" role="alert">
          <Icon name="warning" />
          <span>{turn.error?.message ?? "The answer failed."}</span>
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

function Working({ text }: { text: string }) {
  return (
    <p className="status">
      <span className="dot" /> {text}
    </p>
  );
}

/** ‹2/3›: the alternatives of a turn. */
function Branches({ record }: { record: TurnRecord }) {
  const store = useStore();
  const siblings = record.siblings ?? [];
  const place = siblings.indexOf(record.id);
  if (siblings.length < 2 || place < 0) return null;
  const [before, after] = [siblings[place - 1], siblings[place + 1]];
  return (
    <span className="branches" role="group" aria-label="Alternatives">
      <button type="button" className="icon" disabled={before === undefined} onClick={() => { if (before !== undefined) void store.choose(before); }} aria-label="Alternative before">
        <Icon name="left" />
      </button>
      <span>{`${place + 1}/${siblings.length}`}</span>
      <button type="button" className="icon" disabled={after === undefined} onClick={() => { if (after !== undefined) void store.choose(after); }} aria-label="Alternative after">
        <Icon name="right" />
      </button>
    </span>
  );
}
