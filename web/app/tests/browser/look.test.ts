// Size, accessibility and layout of the page.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Browser } from "playwright-core";
import { ask, ended, launch, open, picture, pictures, report, startServer, type TestServer } from "./harness";
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
  report(`first load of the page: ${size} bytes, gzipped`);
  expect(names.length).toBeGreaterThan(1);
  expect(size).toBeLessThan(FIRST_LOAD);
});

test.each(["light", "dark"] as const)("axe finds nothing serious in any state (%s)", async (colorScheme) => {
  const page = await (await browser.newContext({ colorScheme })).newPage();
  await open(page, server.url);
  expect(await seriousFindings(page)).toEqual([]);
  if (colorScheme === "light") await pictures(page, "new");
  await ask(page, "Show **all** of it:\n\n- a list");
  await ended(page);
  expect(await seriousFindings(page)).toEqual([]);
  if (colorScheme === "light") await pictures(page, "answer");
  await page.getByLabel("Model", { exact: true }).selectOption("sim/thinking");
  await ask(page, "Think");
  await ended(page, 2);
  await page.getByLabel("Model", { exact: true }).selectOption("sim/tools");
  await ask(page, "What time is it?");
  await page.getByRole("button", { name: "Approve" }).waitFor();
  await page.locator("details").evaluateAll((folds) => { for (const fold of folds) fold.setAttribute("open", ""); });
  expect(await seriousFindings(page)).toEqual([]);
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
  await pictures(page, "error");
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

test("axe finds nothing serious in the other views", async () => {
  const page = await (await browser.newContext({ colorScheme: "dark" })).newPage();
  await open(page, server.url);
  const dialog = page.getByRole("dialog");
  const checked = async (name: string) => {
    expect(await seriousFindings(page)).toEqual([]);
    await pictures(page, `view-${name}`);
  };
  const closed = async () => {
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  };
  await page.getByRole("button", { name: "Answers to the next question: 1" }).click();
  await page.getByRole("button", { name: "Add an answer" }).click();
  await checked("answers");
  await closed();
  await ask(page, "Two of you");
  await page.locator(".column.complete").nth(1).waitFor({ timeout: 60_000 });
  await checked("side-by-side");
  await page.getByRole("button", { name: "Continue with this" }).first().click();
  await page.getByRole("button", { name: "Edit question" }).click();
  await checked("edit");
  await page.getByRole("button", { name: "Cancel" }).click();
  for (const name of ["Inspect", "Options", "Export", "Delete"]) {
    await page.getByRole("button", { name, exact: true }).click();
    await dialog.waitFor();
    if (name === "Inspect") await dialog.getByRole("cell", { name: "turn_complete", exact: true }).waitFor();
    await checked(name.toLowerCase());
    await closed();
  }
  await page.getByLabel("Search chats").fill("no such text");
  await page.getByText("No chat has this text.").waitFor();
  await checked("search");
  await page.goto(`${server.url}#/chat/01890000-0000-7000-8000-000000000000`);
  await page.getByText("This chat does not exist any more.").waitFor();
  await checked("gone");
  await page.context().close();
});

test("the place to sign in, and the chats on a phone, are accessible too", async () => {
  const closedServer = await startServer({ key: "a-key" });
  const phone = await (await browser.newContext({ viewport: { width: 360, height: 640 } })).newPage();
  await phone.goto(closedServer.url);
  await phone.getByLabel("The server’s key").waitFor();
  expect(await seriousFindings(phone)).toEqual([]);
  await pictures(phone, "sign-in");
  await phone.getByLabel("The server’s key").fill("a-key");
  await phone.getByRole("button", { name: "Sign in" }).click();
  await ask(phone, "Hello");
  await ended(phone);
  await phone.getByRole("button", { name: "Show the chats" }).click();
  await phone.getByRole("link", { name: "Hello" }).waitFor();
  expect(await seriousFindings(phone)).toEqual([]);
  await pictures(phone, "sidebar", ["phone"]);
  await phone.keyboard.press("Escape");
  await expect.poll(() => phone.getByRole("link", { name: "Hello" }).isVisible()).toBe(false);
  await phone.context().close();
  await closedServer.kill();
});

test("live regions say that an answer is written and that it has ended, and no more", async () => {
  const page = await (await browser.newContext({ reducedMotion: "reduce" })).newPage();
  await open(page, server.url);
  await page.getByLabel("Model", { exact: true }).selectOption("sim/story");
  await page.evaluate(() => {
    const said: string[] = [];
    Object.assign(window, { said });
    new MutationObserver((changes) => {
      for (const { target } of changes) {
        const element = target instanceof Element ? target : target.parentElement;
        const region = element?.closest('[role="status"], [role="alert"], [role="log"], [aria-live]');
        if (region) said.push(region.textContent);
      }
    }).observe(document.body, { childList: true, characterData: true, subtree: true });
  });
  await ask(page, "Tell me a story");
  await page.locator(".turn.assistant .markdown").first().waitFor();
  // With reduced motion, nothing moves while the answer is written.
  expect(await page.evaluate(() => document.getAnimations().length)).toBe(0);
  await ended(page);
  await expect
    .poll(() => page.evaluate(() => [...new Set((window as unknown as { said: string[] }).said)]))
    .toEqual(["An answer is being written.", "The answer is complete."]);
  await page.context().close();
});
