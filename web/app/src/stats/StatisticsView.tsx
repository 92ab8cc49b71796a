import { type Statistics, TurnstreamError } from "@turnstream/client";
import { useEffect, useMemo, useState } from "react";
import { client } from "../data/api";
import { Icon } from "../parts/Icon";
import { visibleText } from "../markdown/visibleText";
import { LINES, Plot } from "./Plot";
import { columnsOf, firstDay, type Measure, MEASURES, MOST_LINES, shownNumber } from "./series";
import { ErrorsTable, ModelsTable, NumbersTable } from "./Tables";
import "./stats.css";

const RANGES = [7, 30, 90, 365];

/** Tokens, cost, times and errors of the reader's own model calls, by model and day. */
export default function StatisticsView({ onMenu }: { onMenu: () => void }) {
  const [days, setDays] = useState(30);
  const [attempt, setAttempt] = useState(0);
  const { statistics, failure } = useStatistics(days, attempt);
  return (
    <main className="chat statistics">
      <header>
        <button type="button" className="icon only-narrow" onClick={onMenu} aria-label="Show the chats" title="Show the chats">
          <Icon name="menu" />
        </button>
        <h1>Statistics</h1>
        <label>
          <span className="hidden">Range</span>
          <select value={days} onChange={(event) => { setDays(Number(event.target.value)); }}>
            {RANGES.map((count) => (
              <option key={count} value={count}>
                {`Last ${count} days`}
              </option>
            ))}
          </select>
        </label>
      </header>
      <div className="sheet">
        {failure !== null && (
          <div className="notice error" role="alert">
            <span>{failure}</span>
            <button type="button" onClick={() => { setAttempt(attempt + 1); }}>
              Try again
            </button>
          </div>
        )}
        {statistics === null ? failure === null && <p className="status" role="status">Loading…</p> : <Shown statistics={statistics} />}
      </div>
    </main>
  );
}

function useStatistics(days: number, attempt: number): { readonly statistics: Statistics | null; readonly failure: string | null } {
  const [statistics, setStatistics] = useState<Statistics | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  useEffect(() => {
    const closing = new AbortController();
    client.statistics({ first_day: firstDay(days, Date.now()), signal: closing.signal }).then(
      (found) => {
        setStatistics(found);
        setFailure(null);
      },
      (error: unknown) => {
        if (closing.signal.aborted) return;
        if (!(error instanceof TurnstreamError)) throw error;
        setFailure(error.message);
      },
    );
    return () => { closing.abort(); };
  }, [days, attempt]);
  return { statistics, failure };
}

function Shown({ statistics }: { statistics: Statistics }) {
  const { turns, models } = statistics;
  const cost = models.reduce((sum, row) => sum + Number(row.cost), 0);
  const tokens = models.reduce((sum, row) => sum + row.input_tokens + row.output_tokens, 0);
  const answers = turns.complete + turns.error + turns.cancelled + turns.unfinished;
  const facts = [
    ["Answers", shownNumber(answers, 0)],
    ["Failed", shownNumber(turns.error, 0)],
    ["Stopped", shownNumber(turns.cancelled, 0)],
    ["Tokens", shownNumber(tokens, 0)],
    ["Cost", `$${shownNumber(cost, 4)}`],
  ] as const;
  return (
    <>
      <p className="status" role="status">{`${statistics.first_day} to ${statistics.last_day}, in UTC`}</p>
      <dl className="figures">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {models.length === 0 ? (
        <p className="welcome">No model was called in these days.</p>
      ) : (
        <>
          <h2>Models</h2>
          <ModelsTable statistics={statistics} />
          <h2>By day</h2>
          <Legend models={models.map(({ model }) => model)} />
          <div className="plots">
            {MEASURES.map((measure) => (
              <MeasureByDay key={measure.name} statistics={statistics} measure={measure} />
            ))}
          </div>
          <h2>Errors</h2>
          <ErrorsTable statistics={statistics} />
        </>
      )}
    </>
  );
}

function Legend({ models }: { models: readonly string[] }) {
  return (
    <ul className="legend" aria-label="Lines">
      {models.slice(0, MOST_LINES).map((model, number) => (
        <li key={model}>
          <svg viewBox="0 0 32 8" width="32" height="8" aria-hidden="true" className={`line-${number + 1}`}>
            <path d="M0 4h32" strokeDasharray={LINES[number]?.dash.join(" ")} />
          </svg>
          {visibleText(model)}
        </li>
      ))}
      {models.length > MOST_LINES && <li>{`and ${models.length - MOST_LINES} more in the tables`}</li>}
    </ul>
  );
}

function MeasureByDay({ statistics, measure }: { statistics: Statistics; measure: Measure }) {
  const columns = useMemo(() => columnsOf(statistics, measure), [statistics, measure]);
  return (
    <figure>
      <figcaption>
        {measure.name}
        {measure.unit !== "" && <span className="unit">{` (${measure.unit})`}</span>}
      </figcaption>
      <Plot columns={columns} label={`${measure.name} by day. The table has the numbers.`} />
      <details>
        <summary>{`Table: ${measure.name}`}</summary>
        <NumbersTable columns={columns} measure={measure} />
      </details>
    </figure>
  );
}
