// An answer of 100,000 deltas costs the page as much for each delta as one of 10,000, and loses nothing.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { Browser, CDPSession, Page } from "playwright-core";
import { answerWith, ask, launch, open, report, shownText, startServer, storedText, type TestServer } from "./harness";

const FEW = 10_000;
const MANY = 100_000;
/** Largest growth of the heap in the second half of the answer, as a share of its smallest size. */
const GROWTH = 0.2;
const MINUTES = 60_000;
let browser: Browser;
let server: TestServer;

beforeAll(async () => {
  // Scripts may collect the garbage, and read the exact size of the heap.
  browser = await launch(["--js-flags=--expose-gc", "--enable-precise-memory-info"]);
  server = await startServer();
});
afterAll(async () => {
  await browser.close();
  await server.kill();
});

interface Measured {
  /** Seconds of script. */
  readonly script: number;
  /** Moments from the beginning of the answer to its end. */
  readonly heaps: readonly Heap[];
  /** Milliseconds of the frames. */
  readonly frames: readonly number[];
  /** Milliseconds from a key to the frame that shows its letter. */
  readonly typing: readonly number[];
}

interface Heap {
  /** Bytes of the whole JavaScript heap in use after a garbage collection: the answer's text is part of it. */
  readonly size: number;
  /** Characters of the answer that are shown. */
  readonly length: number;
  readonly isOver: boolean;
  /** Seconds of the measurement itself. */
  readonly took: number;
}

async function metric(session: CDPSession, name: string): Promise<number> {
  const { metrics } = await session.send("Performance.getMetrics");
  const found = metrics.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found.value;
}

const share = (values: readonly number[], part: number) => [...values].sort((one, other) => one - other)[Math.floor(values.length * part)] ?? NaN;

/**
 * Collect the garbage, and return what is left. All of it is one task, so that the page allocates nothing in between:
 * DevTools' own command collects in a task of its own, and a busy page has made megabytes of garbage before the next.
 */
function heapOf(page: Page): Promise<Heap> {
  return page.evaluate(() => {
    const { gc, performance } = window as unknown as { gc: () => void; performance: { memory: { usedJSHeapSize: number } } };
    const began = Date.now();
    gc();
    gc();
    const size = performance.memory.usedJSHeapSize;
    const took = (Date.now() - began) / 1000;
    const answer = [...document.querySelectorAll(".turn.assistant")].at(-1);
    const length = answer?.querySelector(".markdown")?.textContent.length ?? 0;
    return { size, took, length, isOver: answer?.querySelector(".foot") !== null };
  });
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
  await answerWith(page, `sim/story:events=${events},pace=0.0002`);
  await ask(page, "Tell me a long story");
  const heaps: Heap[] = [];
  const typing: number[] = [];
  const end = page.locator(".turn.assistant .foot");
  const field = page.getByLabel("Message");
  for (const began = Date.now(); (await end.count()) === 0; ) {
    if (Date.now() - began > 5 * MINUTES) throw new Error("the answer does not end");
    heaps.push(await heapOf(page));
    const pressed = performance.now();
    const length = (await field.inputValue()).length;
    await field.press("a");
    await page.waitForFunction((known) => (document.querySelector("textarea")?.value.length ?? 0) > known, length, { polling: "raf" });
    typing.push(performance.now() - pressed);
    await end.waitFor({ timeout: 1000 }).catch(() => undefined); // the next sample is due
  }
  const script = (await metric(session, "ScriptDuration")) - before - heaps.reduce((sum, { took }) => sum + took, 0);
  const frames = await page.evaluate(() => (window as unknown as { frameTimes: number[] }).frameTimes);
  const stored = await storedText(page, server.url);
  await expect.poll(() => shownText(page)).toBe(stored);
  // The page reads the record of an answer that has ended. While it is parsed, the text is in memory once more.
  await page.locator(".turn.assistant .facts", { hasText: "tokens" }).waitFor();
  heaps.push(await heapOf(page));
  return { script, heaps: heaps.filter(({ isOver }, place) => !isOver || place === heaps.length - 1), frames, typing };
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
        `heap ${heaps.map(({ size, length }) => `${(size / 1e6).toFixed(2)} MB at ${(length / 1000).toFixed(0)}k`).join(", ")} characters`,
    );
    found.push(measured);
    await page.context().close();
  }
  const [few, many] = found;
  if (few === undefined || many === undefined) throw new Error("nothing was measured");
  expect(many.script / MANY).toBeLessThanOrEqual((1.3 * few.script) / FEW);
  const half = (many.heaps.at(-1)?.length ?? 0) / 2;
  const second = many.heaps.filter(({ length }) => length >= half).map(({ size }) => size);
  expect(second.length).toBeGreaterThan(1);
  report(`the heap grows by ${(100 * (Math.max(...second) / Math.min(...second) - 1)).toFixed(1)} % over the second half of the answer`);
  expect(Math.max(...second)).toBeLessThanOrEqual((1 + GROWTH) * Math.min(...second));
});
