// What a reader does in a chat: send, stop, edit, branch, attach, approve, search, pin and delete.

import { readFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, afterEach, expect, test } from "vitest";
import type { Browser, Page } from "playwright-core";
import { answerWith, ask, chatOf, connected, ended, launch, open, pictures, shownText, startServer, storedText, type TestServer } from "./harness";

/** A PNG of one pixel. */
const DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
let browser: Browser;
let server: TestServer;
let page: Page;
let faults: string[];

beforeAll(async () => {
  browser = await launch();
  server = await startServer({ model: "sim/echo:pace=0.01", settings: '[tools]\nask = { clock = "always" }\n' });
});
beforeEach(async () => {
  page = await (await browser.newContext()).newPage();
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

const turnsOf = async () => {
  const answer = await fetch(`${server.url}api/chats/${chatOf(page)}/turns`);
  return ((await answer.json()) as { turns: { role: string }[] }).turns;
};

test("a question is sent once, however often Enter and the button are pressed", async () => {
  const field = page.getByLabel("Message");
  await field.fill("Say **this**");
  await page.getByRole("button", { name: "Send" }).dblclick();
  await ended(page);
  await expect.poll(() => page.locator(".turn.assistant.complete").count()).toBe(1);
  await expect.poll(() => field.inputValue()).toBe("");
  await field.fill("Say **that**");
  await Promise.all(["first", "second", "third"].map(() => field.dispatchEvent("keydown", { key: "Enter" })));
  await ended(page, 2);
  await expect.poll(() => page.locator(".turn.assistant.complete").count()).toBe(2);
  expect((await turnsOf()).map(({ role }) => role)).toEqual(["user", "assistant", "user", "assistant"]);
  await expect.poll(() => field.inputValue()).toBe("");
  await expect.poll(() => page.locator(".turn.assistant strong").first().textContent()).toBe("this");
});

test("Shift+Enter starts a line, and Escape stops the answer", async () => {
  await page.getByLabel("Model", { exact: true }).selectOption("sim/story");
  await page.getByLabel("Message").pressSequentially("a");
  await page.getByLabel("Message").press("Shift+Enter");
  await page.getByLabel("Message").pressSequentially("b");
  await expect.poll(() => page.getByLabel("Message").inputValue()).toBe("a\nb");
  await page.getByLabel("Message").press("Enter");
  await page.locator(".turn.assistant .markdown").first().waitFor();
  await page.getByLabel("Message").press("Escape");
  await page.locator(".turn.assistant.cancelled").waitFor();
  await ended(page);
  await expect.poll(() => shownText(page)).toBe(await storedText(page, server.url));
});

test("a question that the server does not get is back in its place", async () => {
  await page.route("**/api/chats", (route) => (route.request().method() === "POST" ? route.abort() : route.fallback()));
  await page.getByLabel("Message").fill("Do not lose this");
  await page.getByLabel("Message").press("Enter");
  await page.getByRole("alert").waitFor();
  await expect.poll(() => page.getByLabel("Message").inputValue()).toBe("Do not lose this");
  await expect.poll(() => page.locator(".turn").count()).toBe(0);
  await page.unroute("**/api/chats");
  await page.getByLabel("Message").press("Enter");
  await ended(page);
  await expect.poll(() => shownText(page)).toContain("Donotlosethis");
});

test("an edited question and another answer are branches", async () => {
  await ask(page, "first");
  await ended(page);
  await page.getByLabel("Message").press("ArrowUp");
  await page.getByLabel("Edit the question").fill("second");
  await page.getByRole("button", { name: "Send as a new branch" }).click();
  await page.locator(".turn.user .branches", { hasText: "2/2" }).waitFor();
  await ended(page);
  await expect.poll(() => shownText(page)).toContain("second");
  await page.getByRole("button", { name: "Answer again" }).click();
  await page.locator(".turn.assistant .branches", { hasText: "2/2" }).waitFor();
  await pictures(page, "branches");
  await page.locator(".turn.user").getByRole("button", { name: "Alternative before" }).click();
  await page.locator(".turn.user .branches", { hasText: "1/2" }).waitFor();
  await expect.poll(() => shownText(page)).toContain("first");
  await page.reload();
  await page.locator(".turn.user .branches", { hasText: "1/2" }).waitFor();
});

test("a picture is attached by paste, sent once, and shown by its address", async () => {
  await page.getByLabel("Message").evaluate((field, encoded) => {
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "dot.png", { type: "image/png" }));
    field.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
  }, DOT);
  await page.getByRole("list", { name: "Files" }).getByAltText("dot.png").waitFor();
  await ask(page, "What is this?");
  await ended(page);
  const image = page.locator(".turn.user img");
  expect(await image.getAttribute("src")).toContain("/blocks/0/content");
  await expect.poll(() => image.evaluate((shown: HTMLImageElement) => shown.naturalWidth)).toBe(1);
  const lists: string[] = [];
  page.on("response", (response) => {
    if (response.url().includes("/path")) void response.text().then((text) => lists.push(text), () => undefined); // the page may close first
  });
  await page.reload();
  await page.locator(".turn.user img").waitFor();
  await expect.poll(() => lists.length).toBeGreaterThan(0);
  expect(lists.join("")).not.toContain(DOT.slice(0, 40));
});

