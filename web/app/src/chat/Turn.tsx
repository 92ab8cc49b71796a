import type { Block, StoredTurn, UserBlock } from "@turnstream/client";
import type { ChatMessage } from "@turnstream/client/chat";
import { useTurn } from "@turnstream/client/react";
import { lazy, memo, Suspense, useState } from "react";
import { usePage, usePagePart } from "../data/context";
import { visibleText } from "../markdown/visibleText";
import { CopyButton } from "../parts/CopyButton";
import { Icon } from "../parts/Icon";
import { BlockView } from "./BlockView";
import { Facts } from "./Facts";
import { isOver, paired, shownTurn, type ShownTurn } from "./shown";
import { ToolCard } from "./ToolCard";

const Inspector = lazy(() => import("./Inspector"));

export const Turn = memo(function Turn({ message }: { message: ChatMessage }) {
  const { turn, pending } = message;
  if (pending !== null) return <UnsentQuestion blocks={pending} />;
  if (turn === null) return null;
  return message.role === "user" ? <Question message={message} record={turn} /> : <Answer message={message} record={turn} />;
});

function UnsentQuestion({ blocks }: { blocks: readonly UserBlock[] }) {
  return (
    <li className="turn user unsent" aria-busy="true">
      <div className="said">
        {blocks.map((block, sequence) => (
          <BlockView key={sequence} turnId="" block={unsentBlock(block, sequence)} isPlain />
        ))}
      </div>
      <span className="status">Sending…</span>
    </li>
  );
}

function unsentBlock(block: UserBlock, sequence: number): Block {
  const shared = { sequence, partial: false, open: false };
  if ("type" in block) return { ...shared, block_type: "text", text_content: block.text, content: null };
  const content = (block.content ?? null) as Block["content"];
  return { ...shared, block_type: block.block_type, text_content: block.text_content ?? null, content };
}

interface TurnProps {
  readonly message: ChatMessage;
  readonly record: StoredTurn;
}

function Question({ message, record }: TurnProps) {
  const page = usePage();
  const chat = usePagePart((snapshot) => snapshot.chat);
  const [edited, setEdited] = useState<string | null>(null);
  const text = record.blocks.map(({ text_content }) => text_content ?? "").join("");
  if (edited !== null) {
    const files = record.blocks.filter(({ block_type }) => block_type !== "text");
    const send = async () => {
      setEdited(null);
      const blocks = [...files, { block_type: "text" as const, text_content: edited.trim() }] as readonly UserBlock[];
      if (!(await page.attempt(() => chat.edit(record, blocks, page.getSnapshot().options)))) setEdited(edited);
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
        <Branches message={message} />
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

function Answer({ message, record }: TurnProps) {
  const page = usePage();
  const chat = usePagePart((snapshot) => snapshot.chat);
  const view = useTurn(message.live);
  const [isInspected, setIsInspected] = useState(false);
  const turn = shownTurn(record, view?.turn ?? null);
  const regenerate = () => void page.attempt(() => chat.regenerate(record.id, page.getSnapshot().options));
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
      <Status turn={turn} onRetry={regenerate} />
      {isInspected && (
        <Suspense>
          <Inspector record={record} onClose={() => { setIsInspected(false); }} />
        </Suspense>
      )}
      {!isRunning && (
        <div className="foot">
          <Branches message={message} />
          <CopyButton text={text} label="Copy answer" />
          <button type="button" className="icon" onClick={regenerate} aria-label="Answer again" title="Answer again, with the chosen model">
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
function Branches({ message: { siblings, turn } }: { message: ChatMessage }) {
  const page = usePage();
  const chat = usePagePart((snapshot) => snapshot.chat);
  const place = siblings.indexOf(turn?.id ?? "");
  const show = (turnId: string | undefined) => {
    if (turnId !== undefined) void page.attempt(() => chat.showBranch(turnId));
  };
  if (siblings.length < 2 || place < 0) return null;
  const [before, after] = [siblings[place - 1], siblings[place + 1]];
  return (
    <span className="branches" role="group" aria-label="Alternatives">
      <button type="button" className="icon" disabled={before === undefined} onClick={() => { show(before); }} aria-label="Alternative before">
        <Icon name="left" />
      </button>
      <span>{`${place + 1}/${siblings.length}`}</span>
      <button type="button" className="icon" disabled={after === undefined} onClick={() => { show(after); }} aria-label="Alternative after">
        <Icon name="right" />
      </button>
    </span>
  );
}
