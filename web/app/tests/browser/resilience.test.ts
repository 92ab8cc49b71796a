// A bad network, a dead server, several tabs: the page ends with the text that is stored.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { Browser } from "playwright-core";
import { ask, connected, cuttingProxy, ended, grown, launch, open, shownText, startServer, storedText, type TestServer } from "./harness";

let browser: Browser;
let server: TestServer;

beforeAll(async () => {
  browser = await launch();
  server = await startServer({ model: "sim/story:events=600,pace=0.02" });
});
afterAll(async () => {
  await browser.close();
  await server.kill();
});

test("an answer continues through reloads at random moments", async () => {
  const page = await (await browser.newContext()).newPage();
  const faults: string[] = [];
  await open(page, server.url, faults);
  await ask(page, "Tell me a story");
  for (let reload = 0; reload < 20; reload += 1) {
    await grown(page, Math.floor(Math.random() * 60));
    await page.reload();
    await page.locator(".turn.assistant").last().waitFor();
  }
  await ended(page);
  const stored = await storedText(page, server.url);
  expect(stored.length).toBeGreaterThan(500);
  await expect.poll(() => shownText(page)).toBe(stored);
  await expect.poll(() => page.locator(".turn").count()).toBe(2);
  expect(faults).toEqual([]);
  await page.context().close();
});

test.each([1, 2])("a connection that is cut for 10 s at a random moment is resumed (%i)", async () => {
  const own = await startServer({ model: "sim/story:events=1200,pace=0.02" });
  const proxy = await cuttingProxy(own.port);
  const page = await (await browser.newContext()).newPage();
  const faults: string[] = [];
  await open(page, proxy.url, faults);
  await ask(page, "Tell me a story");
  await page.waitForTimeout(Math.random() * 3000);
  proxy.cut();
  await page.getByText("Offline. Trying again…").waitFor();
  const before = (await shownText(page)).length;
  await page.waitForTimeout(10_000);
  expect((await shownText(page)).length).toBe(before);
  proxy.mend();
  await connected(page);
  await ended(page);
  const stored = await storedText(page, own.url);
  expect(stored.length).toBeGreaterThan(2000);
  expect(stored.length).toBeGreaterThan(before);
  await expect.poll(() => shownText(page)).toBe(stored);
  await expect.poll(() => page.locator(".turn").count()).toBe(2);
  expect(faults).toEqual([]);
  await page.context().close();
  await proxy.close();
  await own.kill();
});

test("a killed and restarted server leaves what it had stored, and the page says so", async () => {
  const own = await startServer({ model: "sim/story:events=2000,pace=0.02" });
  const page = await (await browser.newContext()).newPage();
  await open(page, own.url);
  await ask(page, "Tell me a story");
  await grown(page, 300);
  await own.kill();
  await page.getByText("Offline. Trying again…").waitFor();
  await own.restart();
  await connected(page);
  await page.locator(".turn.assistant .notice.error").waitFor({ timeout: 60_000 });
  const stored = await storedText(page, own.url);
  expect(stored.length).toBeGreaterThan(50);
  await expect.poll(() => shownText(page)).toBe(stored);
  await page.context().close();
  await own.kill();
});

test("text that was shown and that a killed server had not stored is gone, and the page says so", async () => {
  // The open block is stored once a minute, so the text is certainly lost.
  const own = await startServer({ model: "sim/story:events=2000,pace=0.02", settings: "[engine]\njournal_interval = 60.0\n" });
  const context = await browser.newContext();
  const page = await context.newPage();
  await open(page, own.url);
  await ask(page, "Tell me a story");
  await grown(page, 200);
  const other = await context.newPage();
  await open(other, page.url());
  await other.locator(".turn.assistant .markdown").first().waitFor();
  await own.kill();
  await page.getByText("Offline. Trying again…").waitFor();
  const before = await shownText(page);
  await own.restart();
  for (const one of [page, other]) {
    await one.locator(".turn.assistant .notice.error").waitFor({ timeout: 60_000 });
    await one.getByText("A part that was shown before is lost").waitFor();
    const stored = await storedText(page, own.url);
    await expect.poll(() => shownText(one)).toBe(stored);
    expect(stored.length).toBeLessThan(before.length);
  }
  await context.close();
  await own.kill();
});

test("tabs share one connection and show the same, and stop in one stops all", async () => {
  const own = await startServer({ model: "sim/story:events=4000,pace=0.02" });
  const context = await browser.newContext();
  const streams: string[] = [];
  context.on("request", (request) => { if (/\/api\/(events|turns\/[^/]+\/stream)/.test(request.url())) streams.push(request.url()); });
  const first = await context.newPage();
  await open(first, own.url);
  await ask(first, "Tell me a story");
  const others = [];
  for (let tab = 0; tab < 7; tab += 1) {
    const page = await context.newPage();
    await open(page, first.url());
    others.push(page);
  }
  const phone = await (await browser.newContext({ viewport: { width: 360, height: 640 } })).newPage();
  await open(phone, first.url()).catch(() => undefined);
  await phone.locator(".turn.assistant").waitFor();
  expect(streams).toHaveLength(1);
  const last = others[6];
  if (last === undefined) throw new Error("no tab");
  await last.getByRole("button", { name: "Stop" }).click();
  for (const page of [first, ...others, phone]) await page.locator(".turn.assistant.cancelled").waitFor();
  const stored = await storedText(first, own.url);
  for (const page of [first, ...others, phone]) await expect.poll(() => shownText(page)).toBe(stored);
  // The tab that read the stream is closed: another one takes over, and a new answer reaches all.
  await first.close();
  await ask(last, "Go on");
  await last.locator(".turn.assistant").nth(1).locator(".markdown").first().waitFor();
  const [second] = others;
  if (second === undefined) throw new Error("no tab");
  await second.locator(".turn.assistant").nth(1).locator(".markdown").first().waitFor();
  await second.getByRole("button", { name: "Stop" }).click();
  await ended(second, 2);
  await ended(last, 2);
  await expect.poll(() => shownText(second)).toBe(await storedText(last, own.url));
  await expect.poll(() => shownText(last)).toBe(await shownText(second));
  await context.close();
  await phone.context().close();
  await own.kill();
});
