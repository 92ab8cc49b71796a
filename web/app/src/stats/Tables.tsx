import type { Statistics } from "@turnstream/client";
import { visibleText } from "../markdown/visibleText";
import { type Columns, type Measure, shownNumber } from "./series";

/** The numbers of a plot. */
export function NumbersTable({ columns: { days, models, values }, measure }: { columns: Columns; measure: Measure }) {
  return (
    <div className="numbers" role="region" aria-label={`Numbers: ${measure.name}`} tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Day</th>
            {models.map((model) => (
              <th scope="col" key={model}>
                {visibleText(model)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {days.map((day, place) => (
            <tr key={day}>
              <th scope="row">{day}</th>
              {values.map((line, model) => (
                <td key={models[model]}>{shownNumber(line[place] ?? null, measure.digits)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Each model in the whole range. */
export function ModelsTable({ statistics }: { statistics: Statistics }) {
  return (
    <div className="numbers" role="region" aria-label="Models" tabIndex={0}>
      <table>
        <thead>
          <tr>
            {["Model", "Calls", "Errors", "Fallbacks", "Stopped", "Input", "Output", "Cost", "First output (s)", "95 % (s)", "Tokens/s", "Estimated", "No price"].map((name) => (
              <th scope="col" key={name}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {statistics.models.map((row) => (
            <tr key={row.model}>
              <th scope="row">{visibleText(row.model)}</th>
              {[row.calls, row.errors, row.fallbacks, row.cancelled, row.input_tokens, row.output_tokens].map((value, place) => (
                <td key={place}>{shownNumber(value, 0)}</td>
              ))}
              <td>{costOf(row)}</td>
              <td>{shownNumber(row.first_output?.p50 ?? null, 2)}</td>
              <td>{shownNumber(row.first_output?.p95 ?? null, 2)}</td>
              <td>{shownNumber(row.speed?.p50 ?? null, 1)}</td>
              <td>{shownNumber(row.estimated, 0)}</td>
              <td>{shownNumber(row.unpriced, 0)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function ErrorsTable({ statistics }: { statistics: Statistics }) {
  if (statistics.errors.length === 0) return <p className="status">No call failed.</p>;
  return (
    <div className="numbers" role="region" aria-label="Errors" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Error</th>
            <th scope="col">Model</th>
            <th scope="col">Calls</th>
          </tr>
        </thead>
        <tbody>
          {statistics.errors.map(({ model, code, calls }) => (
            <tr key={`${model} ${code}`}>
              <th scope="row">{visibleText(code)}</th>
              <td className="text">{visibleText(model)}</td>
              <td>{shownNumber(calls, 0)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** The sum of the known costs. */
function costOf({ cost, unpriced, calls }: Statistics["models"][number]): string {
  return unpriced === calls ? "–" : `$${shownNumber(Number(cost), 4)}`;
}
