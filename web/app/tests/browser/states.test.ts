// The states of an answer, each with its look: from the wait for a model to an answer whose server was killed.

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Browser, Page } from "playwright-core";
import { ask, ended, launch, open, pictures, startServer, type TestServer } from "./harness";

let browser: Browser;
/** A server without fallbacks, with a tool that does not end by itself. */
let plain: TestServer;
let server: TestServer;
let page: Page;

beforeAll(async () => {
  browser = await launch();
  const settings = '[engine]\nfallbacks = ["sim/echo:pace=0"]\n[retry]\nattempts = 1\n';
  plain = await startServer({ settings: '[tools]\nfunctions = ["tests.clients.browser.tools:find_orders"]\n[retry]\ndelay = 5.0\n' });
  server = await startServer({ model: "sim/story:events=400,pace=0.01", settings });
});
beforeEach(async () => {
  page = await (await browser.newContext()).newPage();
  await open(page, server.url);
});
afterEach(async () => { await page.context().close(); });
afterAll(async () => {
  await browser.close();
  await plain.kill();
  await server.kill();
});

/** Send a question to a model that the picker does not list. */
async function askModel(model: string, { url } = server): Promise<void> {
  const chat = (await (await fetch(`${url}api/chats`, { method: "POST" })).json()) as { id: string };
  const body = JSON.stringify({ turn_blocks: "What now?", model });
  await fetch(`${url}api/chats/${chat.id}/turns`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  await page.goto(`${url}#/chat/${chat.id}`);
  await page.locator(".turn.assistant").waitFor();
}

const stop = () => page.getByRole("button", { name: "Stop", exact: true }).click();

test("an answer without output yet says what the page waits for", async () => {
  await askModel("sim/story:first=60", plain);
  await page.getByText("Waiting for the model…").waitFor();
  await pictures(page, "pending");
  await stop();
  await page.locator(".turn.assistant.cancelled").waitFor();
});

test("a thought is shown while it grows, then a text, and a stopped answer says so", async () => {
  await askModel("sim/thinking:pace=0.3", plain);
  await page.locator("details.thinking").waitFor();
  await pictures(page, "thinking");
  await stop();
  await page.getByText("Stopped. This is what had come until then.").waitFor();
  await askModel("sim/story:events=4000,pace=0.05", plain);
  await expect.poll(async () => (await page.locator(".turn.assistant .markdown").allTextContents()).join("").length).toBeGreaterThan(300);
  await pictures(page, "streaming");
  await stop();
  await page.locator(".turn.assistant.cancelled .foot").waitFor();
  await pictures(page, "cancelled");
});

test("a tool that runs shows its progress, and is cut off when the answer is stopped", async () => {
  await askModel("sim/tools", plain);
  const card = page.getByRole("region", { name: "Tool find_orders" }).first();
  await card.getByText("running…").waitFor();
  await card.getByText("Page 3 of the orders of example 1").waitFor();
  await page.getByText("Running find_orders…").waitFor();
  await pictures(page, "tool-running");
  await stop();
  await page.locator(".turn.assistant.cancelled .foot").waitFor();
  await expect.poll(() => page.getByText("running…").count()).toBe(0);
  await card.getByText("stopped", { exact: true }).waitFor();
  await pictures(page, "tool-stopped");
});

test("a call that is retried says so until the next one answers", async () => {
  await askModel("sim/story:events=40,pace=0,fault=error-before,status=503,times=1", plain);
  await page.getByText("A call failed. Trying again…").waitFor();
  await pictures(page, "retrying");
  await page.locator(".turn.assistant.complete .foot").waitFor({ timeout: 60_000 });
  expect(await page.getByText("Trying again").count()).toBe(0);
});

test("an answer that reached its limit of tokens says that it is cut off", async () => {
  await askModel("sim/story:pace=0,fault=max-tokens,after=60", plain);
  await page.getByText("The answer reached its limit of tokens and is cut off.").waitFor();
  await page.locator(".turn.assistant.complete .foot").waitFor();
  await pictures(page, "truncated");
});

test("text that a killed server had not stored is gone, and the page says so", async () => {
  const own = await startServer({ settings: "[engine]\njournal_interval = 60.0\n" });
  await askModel("sim/story:events=4000,pace=0.02", own);
  await expect.poll(async () => (await page.locator(".turn.assistant .markdown").allTextContents()).join("").length).toBeGreaterThan(200);
  await own.kill();
  await own.restart();
  await page.getByText("Text that was not stored yet is lost.").waitFor({ timeout: 60_000 });
  expect(await page.locator(".turn.assistant .markdown").count()).toBe(0);
  await pictures(page, "lost");
  await own.kill();
});

test("a model that fails in mid-answer is replaced, and the page says so, also after a reload", async () => {
  await askModel("sim/story:pace=0,fault=cut,after=20");
  await ended(page);
  const notices = page.getByRole("list", { name: "Notices" });
  await expect.poll(() => notices.textContent()).toContain("A call failed in mid-answer.");
  const said = await notices.textContent();
  await pictures(page, "fallback");
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
  await pictures(page, "stages");
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await page.locator(".turn.assistant.cancelled").waitFor();
  await expect.poll(() => stages.count()).toBe(0);
  await (await running).body?.cancel();
});

test("sources are listed with links, also after a reload, and only web pages are links", async () => {
  const own = await startServer({ fill: "tests.clients.browser.sourced_answer" });
  await page.goto(own.url);
  await page.locator(".sidebar li a").first().click();
  const sources = page.getByRole("list", { name: "Sources" });
  const check = async () => {
    await ended(page);
    expect(await sources.locator("li").allTextContents()).toEqual(["The <b>sky</b>", "A book", "A script", "s4"]);
    const links = await sources.locator("a").evaluateAll((found) => found.map((link) => ({ href: link.getAttribute("href"), rel: link.getAttribute("rel") })));
    expect(links).toEqual([{ href: "https://example.org/sky", rel: "noopener noreferrer nofollow" }]);
    expect(await sources.locator("b, script").count()).toBe(0);
  };
  await check();
  await page.reload();
  await check();
  await pictures(page, "sources");
  await own.kill();
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
