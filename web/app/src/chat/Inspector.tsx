import { useEffect, useMemo, useState } from "react";
import { type Attempt, fetchReader, type Frame, type StoredTurn } from "@turnstream/client";
import { API, HEADERS } from "../data/api";
import { usePagePart } from "../data/context";
import { visibleText } from "../markdown/visibleText";
import { CopyButton } from "../parts/CopyButton";
import { Dialog } from "../parts/Dialog";

/** Events that are kept. Of a longer stream the last ones are shown. */
const MOST_EVENTS = 2000;
const SHOWN_EVENTS = 200;

interface Arrival {
  readonly frame: Frame;
  /** Milliseconds from the request to this event. */
  readonly after: number;
}

/** What a turn's stream is now: the events that a watcher gets who joins, and the model calls that were tried. */
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
      <Attempts record={record} />
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

/** The model calls of a turn on one time axis. The bars repeat what the table says. */
function Attempts({ record }: { record: StoredTurn }) {
  const { attempts } = record;
  if (attempts.length === 0) return <p className="status">The model calls are listed when the turn has ended.</p>;
  const begin = Date.parse(record.created_at);
  const end = Math.max(...attempts.map(endOf), begin + 1);
  return (
    <table className="attempts">
      <caption>Model calls</caption>
      <thead>
        <tr>
          <th scope="col">Step</th>
          <th scope="col">Model</th>
          <th scope="col">Outcome</th>
          <th scope="col">Seconds</th>
          <th scope="col">Time</th>
        </tr>
      </thead>
      <tbody>
        {attempts.map((attempt) => (
          <tr key={`${attempt.step}.${attempt.number}`}>
            <td>{`${attempt.step}.${attempt.number}`}</td>
            <td>{visibleText(attempt.model)}</td>
            <td>{attempt.outcome}</td>
            <td>{attempt.duration.toFixed(2)}</td>
            <td>
              <svg className="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
                <rect
                  x={(100 * (Date.parse(attempt.started_at) - begin)) / (end - begin)}
                  width={Math.max(1, (100 * attempt.duration * 1000) / (end - begin))}
                  height="8"
                />
              </svg>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function endOf(attempt: Attempt): number {
  return Date.parse(attempt.started_at) + attempt.duration * 1000;
}
