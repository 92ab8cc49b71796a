import type { StoredTurn, TurnstreamError } from "@turnstream/client";
import type { ChatMessage } from "@turnstream/client/chat";
import { useTurn } from "@turnstream/client/react";
import { useEffect, useState } from "react";
import { client } from "../data/api";
import { usePage, usePagePart } from "../data/context";
import { visibleText } from "../markdown/visibleText";
import { CopyButton } from "../parts/CopyButton";
import { AnswerBody } from "./AnswerBody";
import { Facts } from "./Facts";
import { isOver, shownTurn, textOf } from "./shown";

interface SideBySideProps {
  readonly message: ChatMessage;
  readonly record: StoredTurn;
}

/** The alternatives of an answer in columns, until the reader continues with one of them. */
export function SideBySide({ message, record }: SideBySideProps) {
  return (
    <li className="turn assistant compared">
      <div className="columns" role="group" aria-label="Answers side by side">
        {message.siblings.map((id, place) =>
          id === record.id ? (
            <Column key={id} place={place} message={message} record={record} isShown />
          ) : (
            <Alternative key={id} place={place} turnId={id} />
          ),
        )}
      </div>
    </li>
  );
}

/** An alternative that is not in the shown branch: its record is read here. */
function Alternative({ place, turnId }: { place: number; turnId: string }) {
  const [record, setRecord] = useState<StoredTurn | null>(null);
  const [failure, setFailure] = useState<TurnstreamError | null>(null);
  const isFinal = record !== null && isOver(record.status);
  const live = record === null || isFinal ? null : client.turn(turnId);
  const hasEnded = useTurn(live)?.turn.ended === true;
  useEffect(() => {
    let isWanted = true;
    client.readTurn(turnId).then(
      (read) => { if (isWanted) setRecord(read); },
      (error: unknown) => { if (isWanted) setFailure(error as TurnstreamError); },
    );
    return () => { isWanted = false; };
  }, [turnId, hasEnded]);
  if (failure !== null) return <p className="notice error">{failure.message}</p>;
  if (record === null) return <p className="status">Loading…</p>;
  return <Column place={place} message={{ live }} record={record} isShown={false} />;
}

interface ColumnProps {
  readonly place: number;
  readonly message: Pick<ChatMessage, "live">;
  readonly record: StoredTurn;
  /** True for the answer of the shown branch. */
  readonly isShown: boolean;
}

function Column({ place, message, record, isShown }: ColumnProps) {
  const page = usePage();
  const chat = usePagePart((snapshot) => snapshot.chat);
  const view = useTurn(message.live);
  const turn = shownTurn(record, view?.turn ?? null);
  const isRunning = !isOver(turn.status);
  const choose = () =>
    void page.attempt(async () => {
      if (!isShown) await chat.showBranch(record.id);
      page.compare({ questionId: record.prev_turn_id, isShown: false });
    });
  const regenerate = () => void page.attempt(() => chat.regenerate(record.id, { alternatives: null }));
  return (
    <section className={`column ${turn.status}`} aria-label={`Answer ${place + 1}`} aria-busy={isRunning}>
      <header>
        <strong>{visibleText(record.model ?? record.asked_model ?? `Answer ${place + 1}`)}</strong>
      </header>
      <AnswerBody record={record} turn={turn} onRetry={regenerate} />
      <div className="foot">
        <button type="button" onClick={choose}>
          Continue with this
        </button>
        {isRunning && (
          <button type="button" onClick={() => void page.attempt(() => client.stop(record.id))} aria-label={`Stop answer ${place + 1}`}>
            Stop
          </button>
        )}
        {!isRunning && <CopyButton text={textOf(turn)} label={`Copy answer ${place + 1}`} />}
        {!isRunning && <Facts record={record} />}
      </div>
    </section>
  );
}
