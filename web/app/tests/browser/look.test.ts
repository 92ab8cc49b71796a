// Size, accessibility and layout of the page.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Browser } from "playwright-core";
import { ask, ended, launch, open, picture, startServer, type TestServer } from "./harness";
import { seriousFindings } from "./accessibility";

const BUILT = fileURLToPath(new URL("../../../../src/turnstream/server/page/built", import.meta.url));
const FIRST_LOAD = 250_000;

let browser: Browser;
let server: TestServer;

beforeAll(async () => {
  browser = await launch();
  server = await startServer({ settings: '[tools]\nask = { clock = "always" }\n' });
});
afterAll(async () => {
  await browser.close();
  await server.kill();
});

test("the first load is small", () => {
  const index = readFileSync(`${BUILT}/index.html`, "utf8");
  const names = readdirSync(`${BUILT}/assets`).filter((name) => index.includes(name));
  const size = [index, ...names.map((name) => readFileSync(`${BUILT}/assets/${name}`))].reduce((sum, content) => sum + gzipSync(content).length, 0);
  console.log(`first load: ${size} bytes, gzipped`);
  expect(names.length).toBeGreaterThan(1);
  expect(size).toBeLessThan(FIRST_LOAD);
});

test.each(["light", "dark"] as const)("axe finds nothing serious in any state (%s)", async (colorScheme) => {
  const page = await (await browser.newContext({ colorScheme })).newPage();
  await open(page, server.url);
  expect(await seriousFindings(page)).toEqual([]);
  await picture(page, `new-${colorScheme}`);
  await ask(page, "Show **all** of it:\n\n- a list");
  await ended(page);
  expect(await seriousFindings(page)).toEqual([]);
  await picture(page, `answer-${colorScheme}`);
  await page.getByLabel("Model", { exact: true }).selectOption("sim/thinking");
  await ask(page, "Think");
  await ended(page, 2);
  await page.getByLabel("Model", { exact: true }).selectOption("sim/tools");
  await ask(page, "What time is it?");
  await page.getByRole("button", { name: "Approve" }).waitFor();
  await page.locator("details").evaluateAll((folds) => { for (const fold of folds) fold.setAttribute("open", ""); });
  expect(await seriousFindings(page)).toEqual([]);
  await picture(page, `approval-${colorScheme}`);
  await page.getByRole("button", { name: "Deny" }).click();
  await ended(page, 3);
  await page.getByRole("button", { name: "Rename" }).click();
  expect(await seriousFindings(page)).toEqual([]);
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.context().close();
});

test("an answer that fails has an explanation and a retry", async () => {
  const failing = await startServer({ model: "sim/story:fault=error,after=5,status=400,pace=0" });
  const page = await (await browser.newContext()).newPage();
  await open(page, failing.url);
  await ask(page, "Fail");
  await page.locator(".turn.assistant .notice.error").waitFor({ timeout: 60_000 });
  expect(await seriousFindings(page)).toEqual([]);
  await picture(page, "error");
  await page.locator(".turn.assistant").getByRole("button", { name: "Try again" }).click();
  await page.locator(".turn.assistant .branches", { hasText: "2/2" }).waitFor();
  await page.context().close();
  await failing.kill();
});

test.each([
  [320, 568],
  [768, 1024],
  [3840, 2160],
])("nothing is wider than a window of %i pixels", async (width, height) => {
  const page = await (await browser.newContext({ viewport: { width, height } })).newPage();
  await open(page, server.url);
  await ask(page, `A long word ${"x".repeat(300)}, a table and code`);
  await ended(page);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(overflow).toBe(0);
  await page.getByLabel("Message").waitFor();
  await picture(page, `width-${width}`);
  if (width < 768) {
    await page.getByRole("button", { name: "Show the chats" }).click();
    await page.getByRole("button", { name: "New chat" }).click();
    await page.getByText("Ask something", { exact: true }).waitFor();
  }
  await page.context().close();
});

test("the page is used by keyboard alone", async () => {
  const page = await (await browser.newContext()).newPage();
  await open(page, server.url);
  await expect.poll(() => page.evaluate(() => document.activeElement?.getAttribute("aria-label"))).toBe("Message");
  await page.keyboard.type("Hello");
  await page.keyboard.press("Enter");
  await ended(page);
  const reached = new Set<string>();
  for (let step = 0; step < 40; step += 1) {
    await page.keyboard.press("Tab");
    reached.add((await page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent ?? "")).trim());
  }
  for (const name of ["New chat", "Search chats", "Rename", "Delete", "Copy answer", "Answer again", "Attach files", "Model"]) {
    expect([...reached]).toContain(name);
  }
  await page.context().close();
});
