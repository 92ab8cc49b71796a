// An answer of 100,000 deltas costs the page as much for each delta as one of 10,000, and loses nothing.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { Browser, CDPSession, Page } from "playwright-core";
import { ask, launch, open, report, shownText, startServer, storedText, type TestServer } from "./harness";

const FEW = 10_000;
const MANY = 100_000;
/**
 * Bytes of the heap that each character of the answer keeps. Its letter takes a byte in three places: in the folded
 * answer, in its piece of Markdown, and in the rendered paragraph. The fourth byte is React's: its nodes for a paragraph
 * of about 370 characters. Heap snapshots at 355,000 and 556,000 characters had this difference.
 */
const BYTES_PER_CHARACTER = 4;
const MINUTES = 60_000;
let browser: Browser;
let server: TestServer;

beforeAll(async () => {
  browser = await launch();
  server = await startServer();
});
afterAll(async () => {
  await browser.close();
  await server.kill();
});

interface Measured {
  /** Seconds of script. */
  readonly script: number;
  /** The heap at moments that are evenly spaced. */
  readonly heaps: readonly Heap[];
  /** Milliseconds of the frames. */
  readonly frames: readonly number[];
  /** Milliseconds from a key to the frame that shows its letter. */
  readonly typing: readonly number[];
}

interface Heap {
  /** Bytes after a garbage collection. */
  readonly size: number;
  /** Characters of the answer that are shown. */
  readonly length: number;
}

async function metric(session: CDPSession, name: string): Promise<number> {
  const { metrics } = await session.send("Performance.getMetrics");
  const found = metrics.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found.value;
}

const share = (values: readonly number[], part: number) => [...values].sort((one, other) => one - other)[Math.floor(values.length * part)] ?? NaN;

/** Return the least of three sizes: events that are being parsed take memory for a moment only. */
async function heapOf(page: Page, session: CDPSession): Promise<Heap> {
  const sizes: number[] = [];
  while (sizes.length < 3) {
    await session.send("HeapProfiler.collectGarbage");
    sizes.push(await metric(session, "JSHeapUsedSize"));
  }
  const length = await page.evaluate(() => [...document.querySelectorAll(".turn.assistant .markdown")].at(-1)?.textContent.length ?? 0);
  return { size: Math.min(...sizes), length };
}

/** Read one answer to its end. */
async function measure(page: Page, events: number): Promise<Measured> {
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  await page.evaluate(() => {
    const times: number[] = [];
    Object.assign(window, { frameTimes: times });
    let last = performance.now();
    const step = (now: number) => {
      times.push(now - last);
      last = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
  const before = await metric(session, "ScriptDuration");
  await page.getByLabel("Model", { exact: true }).selectOption("sim/story");
  await page.route("**/turns", async (route) => {
    const body = JSON.parse(route.request().postData() ?? "{}") as Record<string, unknown>;
    await route.continue({ postData: JSON.stringify({ ...body, model: `sim/story:events=${events},pace=0.0002` }) });
  });
  await ask(page, "Tell me a long story");
  const heaps: Heap[] = [];
  const typing: number[] = [];
  const end = page.locator(".turn.assistant .foot");
  const field = page.getByLabel("Message");
  for (const began = Date.now(); (await end.count()) === 0; ) {
    if (Date.now() - began > 5 * MINUTES) throw new Error("the answer does not end");
    heaps.push(await heapOf(page, session));
    const pressed = performance.now();
    const length = (await field.inputValue()).length;
    await field.press("a");
    await page.waitForFunction((known) => (document.querySelector("textarea")?.value.length ?? 0) > known, length, { polling: "raf" });
    typing.push(performance.now() - pressed);
    await end.waitFor({ timeout: 1000 }).catch(() => undefined); // the next sample is due
  }
  const script = (await metric(session, "ScriptDuration")) - before;
  const frames = await page.evaluate(() => (window as unknown as { frameTimes: number[] }).frameTimes);
  const stored = await storedText(page, server.url);
  await expect.poll(() => shownText(page)).toBe(stored);
  return { script, heaps, frames, typing };
}

test("each delta of an answer of 100,000 costs as much script as one of 10,000, and the heap stays flat", { timeout: 8 * MINUTES }, async () => {
  const found: Measured[] = [];
  for (const events of [FEW, MANY]) {
    const page = await (await browser.newContext()).newPage();
    const began = performance.now();
    await open(page, server.url);
    const ready = performance.now() - began;
    const measured = await measure(page, events);
    const { script, frames, typing, heaps } = measured;
    report(
      `${events} deltas: ${((script / events) * 1e6).toFixed(1)} µs of script each; frames ${share(frames, 0.5).toFixed(1)} ms, 95 % ${share(frames, 0.95).toFixed(1)} ms; ` +
        `typing ${share(typing, 0.5).toFixed(0)} ms, worst ${share(typing, 0.99).toFixed(0)} ms; ready after ${ready.toFixed(0)} ms; ` +
        `heap ${heaps.map(({ size, length }) => `${(size / 1e6).toFixed(1)} (${((size - BYTES_PER_CHARACTER * length) / 1e6).toFixed(1)})`).join(" ")} MB, without the answer in brackets`,
    );
    found.push(measured);
    await page.context().close();
  }
  const [few, many] = found;
  if (few === undefined || many === undefined) throw new Error("nothing was measured");
  expect(many.script / MANY).toBeLessThanOrEqual((1.3 * few.script) / FEW);
  // All sizes of one moment may include events that are being parsed. The least of three moments does not.
  const rest = many.heaps.map(({ size, length }) => size - BYTES_PER_CHARACTER * length);
  const lasting = rest.slice(0, -2).map((_, place) => Math.min(...rest.slice(place, place + 3)));
  const second = lasting.slice(Math.floor(lasting.length / 2));
  expect(second.length).toBeGreaterThan(1); // a busy machine takes few samples
  // Without the answer itself, the heap is flat.
  expect(Math.max(...second)).toBeLessThanOrEqual(1.2 * Math.min(...second));
});
