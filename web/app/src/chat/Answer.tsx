import type { StoredTurn } from "@turnstream/client";
import type { ChatMessage } from "@turnstream/client/chat";
import { useTurn } from "@turnstream/client/react";
import { lazy, Suspense, useState } from "react";
import { usePage, usePagePart } from "../data/context";
import { CopyButton } from "../parts/CopyButton";
import { Icon } from "../parts/Icon";
import { AnswerBody } from "./AnswerBody";
import { Branches } from "./Branches";
import { Facts } from "./Facts";
import { isOver, shownTurn, textOf } from "./shown";

const Inspector = lazy(() => import("./Inspector"));

interface AnswerProps {
  readonly message: ChatMessage;
  readonly record: StoredTurn;
  /** True if the answer can be shown beside its alternatives. */
  readonly isComparable: boolean;
}

export function Answer({ message, record, isComparable }: AnswerProps) {
  const page = usePage();
  const chat = usePagePart((snapshot) => snapshot.chat);
  const view = useTurn(message.live);
  const [isInspected, setIsInspected] = useState(false);
  const turn = shownTurn(record, view?.turn ?? null);
  const regenerate = (model?: string) =>
    void page.attempt(() => chat.regenerate(record.id, { ...page.getSnapshot().options, ...(model !== undefined && { model, alternatives: null }) }));
  const isRunning = !isOver(turn.status);
  return (
    <li className={`turn assistant ${turn.status}`} aria-busy={isRunning}>
      <span className="hidden">Answer: </span>
      <AnswerBody record={record} turn={turn} onRetry={() => { regenerate(); }} />
      {view?.connection.kind === "failed" && (
        <div className="notice error" role="alert">
          <span>{view.connection.error.message}</span>
          <button type="button" onClick={() => { message.live?.retry(); }}>
            Watch again
          </button>
        </div>
      )}
      {isInspected && (
        <Suspense>
          <Inspector record={record} onClose={() => { setIsInspected(false); }} />
        </Suspense>
      )}
      {!isRunning && (
        <div className="foot">
          <Branches message={message} />
          {isComparable && (
            <button
              type="button"
              className="icon"
              onClick={() => { page.compare({ questionId: record.prev_turn_id, isShown: true }); }}
              aria-label="Show side by side"
              title="Show side by side"
            >
              <Icon name="columns" />
            </button>
          )}
          <CopyButton text={textOf(turn)} label="Copy answer" />
          <button type="button" className="icon" onClick={() => { regenerate(); }} aria-label="Answer again" title="Answer again, with the chosen model">
            <Icon name="retry" />
          </button>
          <AnotherModel onChosen={regenerate} />
          <button type="button" className="icon" onClick={() => { setIsInspected(true); }} aria-label="Inspect" title="Inspect">
            <Icon name="inspect" />
          </button>
          <Facts record={record} />
        </div>
      )}
    </li>
  );
}

/** A list of the models that can answer the question again. */
function AnotherModel({ onChosen }: { onChosen: (model: string) => void }) {
  const models = usePagePart((snapshot) => snapshot.models);
  const ready = models.filter((model) => model.ready);
  if (ready.length < 2) return null;
  return (
    <select className="quiet" aria-label="Answer again with another model" value="" onChange={(event) => { onChosen(event.target.value); }}>
      <option value="" disabled>
        Another model…
      </option>
      {ready.map(({ id }) => (
        <option key={id}>{id}</option>
      ))}
    </select>
  );
}
