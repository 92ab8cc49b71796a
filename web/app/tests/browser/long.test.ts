// A long chat: only the turns near the view are in the page, and the view follows only its end.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { Browser, Page } from "playwright-core";
import { ask, ended, launch, open, report, startServer, type TestServer } from "./harness";

const TURNS = 2000;
let browser: Browser;
let server: TestServer;

beforeAll(async () => {
  browser = await launch();
  server = await startServer({ model: "sim/echo:pace=0" });
});
afterAll(async () => {
  await browser.close();
  await server.kill();
});

/** Make a chat of many turns, as a client does that resends its conversation. Return its id. */
async function longChat(turns: number): Promise<string> {
  const messages = Array.from({ length: turns - 1 }, (_, place) => {
    const said = `Question ${place / 2}.\n\n- a list\n- of **two** \`items\`, ${"and some more words ".repeat(place % 7)}`;
    const text = place % 2 ? `Answer ${(place - 1) / 2}.\n\n| a | b |\n|---|---|\n| 1 | ${place} |` : said;
    return { id: `m${place}`, role: place % 2 ? "assistant" : "user", parts: [{ type: "text", text }] };
  });
  const body = JSON.stringify({ id: "long", messages, trigger: "submit-message" });
  const answer = await fetch(`${server.url}api/ai-sdk/v7/chat`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const chat = /"chatId":"([0-9a-f-]{36})"/.exec(await answer.text())?.[1];
  if (chat === undefined) throw new Error("the chat was not made");
  return chat;
}

const scrolled = (page: Page, to: "top" | "half") =>
  page.locator(".turns").evaluate((view, where) => { view.scrollTop = where === "top" ? 0 : view.scrollTop - view.clientHeight / 2; }, to);
const fromEnd = (page: Page) => page.locator(".turns").evaluate((view) => view.scrollHeight - view.scrollTop - view.clientHeight);

test("a chat of 2,000 turns holds few of them in the page, and scrolls from its end to its beginning", { timeout: 120_000 }, async () => {
  const id = await longChat(TURNS);
  const page = await (await browser.newContext()).newPage();
  await open(page, `${server.url}#/chat/${id}`);
  await page.locator(".turn", { hasText: `Question ${TURNS / 2 - 1}.` }).last().waitFor();
  await expect.poll(() => fromEnd(page)).toBeLessThan(48);
  let most = 0;
  const first = page.locator(".turn.user", { hasText: "Question 0." });
  await expect
    .poll(
      async () => {
        await scrolled(page, "top");
        most = Math.max(most, await page.locator(".turn").count());
        return first.count();
      },
      { timeout: 60_000, interval: 50 },
    )
    .toBe(1);
  // A page of 50 turns is measured when it comes; else only those near the view are there.
  expect(most).toBeLessThan(160);
  await expect.poll(() => page.locator(".turn").count()).toBeLessThan(110);
  await scrolled(page, "top");
  await expect.poll(() => first.isVisible()).toBe(true);
  const frames = await page.locator(".turns").evaluate(
    (view) =>
      new Promise<number[]>((resolve) => {
        const times: number[] = [];
        let last = performance.now();
        const step = (now: number) => {
          times.push(now - last);
          last = now;
          view.scrollTop += 400;
          if (times.length < 200) requestAnimationFrame(step);
          else resolve(times.sort((one, other) => one - other));
        };
        requestAnimationFrame(step);
      }),
  );
  report(`frames of a scroll through ${TURNS} turns: median ${frames[100]?.toFixed(1)} ms, 95 % ${frames[190]?.toFixed(1)} ms`);
  await page.getByRole("button", { name: "Latest" }).click();
  await expect.poll(() => fromEnd(page)).toBeLessThan(48);
  await page.locator(".turn", { hasText: `Question ${TURNS / 2 - 1}.` }).last().waitFor();
  await page.context().close();
});

test("the view follows an answer at its end only", async () => {
  const page = await (await browser.newContext()).newPage();
  await open(page, server.url);
  await page.getByLabel("Model", { exact: true }).selectOption("sim/echo");
  for (let turn = 1; turn <= 3; turn += 1) {
    await ask(page, `A text of many lines\n${"line\n".repeat(30)}`);
    await ended(page, turn);
  }
  await expect.poll(() => fromEnd(page)).toBeLessThan(48);
  await page.getByLabel("Model", { exact: true }).selectOption("sim/story");
  await ask(page, "Tell me a story");
  await scrolled(page, "half");
  const latest = page.getByRole("button", { name: "Latest" });
  await latest.waitFor();
  const place = await page.locator(".turns").evaluate((view) => view.scrollTop);
  await ended(page, 4);
  expect(await page.locator(".turns").evaluate((view) => view.scrollTop)).toBe(place);
  await latest.click();
  await expect.poll(() => fromEnd(page)).toBeLessThan(48);
  await latest.waitFor({ state: "detached" });
  await page.context().close();
});
