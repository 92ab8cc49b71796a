// The look of an answer's states: a failed call, a fallback, the stages of a workflow.

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Browser, Page } from "playwright-core";
import { ask, ended, launch, open, picture, startServer, type TestServer } from "./harness";

let browser: Browser;
let server: TestServer;
let page: Page;

beforeAll(async () => {
  browser = await launch();
  const settings = '[engine]\nfallbacks = ["sim/echo:pace=0"]\n[retry]\nattempts = 1\n';
  server = await startServer({ model: "sim/story:events=400,pace=0.01", settings });
});
beforeEach(async () => {
  page = await (await browser.newContext()).newPage();
  await open(page, server.url);
});
afterEach(async () => { await page.context().close(); });
afterAll(async () => {
  await browser.close();
  await server.kill();
});

/** Send a question to a model that the picker does not list. */
async function askModel(model: string): Promise<void> {
  const chat = (await (await fetch(`${server.url}api/chats`, { method: "POST" })).json()) as { id: string };
  const body = JSON.stringify({ turn_blocks: "What now?", model });
  await fetch(`${server.url}api/chats/${chat.id}/turns`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  await page.goto(`${server.url}#/chat/${chat.id}`);
  await page.locator(".turn.assistant").waitFor();
}

test("a model that fails in mid-answer is replaced, and the page says so, also after a reload", async () => {
  await askModel("sim/story:pace=0,fault=cut,after=20");
  await ended(page);
  const notices = page.getByRole("list", { name: "Notices" });
  await expect.poll(() => notices.textContent()).toContain("A call failed in mid-answer.");
  const said = await notices.textContent();
  await picture(page, "fallback");
  await page.reload();
  await ended(page);
  await expect.poll(() => notices.textContent()).toBe(said);
});

test("the stages of a workflow are shown while they run", async () => {
  const running = fetch(`${server.url}api/agent/chat/stream`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query: "What did we decide?", context: {} }),
  });
  const stages = page.getByRole("list", { name: "Stages" });
  await page.locator(".sidebar li a", { hasText: "answering" }).click();
  await stages.locator('[aria-current="step"]').waitFor();
  await picture(page, "stages");
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await page.locator(".turn.assistant.cancelled").waitFor();
  await expect.poll(() => stages.count()).toBe(0);
  await (await running).body?.cancel();
});

test("a stopped answer is asked again with one click", async () => {
  await ask(page, "Tell me a story");
  await page.locator(".turn.assistant .markdown").first().waitFor();
  await page.getByLabel("Message").press("Escape");
  await page.getByText("Stopped. This is what had come until then.").waitFor();
  await page.getByRole("button", { name: "Answer again", exact: true }).click();
  await page.locator(".turn.assistant .branches", { hasText: "2/2" }).waitFor();
  await ended(page);
  expect(await page.locator(".turn.assistant.complete").count()).toBe(1);
});