test("a tool that asks first runs after a click, never after Enter alone", async () => {
  await page.getByLabel("Model", { exact: true }).selectOption("sim/tools");
  await ask(page, "What time is it?");
  const approve = page.getByRole("button", { name: "Approve" });
  await approve.waitFor();
  await pictures(page, "approval");
  await approve.press("Enter");
  await page.getByLabel("Reason, for the model").press("Enter");
  await page.reload();
  await approve.waitFor();
  await expect.poll(() => page.locator(".turn.assistant .foot").count()).toBe(0);
  await approve.click();
  await ended(page);
  await page.locator(".card", { hasText: "clock" }).getByText("done").waitFor();
  await page.getByRole("button", { name: "Inspect" }).click();
  await page.getByRole("dialog").getByRole("cell", { name: "tool clock", exact: true }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await pictures(page, "tools");
});

test("formulas are MathML, and code has colours", async () => {
  await ask(page, "The root $$\\sqrt{2}$$ costs $5 or $6, and \\(a^2\\).\n\n```python\nprint('hello')  # a comment\n```");
  await ended(page);
  await expect.poll(() => page.locator(".turn.assistant math").count()).toBe(2);
  await expect.poll(() => page.locator(".turn.assistant math msqrt").count()).toBe(1);
  await expect.poll(() => page.locator(".turn.assistant p").first().textContent()).toContain("costs $5 or $6");
  await page.locator(".turn.assistant .token-string-expression, .turn.assistant .token-string").first().waitFor();
  await page.locator(".turn.assistant .token-comment").first().waitFor();
  await expect.poll(() => page.locator(".turn.assistant pre code").textContent()).toBe("print('hello')  # a comment");
  await pictures(page, "formulas");
});

test("finished pieces have the nodes that React makes", async () => {
  const pieces = [
    "# A *heading*",
    'A paragraph with `code`, a [link](https://a.example "title"), an ![image](https://b.example/i.png), https://c.example and <b>HTML</b>\\\nin two lines.',
    "3. three\n4. four\n   - [x] done\n   - [ ] open\n\n     ```py\n     x = 1\n     ```",
    "> quoted\n>\n> twice",
    "| left | centre | right |\n|:--|:-:|--:|\n| a | b | ~~c~~ |",
    "```python\nprint('hello')\n```",
    "$$\\begin{matrix} a & b \\\\ c & d \\end{matrix}$$ and $$\\color{red}{\\sqrt[3]{x}}$$",
    "---",
    "A note[no](javascript:x).",
    "The end.",
  ].join("\n\n");
  // A half formula is an error, whose colour the page's policy refuses.
  await answerWith(page, "sim/echo:chunk=10000");
  const nodes = async () => {
    await ended(page);
    await page.locator(".turn.assistant math").nth(1).waitFor();
    await page.locator(".turn.assistant figure.code code span[class^=token]").nth(1).waitFor();
    return page.locator(".turn.assistant .markdown").evaluate((shown) => {
      /** Return what a node is and has. The places of finished pieces, and of code among them, count as their content. */
      const described = (node: Node): string => {
        const content = [...node.childNodes].map(described).join("");
        if (!(node instanceof Element)) return node.nodeType === Node.TEXT_NODE ? (node.textContent ?? "").trim() : "";
        if (node === shown || node.matches(".markdown > div:first-child, .markdown div:has(> figure.code)")) return content;
        const attributes = [...node.attributes].map(({ name, value }) => ` ${name}=${value}`).sort();
        return `<${node.nodeName}${attributes.join("")}>${content}</>`;
      };
      return { count: shown.firstElementChild?.childNodes.length, content: described(shown) };
    });
  };
  await ask(page, pieces);
  const finished = await nodes();
  expect(finished.count).toBe(9);
  await page.getByRole("button", { name: "Copy code" }).last().click();
  await page.getByRole("button", { name: "New chat" }).click();
  // A definition is valid in the whole text: such a text is one piece, which React shows.
  await ask(page, `${pieces}\n\n[unused]: https://d.example`);
  const whole = await nodes();
  expect(whole.count).toBe(0);
  expect(finished.content).toBe(whole.content);
  expect(finished.content).toContain("print");
});

test("thinking is folded", async () => {
  await page.getByLabel("Model", { exact: true }).selectOption("sim/thinking");
  await ask(page, "Think about it");
  await ended(page);
  expect(await page.locator("details.thinking").first().getAttribute("open")).toBeNull();
  const summary = page.locator("details.thinking summary").first();
  await page.reload();
  await ended(page);
  await expect.poll(() => summary.textContent()).toMatch(/^Thought \(\d+ s\)$/);
  await summary.click();
  await pictures(page, "thinking");
});

test("chats are renamed, pinned, found and deleted", async () => {
  await ask(page, "about granite");
  await ended(page);
  await page.getByRole("button", { name: "Rename" }).click();
  await page.getByLabel("Title").fill("Rocks <b>and</b> stones");
  await page.getByRole("button", { name: "Save" }).click();
  const link = page.getByRole("link", { name: "Rocks <b>and</b> stones" });
  await link.waitFor();
  await page.getByRole("button", { name: "Pin", exact: true }).click();
  await page.getByRole("heading", { name: "Pinned" }).waitFor();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("GRANITE");
  await expect.poll(() => page.locator(".sidebar li").count()).toBe(1);
  await link.waitFor();
  await page.keyboard.press("Control+a");
  await page.keyboard.type("no such text anywhere");
  await page.getByText("No chat has this text.").waitFor();
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Delete");
  await link.waitFor();
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete", exact: true }).click();
  await link.waitFor({ state: "detached" });
  await expect.poll(() => page.locator(".turn").count()).toBe(0);
});

test("a draft stays through a reload", async () => {
  await page.getByLabel("Message").fill("half a thought");
  await page.reload();
  await expect.poll(() => page.getByLabel("Message").inputValue()).toBe("half a thought");
});

test("the inspector shows the events and the model calls of a turn", async () => {
  await ask(page, "look inside");
  await ended(page);
  await expect.poll(() => page.locator(".turn.assistant .facts").textContent()).toMatch(/sim\/echo.* · \d+ → \d+ tokens · \$0/);
  // The turns of a branch come without their model calls: the inspector reads them.
  await page.reload();
  await page.getByRole("button", { name: "Inspect" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("cell", { name: "turn_complete", exact: true }).waitFor();
  await dialog.getByRole("cell", { name: "turn_start", exact: true }).waitFor();
  const calls = dialog.locator("table.attempts tr.call");
  expect(await calls.count()).toBe(1);
  // The start, the model, the outcome, the seconds to the first output, and the seconds of the call.
  expect((await calls.locator("td").allTextContents()).slice(0, 5).join(" ")).toMatch(/^\d+\.\d\d sim\/echo\S* complete \d+\.\d\d \d+\.\d\d$/);
  const ids = await dialog.locator(".events tbody tr td:nth-child(2)").allTextContents();
  expect(ids.every((id) => /^\d+-\d+$/.test(id))).toBe(true);
  await dialog.getByLabel("Type").selectOption("turn_complete");
  await expect.poll(() => dialog.locator(".events tbody tr").count()).toBe(1);
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
});

test("a chat is exported as Markdown and as JSON", async () => {
  await ask(page, "export **me**");
  await ended(page);
  const contents: string[] = [];
  for (const form of ["Markdown", "JSON"]) {
    await page.getByRole("button", { name: "Export" }).click();
    const downloading = page.waitForEvent("download");
    await page.getByRole("dialog").getByRole("button", { name: form }).click();
    const download = await downloading;
    expect(download.suggestedFilename()).toBe(form === "JSON" ? "export me.json" : "export me.md");
    contents.push(readFileSync(await download.path(), "utf8"));
  }
  expect(contents[0]).toContain("## You\n\nexport **me**\n");
  const { turns } = JSON.parse(contents[1] ?? "") as { turns: { role: string }[] };
  expect(turns.map(({ role }) => role)).toEqual(["user", "assistant"]);
});

test("the system prompt and the parameters go with the next question", async () => {
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByLabel("System prompt").fill("Answer in verse.");
  await page.getByLabel(/Parameters/).fill("{nothing}");
  await page.getByText("The parameters are not a JSON object.").waitFor();
  await page.getByLabel(/Parameters/).fill('{"temperature": 0.5}');
  await page.getByRole("button", { name: "Save" }).click();
  await ask(page, "a poem");
  await ended(page);
  const answer = await fetch(`${server.url}api/chats/${chatOf(page)}/path`);
  const { turns } = (await answer.json()) as { turns: { system: string | null; params: unknown }[] };
  expect(turns[1]).toMatchObject({ system: "Answer in verse.", params: { temperature: 0.5 } });
});

test("several models answer side by side, and the chat continues with the chosen one", async () => {
  await page.getByRole("button", { name: "Answers to the next question: 1" }).click();
  await page.getByRole("button", { name: "Add an answer" }).click();
  await page.getByLabel("Model of answer 2").selectOption("sim/story");
  await page.getByRole("button", { name: "Add an answer" }).click();
  await page.getByLabel("Model of answer 3").selectOption("sim/thinking");
  await page.getByRole("button", { name: "Done" }).click();
  await page.getByRole("button", { name: "Answers to the next question: 3" }).waitFor();
  await ask(page, "Which is best?");
  const columns = page.locator(".turn.compared .column");
  await expect.poll(() => columns.count()).toBe(3);
  await page.reload();
  await expect.poll(() => columns.count()).toBe(3);
  await expect.poll(() => page.locator(".turn.compared .column.complete").count(), { timeout: 60_000 }).toBe(3);
  const second = await columns.nth(1).locator(".markdown").allTextContents();
  await columns.nth(1).getByRole("button", { name: "Continue with this" }).click();
  await page.locator(".turn.assistant .branches", { hasText: "2/3" }).waitFor();
  await expect.poll(() => page.locator(".turn.assistant .markdown").allTextContents()).toEqual(second);
  await page.getByRole("button", { name: "Show side by side" }).click();
  await expect.poll(() => columns.count()).toBe(3);
  await page.getByLabel("Model", { exact: true }).selectOption("sim/echo");
  await ask(page, "and then?");
  await page.locator(".turn.assistant").nth(1).locator(".foot").waitFor();
  await expect.poll(() => columns.count()).toBe(0);
  expect((await turnsOf()).map(({ role }) => role)).toEqual(["user", "assistant", "assistant", "assistant", "user", "assistant"]);
});

test("Stop ends all answers that are written side by side", async () => {
  await page.getByRole("button", { name: "Answers to the next question: 1" }).click();
  await page.getByLabel("Model of answer 1").selectOption("sim/story");
  await page.getByRole("button", { name: "Add an answer" }).click();
  await page.getByRole("button", { name: "Done" }).click();
  await ask(page, "Tell two stories");
  await page.locator(".column .markdown").nth(1).waitFor();
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await expect.poll(() => page.locator(".turn.compared .column.cancelled").count()).toBe(2);
});

test("Stop ends the alternatives that are still written when the shown answer has ended", async () => {
  await page.getByRole("button", { name: "Answers to the next question: 1" }).click();
  await page.getByLabel("Model of answer 1").selectOption("sim/echo");
  await page.getByRole("button", { name: "Add an answer" }).click();
  await page.getByLabel("Model of answer 2").selectOption("sim/story");
  await page.getByRole("button", { name: "Done" }).click();
  await ask(page, "Short");
  await page.locator(".column.complete").waitFor();
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await page.locator(".column.cancelled").waitFor();
  await page.getByRole("button", { name: "Send" }).waitFor();
  expect(await page.locator(".column.complete").count()).toBe(1);
});

test("another model answers again", async () => {
  await ask(page, "again, please");
  await ended(page);
  await page.getByLabel("Answer again with another model").selectOption("sim/thinking");
  await page.locator(".turn.assistant .branches", { hasText: "2/2" }).waitFor();
  await ended(page);
  await expect.poll(() => page.locator(".turn.assistant .facts").textContent()).toContain("sim/thinking");
});

test("an edited question keeps its files", async () => {
  await page.locator('input[type="file"]').setInputFiles([
    { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("granite and basalt") },
    { name: "dot.png", mimeType: "image/png", buffer: Buffer.from(DOT, "base64") },
  ]);
  await ask(page, "Read them");
  await ended(page);
  await page.reload();
  await page.getByRole("button", { name: "Edit question" }).click();
  await page.getByRole("list", { name: "Files of the question" }).locator("li").nth(1).waitFor();
  await page.getByLabel("Edit the question").fill("Read them again");
  await page.getByRole("button", { name: "Send as a new branch" }).click();
  await page.locator(".turn.user .branches", { hasText: "2/2" }).waitFor();
  await ended(page);
  const answer = await fetch(`${server.url}api/chats/${chatOf(page)}/path`);
  const { turns } = (await answer.json()) as { turns: { blocks: { content: { data?: string; title?: string } | null }[] }[] };
  expect(turns[0]?.blocks.map(({ content }) => content?.data ?? "")).toEqual([Buffer.from("granite and basalt").toString("base64"), DOT, ""]);
  expect(turns[0]?.blocks[0]?.content?.title).toBe("notes.txt");
});

test("a model makes the title of a chat, and a title that was given stays", async () => {
  const titled = await startServer({ model: "sim/echo:pace=0", settings: '[engine]\ntitle_model = "sim/echo"\n' });
  await page.goto(titled.url);
  await connected(page);
  await ask(page, "Why is the sky blue?");
  await page.getByRole("heading", { name: "Question:", level: 1 }).waitFor();
  await page.getByRole("link", { name: "Question:" }).waitFor();
  await page.getByRole("button", { name: "New chat" }).click();
  await page.getByText("Ask something", { exact: true }).waitFor();
  await page.getByLabel("Model", { exact: true }).selectOption("sim/story");
  await ask(page, "Tell me a story");
  await page.getByRole("button", { name: "Rename" }).click();
  await page.getByLabel("Title").fill("My own");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name: "My own", level: 1 }).waitFor();
  await ended(page);
  await page.reload();
  await page.getByRole("heading", { name: "My own", level: 1 }).waitFor();
  await titled.kill();
});
