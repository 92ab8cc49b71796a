import { expect, test } from "vitest";
import type { Statistics } from "@turnstream/client";
import { columnsOf, daysOf, firstDay, MEASURES, shownNumber } from "../src/stats/series";

const row = (day: string, model: string, calls: number, p50: number | null) => ({
  day, model, calls, errors: 0, cancelled: 0, fallbacks: 0, input_tokens: 1, output_tokens: 2, cache_read_tokens: 0,
  cache_write_tokens: 0, reasoning_tokens: 0, cost: "0.500000", unpriced: 0, estimated: 0,
  first_output: p50 === null ? null : { calls, p50, p95: p50, p99: p50 }, speed: null,
});
const days = [row("2026-02-28", "a/one", 3, 0.5), row("2026-03-02", "a/one", 1, null), row("2026-03-02", "b/two", 2, 1.5)];
const statistics: Statistics = {
  first_day: "2026-02-28", last_day: "2026-03-02", turns: { complete: 6, error: 0, cancelled: 0, unfinished: 0 },
  models: [row("", "a/one", 4, 0.5), row("", "b/two", 2, 1.5)], days, errors: [],
};
const measure = (name: string) => {
  const found = MEASURES.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(name);
  return found;
};

test("a day without calls is 0 in a sum, and a gap in a percentile", () => {
  expect(columnsOf(statistics, measure("Model calls"))).toEqual({
    days: ["2026-02-28", "2026-03-01", "2026-03-02"], models: ["a/one", "b/two"], values: [[3, 0, 1], [0, 0, 2]],
  });
  expect(columnsOf(statistics, measure("Cost")).values).toEqual([[0.5, 0, 0.5], [0, 0, 0.5]]);
  expect(columnsOf(statistics, measure("First output, median")).values).toEqual([[0.5, null, null], [null, null, 1.5]]);
});

test("days are those of UTC", () => {
  expect(daysOf("2023-12-31", "2024-01-01")).toEqual(["2023-12-31", "2024-01-01"]);
  expect(daysOf("2024-02-28", "2024-03-01")).toHaveLength(3);
  expect(firstDay(1, Date.parse("2026-03-01T23:59:59Z"))).toBe("2026-03-01");
  expect(firstDay(30, Date.parse("2026-03-01T00:00:00Z"))).toBe("2026-01-31");
});

test("numbers have the digits of their measure", () => {
  expect(shownNumber(1234567, 0)).toBe("1,234,567");
  expect(shownNumber(0.5, 4)).toBe("0.5000");
  expect(shownNumber(null, 2)).toBe("–");
});
