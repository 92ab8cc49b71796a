// Keys, the focus, the clipboard and files, as a reader uses them.

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Browser, Page } from "playwright-core";
import { ask, ended, launch, open, startServer, type TestServer } from "./harness";

/** A PDF without pages. */
const PDF = Buffer.from("%PDF-1.4\n%%EOF\n").toString("base64");
let browser: Browser;
let server: TestServer;
let page: Page;
let faults: string[];

beforeAll(async () => {
  browser = await launch();
  server = await startServer({ model: "sim/echo:pace=0" });
});
beforeEach(async () => {
  page = await (await browser.newContext({ permissions: ["clipboard-read", "clipboard-write"] })).newPage();
  faults = [];
  await open(page, server.url, faults);
});
afterEach(async () => {
  await page.context().close();
  expect(faults).toEqual([]);
});
afterAll(async () => {
  await browser.close();
  await server.kill();
});

const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? "nothing");
const copied = () => page.evaluate(() => navigator.clipboard.readText());
const files = () => page.getByRole("list", { name: "Files", exact: true });

/** Drop a file on a part of the page, or paste it there. Return true if the page took it. */
function give(how: "drop" | "paste", place: string, name: string): Promise<boolean> {
  return page.locator(place).evaluate(
    (element, [event, title, encoded]) => {
      const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
      const given = new DataTransfer();
      given.items.add(new File([bytes], title, { type: "application/pdf" }));
      const options = { bubbles: true, cancelable: true };
      const made = event === "drop" ? new DragEvent(event, { ...options, dataTransfer: given }) : new ClipboardEvent(event, { ...options, clipboardData: given });
      element.dispatchEvent(made);
      return made.defaultPrevented;
    },
    [how, name, PDF] as const,
  );
}

test("the focus returns to the button that opened a dialog or an edit", async () => {
  await ask(page, "one");
  await ended(page);
  for (const name of ["Rename", "Export", "Delete", "Options", "Inspect"]) {
    await page.getByRole("button", { name, exact: true }).press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await expect.poll(focused).toBe(name);
  }
  await page.getByRole("button", { name: "Edit question" }).press("Enter");
  await expect.poll(focused).toBe("Edit the question");
  await page.keyboard.press("Escape");
  await expect.poll(focused).toBe("Edit question");
});

test("the focus goes to the text when a key has pressed Send or Stop", async () => {
  await page.getByLabel("Model", { exact: true }).selectOption("sim/story");
  await page.getByLabel("Message").fill("Tell me a story");
  await page.getByRole("button", { name: "Send" }).press("Enter");
  const stop = page.getByRole("button", { name: "Stop", exact: true });
  await stop.waitFor();
  await expect.poll(focused).toBe("Message");
  await page.locator(".turn.assistant .markdown").first().waitFor();
  await stop.press("Enter");
  await page.locator(".turn.assistant.cancelled").waitFor();
  await expect.poll(focused).toBe("Message");
});

test("Escape stops the answer wherever the focus is, but not from a dialog, an edit or the search", async () => {
  await page.route("**/turns", async (route) => {
    const body = JSON.parse(route.request().postData() ?? "{}") as Record<string, unknown>;
    await route.continue({ postData: JSON.stringify({ ...body, model: "sim/story:events=4000,pace=0.05" }) });
  });
  await ask(page, "Tell me a story");
  await page.locator(".turn.assistant .markdown").first().waitFor();
  await page.getByRole("button", { name: "Options" }).click();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Edit question" }).click();
  await page.keyboard.press("Escape");
  await page.getByLabel("Edit the question").waitFor({ state: "detached" });
  await page.getByLabel("Search chats").press("Escape");
  expect(await page.getByRole("button", { name: "Stop", exact: true }).count()).toBe(1);
  await page.locator(".turn.assistant .markdown").first().click();
  await page.keyboard.press("Escape");
  await page.locator(".turn.assistant.cancelled").waitFor();
});

test("Ctrl+K opens the chats in a narrow window, and Escape closes them again", async () => {
  await page.setViewportSize({ width: 390, height: 800 });
  await page.getByRole("button", { name: "Show the chats" }).waitFor();
  await page.getByLabel("Message").press("Control+k");
  await expect.poll(focused).toBe("Search chats");
  await page.keyboard.press("Escape");
  await expect.poll(() => page.getByLabel("Search chats").isVisible()).toBe(false);
});

