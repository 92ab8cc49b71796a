import { useEffect, useMemo, useState } from "react";
import { fetchReader, type Frame, type StoredTurn, type TurnstreamError } from "@turnstream/client";
import { API, client, HEADERS } from "../data/api";
import { usePagePart } from "../data/context";
import { visibleText } from "../markdown/visibleText";
import { CopyButton } from "../parts/CopyButton";
import { Dialog } from "../parts/Dialog";
import { type Span, timelineOf } from "./timeline";

/** Events that are kept. Of a longer stream the last ones are shown. */
const MOST_EVENTS = 2000;
const SHOWN_EVENTS = 200;

interface Arrival {
  readonly frame: Frame;
  /** Milliseconds from the request to this event. */
  readonly after: number;
}

/** The timeline of a turn, and the events that a watcher gets if it joins now. */
export default function Inspector({ record, onClose }: { record: StoredTurn; onClose: () => void }) {
  const needsKey = usePagePart((snapshot) => snapshot.session?.needs_key === true);
  const url = new URL(`turns/${record.id}/stream`, API).href;
  const { arrivals, total, isOpen, failure } = useEvents(url);
  const [type, setType] = useState("");
  const types = useMemo(() => [...new Set(arrivals.map(({ frame }) => frame.event))].sort(), [arrivals]);
  const shown = arrivals.filter(({ frame }) => type === "" || frame.event === type).slice(-SHOWN_EVENTS);
  const curl = `curl -N ${needsKey ? '-H "Authorization: Bearer $TURNSTREAM_API_KEY" ' : ""}${url}`;
  return (
    <Dialog title="Inspector" onClose={onClose}>
      <p>
        <code>{record.id}</code> <CopyButton text={curl} label="Copy as curl" />
      </p>
      <Timeline record={record} />
      <h3>Events</h3>
      <p className="status" role="status">
        {failure ?? `${total} events${isOpen ? ", and the stream is open" : ""}. Each catch-up has a whole block.`}
      </p>
      <label className="filter">
        Type
        <select value={type} onChange={(event) => { setType(event.target.value); }}>
          <option value="">all</option>
          {types.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      <div className="events" role="region" aria-label="Events" tabIndex={0}>
        <table>
          <thead>
            <tr>
              <th scope="col">ms</th>
              <th scope="col">Cursor</th>
              <th scope="col">Event</th>
              <th scope="col">Data</th>
            </tr>
          </thead>
          <tbody>
            {shown.map(({ frame, after }, place) => (
              <tr key={place}>
                <td>{after}</td>
                <td>{frame.id}</td>
                <td>{frame.event}</td>
                <td>{visibleText(frame.data.length > 300 ? `${frame.data.slice(0, 300)}… (${frame.data.length} characters)` : frame.data)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Dialog>
  );
}

function useEvents(url: string) {
  const [arrivals, setArrivals] = useState<readonly Arrival[]>([]);
  const [total, setTotal] = useState(0);
  const [isOpen, setIsOpen] = useState(true);
  const [failure, setFailure] = useState<string | null>(null);
  useEffect(() => {
    const closing = new AbortController();
    const began = performance.now();
    let waiting: Arrival[] = [];
    const show = () => {
      const come = waiting;
      waiting = [];
      setTotal((known) => known + come.length);
      setArrivals((known) => [...known, ...come].slice(-MOST_EVENTS));
    };
    const sink = {
      opened: () => undefined,
      alive: () => undefined,
      retry: () => undefined,
      frame: (frame: Frame) => {
        if (waiting.push({ frame, after: Math.round(performance.now() - began) }) === 1) setTimeout(show, 100);
        if (/^turn_(complete|error|cancelled)$/.test(frame.event)) closing.abort();
      },
    };
    fetchReader({ url, headers: HEADERS, lastId: null, signal: closing.signal, fetch: window.fetch.bind(window) }, sink)
      .catch((error: unknown) => {
        if (!closing.signal.aborted) setFailure(error instanceof Error ? error.message : String(error));
      })
      .finally(() => { setIsOpen(false); });
    return () => { closing.abort(); };
  }, [url]);
  return { arrivals, total, isOpen, failure };
}

/** The model calls and the tools of a turn on one time axis. The bars repeat what the table says. */
function Timeline({ record }: { record: StoredTurn }) {
  const { turn, failure } = useWholeTurn(record.id);
  const spans = useMemo(() => (turn === null ? [] : timelineOf(turn)), [turn]);
  if (failure !== null) return <p className="notice error">{visibleText(failure)}</p>;
  if (turn === null) return <p className="status">Loading…</p>;
  if (turn.attempts.length === 0) return <p className="status">No model call is stored with this turn.</p>;
  const end = Math.max(...spans.map(({ begin, seconds }) => begin + seconds), 0.001);
  return (
    <table className="attempts">
      <caption>Timeline</caption>
      <thead>
        <tr>
          <th scope="col">Begin (s)</th>
          <th scope="col">What</th>
          <th scope="col">Outcome</th>
          <th scope="col">First output (s)</th>
          <th scope="col">Seconds</th>
          <th scope="col">Time</th>
        </tr>
      </thead>
      <tbody>
        {spans.map((span, place) => (
          <tr key={place} className={span.kind}>
            <td>{span.begin.toFixed(2)}</td>
            <td>{span.kind === "tool" ? `tool ${visibleText(span.name)}` : visibleText(span.name)}</td>
            <td>{span.outcome}</td>
            <td>{span.firstOutput?.toFixed(2) ?? ""}</td>
            <td>{span.seconds.toFixed(2)}</td>
            <td>
              <Bar span={span} end={end} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** A model call is pale until its first output. */
function Bar({ span: { begin, seconds, firstOutput }, end }: { span: Span; end: number }) {
  const scale = 100 / end;
  return (
    <svg className="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
      <rect x={begin * scale} width={Math.max(1, seconds * scale)} height="8" />
      {firstOutput !== null && <rect className="wait" x={begin * scale} width={firstOutput * scale} height="8" />}
    </svg>
  );
}

/** Return the record of a turn with its model calls: the turns of a branch do not have them. */
function useWholeTurn(id: string): { readonly turn: StoredTurn | null; readonly failure: string | null } {
  const [turn, setTurn] = useState<StoredTurn | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  useEffect(() => {
    let isWanted = true;
    client.readTurn(id).then(
      (read) => { if (isWanted) setTurn(read); },
      (error: unknown) => { if (isWanted) setFailure((error as TurnstreamError).message); },
    );
    return () => { isWanted = false; };
  }, [id]);
  return { turn, failure };
}
