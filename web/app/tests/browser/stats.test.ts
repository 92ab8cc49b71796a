// The statistics of the reader's model calls: plots, and the same numbers as tables.

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Browser, Page } from "playwright-core";
import type { Statistics } from "@turnstream/client";
import { ask, ended, launch, open, picture, startServer, type TestServer } from "./harness";
import { seriousFindings } from "./accessibility";

let browser: Browser;
let server: TestServer;
let page: Page;
let faults: string[];

beforeAll(async () => {
  browser = await launch();
  server = await startServer({ model: "sim/echo:pace=0", fill: "tests.store.statistics.filling" });
});
beforeEach(() => { faults = []; });
afterEach(async () => {
  await page.context().close();
  expect(faults).toEqual([]);
});
afterAll(async () => {
  await browser.close();
  await server.kill();
});

async function opened(options: Parameters<Browser["newContext"]>[0] = {}): Promise<void> {
  page = await (await browser.newContext({ timezoneId: "America/Los_Angeles", ...options })).newPage();
  await open(page, `${server.url}#/statistics`, faults);
  await page.getByRole("heading", { name: "Models" }).waitFor();
}

const stored = async (): Promise<Statistics> => (await (await fetch(`${server.url}api/stats`)).json()) as Statistics;

/** True if a canvas has a pixel that is not transparent. */
const isDrawn = (element: Element) => {
  const canvas = element.querySelector("canvas");
  const pixels = canvas?.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data ?? [];
  return pixels.some((value) => value !== 0);
};

test("the tables have the numbers of the server, by model and by day", async () => {
  await opened();
  const statistics = await stored();
  const models = page.getByRole("region", { name: "Models" });
  await expect.poll(() => models.locator("tbody tr").count()).toBe(statistics.models.length);
  const first = await models.locator("tbody tr").first().locator("th, td").allTextContents();
  const [most] = statistics.models;
  if (most === undefined) throw new Error("no model");
  expect(first.slice(0, 3)).toEqual([most.model, most.calls.toLocaleString("en"), most.errors.toLocaleString("en")]);
  await page.getByText("Table: Model calls").click();
  const rows = page.getByRole("region", { name: "Numbers: Model calls" }).locator("tbody tr");
  expect(await rows.count()).toBe(30);
  const shown = await rows.locator("td").allTextContents();
  const sum = shown.reduce((total, text) => total + Number(text.replaceAll(",", "")), 0);
  expect(sum).toBe(statistics.models.reduce((total, { calls }) => total + calls, 0));
  const days = await rows.locator("th").allTextContents();
  expect([days[0], days.at(-1)]).toEqual([statistics.first_day, statistics.last_day]);
  const errors = await page.getByRole("region", { name: "Errors" }).locator("tbody tr").first().locator("th, td").allTextContents();
  expect(errors).toEqual([statistics.errors[0]?.code, statistics.errors[0]?.model, String(statistics.errors[0]?.calls)]);
});

test("a new answer counts, and a range is chosen", async () => {
  await opened();
  const before = await stored();
  await page.getByRole("button", { name: "New chat" }).click();
  await ask(page, "one two three");
  await ended(page);
  await page.getByRole("link", { name: "Statistics" }).click();
  await page.getByRole("region", { name: "Models" }).getByText("sim/echo:pace=0").waitFor();
  expect((await stored()).turns.complete).toBe(before.turns.complete + 1);
  await page.getByLabel("Range").selectOption("7");
  await page.getByText("Table: Model calls").click();
  await expect.poll(() => page.getByRole("region", { name: "Numbers: Model calls" }).locator("tbody tr").count()).toBe(7);
  await page.goBack();
  await page.locator(".turn.assistant").waitFor();
});

test.each([
  ["light", 1280, 900],
  ["dark", 1280, 900],
  ["light", 360, 740],
  ["dark", 360, 740],
] as const)("plots are drawn, axe is content, and nothing is too wide (%s, %i pixels)", async (colorScheme, width, height) => {
  const refused: string[] = [];
  await opened({ colorScheme, viewport: { width, height } });
  page.on("console", (message) => { if (message.text().includes("Content Security Policy")) refused.push(message.text()); });
  const plots = page.locator(".plot");
  expect(await plots.count()).toBe(9);
  for (const plot of await plots.all()) await expect.poll(() => plot.evaluate(isDrawn)).toBe(true);
  expect(await seriousFindings(page)).toEqual([]);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(overflow).toBe(0);
  await picture(page, `statistics-${width}-${colorScheme}`);
  await page.locator(".plots").scrollIntoViewIfNeeded();
  await picture(page, `statistics-plots-${width}-${colorScheme}`);
  expect(refused).toEqual([]);
});

test("a failure is shown, and the reader tries again", async () => {
  page = await (await browser.newContext()).newPage();
  await page.route("**/api/stats*", (route) => route.fulfill({ status: 400, json: { error: { code: "invalid_range", message: "no such range" } } }));
  await open(page, `${server.url}#/statistics`, faults);
  await page.getByRole("alert").getByText("no such range").waitFor();
  await page.unroute("**/api/stats*");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("heading", { name: "Models" }).waitFor();
});