test("a theme is chosen, and stays through a reload", async () => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const theme = page.getByRole("button", { name: /^Theme: / });
  const grounds: string[] = [];
  for (const name of ["system", "light", "dark"]) {
    expect(await theme.getAttribute("aria-label")).toBe(`Theme: ${name}`);
    await page.reload();
    grounds.push(await ground());
    await theme.click();
  }
  expect(grounds[0]).toBe(grounds[1]);
  expect(grounds[2]).not.toBe(grounds[1]);
});

test("code, an answer and a question are copied", async () => {
  const text = "Say **x**\n\n```py\nprint(1)\n```";
  await ask(page, text);
  await ended(page);
  for (const [name, expected] of [["Copy code", "print(1)"], ["Copy answer", text], ["Copy question", text]] as const) {
    await page.getByRole("button", { name, exact: true }).click();
    await expect.poll(copied).toBe(expected);
    await page.evaluate(() => navigator.clipboard.writeText("something else"));
  }
  await page.getByRole("button", { name: "Inspect" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Copy as curl" }).click();
  await expect.poll(copied).toMatch(/^curl -N http:\/\/127\.0\.0\.1:\d+\/api\/turns\/[0-9a-f-]{36}\/stream$/);
});

test("a page without a secure context copies too", async () => {
  await page.addInitScript(() => { Object.defineProperty(window, "isSecureContext", { value: false }); });
  await page.reload();
  await ask(page, "Copy\nme");
  await ended(page);
  await page.getByRole("button", { name: "Copy question" }).click();
  await page.getByRole("button", { name: "Copied", exact: true }).waitFor();
  expect(await copied()).toBe("Copy\nme");
  expect(await page.locator("body > textarea").count()).toBe(0);
  await page.getByRole("button", { name: "Inspect" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Copy as curl" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Copied", exact: true }).waitFor();
  expect(await copied()).toContain("curl -N");
});

test("PDFs are dropped anywhere, pasted and chosen, sent once, and stored as they were", async () => {
  expect(await give("drop", ".turns", "dropped.pdf")).toBe(true);
  await files().getByText("dropped.pdf").waitFor();
  expect(await give("paste", ".composer textarea", "pasted.pdf")).toBe(true);
  await files().getByText("pasted.pdf").waitFor();
  await page.locator('input[type="file"]').setInputFiles([{ name: "chosen.pdf", mimeType: "application/pdf", buffer: Buffer.from(PDF, "base64") }]);
  await files().getByText("chosen.pdf").waitFor();
  const posted: number[] = [];
  page.on("request", (request) => { if (request.method() === "POST") posted.push((request.postData() ?? "").split(PDF).length - 1); });
  await ask(page, "Read them");
  await ended(page);
  expect(posted.filter((count) => count > 0)).toEqual([3]);
  const links = page.locator(".turn.user a.file");
  expect(await links.allTextContents()).toEqual(["📄 dropped.pdf", "📄 pasted.pdf", "📄 chosen.pdf"]);
  const address = await links.first().getAttribute("href");
  const stored = Buffer.from(await (await fetch(address ?? "")).arrayBuffer());
  expect(stored.toString("base64")).toBe(PDF);
  const [download] = await Promise.all([page.waitForEvent("download"), links.first().click()]);
  expect(download.suggestedFilename()).toBe("dropped.pdf");
});

test("a file that is dropped where no question is written does not replace the page", async () => {
  await page.getByLabel("Statistics", { exact: true }).click();
  await page.getByRole("heading", { name: "Statistics", level: 1 }).waitFor();
  expect(await give("drop", "main", "dropped.pdf")).toBe(true);
});

test("what is not a file is dropped as the browser does it", async () => {
  const isTaken = await page.getByLabel("Message").evaluate((field) => {
    const given = new DataTransfer();
    given.setData("text/plain", "some text");
    const made = new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: given });
    field.dispatchEvent(made);
    return made.defaultPrevented;
  });
  expect(isTaken).toBe(false);
});
