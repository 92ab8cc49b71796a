// The numbers of a range of days as columns of plots and tables. Without I/O.

import type { DayStatistics, Statistics } from "@turnstream/client";

/** Models that a plot has lines of. The tables have all models. */
export const MOST_LINES = 6;

export interface Measure {
  readonly name: string;
  readonly unit: string;
  /** Digits after the decimal point. */
  readonly digits: number;
  readonly of: (row: DayStatistics) => number | null;
  /** The value of a day without calls. Null: the line has a gap. */
  readonly without: 0 | null;
}

export const MEASURES: readonly Measure[] = [
  { name: "Model calls", unit: "", digits: 0, of: ({ calls }) => calls, without: 0 },
  { name: "Input tokens", unit: "", digits: 0, of: ({ input_tokens }) => input_tokens, without: 0 },
  { name: "Output tokens", unit: "", digits: 0, of: ({ output_tokens }) => output_tokens, without: 0 },
  { name: "Cost", unit: "$", digits: 4, of: ({ cost }) => Number(cost), without: 0 },
  { name: "First output, median", unit: "s", digits: 2, of: ({ first_output }) => first_output?.p50 ?? null, without: null },
  { name: "First output, 95th percentile", unit: "s", digits: 2, of: ({ first_output }) => first_output?.p95 ?? null, without: null },
  { name: "Speed, median", unit: "tokens/s", digits: 1, of: ({ speed }) => speed?.p50 ?? null, without: null },
  { name: "Errors", unit: "", digits: 0, of: ({ errors }) => errors, without: 0 },
  { name: "Fallbacks", unit: "", digits: 0, of: ({ fallbacks }) => fallbacks, without: 0 },
];

/** One measure of all models, by day. */
export interface Columns {
  /** Each day of the range, as `2026-01-31`. */
  readonly days: readonly string[];
  readonly models: readonly string[];
  /** The values of each model, in the order of the days. */
  readonly values: readonly (readonly (number | null)[])[];
}

export function columnsOf(statistics: Statistics, measure: Measure): Columns {
  const days = daysOf(statistics.first_day, statistics.last_day);
  const models = statistics.models.map(({ model }) => model);
  const found = new Map(statistics.days.map((row) => [`${row.day} ${row.model}`, row]));
  const values = models.map((model) =>
    days.map((day) => {
      const row = found.get(`${day} ${model}`);
      return row === undefined ? measure.without : measure.of(row);
    }),
  );
  return { days, models, values };
}

/** Return each day from the first to the last one, as `2026-01-31`. */
export function daysOf(first: string, last: string): string[] {
  const days: string[] = [];
  for (let time = Date.parse(first); time <= Date.parse(last); time += 86_400_000) days.push(new Date(time).toISOString().slice(0, 10));
  return days;
}

/** Return the first day of the range of `count` days that ends today, in UTC. */
export function firstDay(count: number, now: number): string {
  return new Date(now - (count - 1) * 86_400_000).toISOString().slice(0, 10);
}

export function shownNumber(value: number | null, digits: number): string {
  return value === null ? "–" : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
