// Chats of @ai-sdk/react against a server. Each case prints one line of JSON: its name and its outcome.
// Arguments: the major version, the address of the chat endpoint, and the port of the server.
// The line `{"do": "expire"}` asks the test to let all approvals expire. A line on stdin follows.
// The line `{"do": "kill"}` asks the test to kill the server, and to start it again. A line on stdin follows.
import { createInterface } from "node:readline";
import { Chat } from "@ai-sdk/react";
import * as ai from "ai";

// Cases whose names begin with `workflow` use the WorkflowChatTransport of @ai-sdk/workflow, which is for major 7.
const [major, api, port] = [Number(process.argv[1]), process.argv[2], Number(process.argv[3])];
const { WorkflowChatTransport } = major === 7 ? await import("@ai-sdk/workflow/client") : {};
console.error = console.warn = () => {}; // the workflow transport reports each cut there
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WEATHER = {
  name: "weather",
  inputSchema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

// One page with a chat. `shown` resolves when the answer has at least some characters.
class Page {
  constructor(id, { model = "sim/echo:pace=0", body = {}, url = api, workflow, ...given } = {}) {
    this.errors = [];
    this.finishes = [];
    this.runs = [];
    const transport = workflow
      ? new WorkflowChatTransport({
          api: url,
          ...workflow,
          prepareSendMessagesRequest: ({ id, messages, trigger, messageId }) => ({
            body: { id, messages, trigger, messageId, model, ...body },
          }),
          onChatSendMessage: (response) => this.runs.push(response.headers.get("x-workflow-run-id")),
        })
      : new ai.DefaultChatTransport({ api: url, body: { model, ...body } });
    this.chat = new Chat({
      id,
      transport,
      onError: (error) => this.errors.push(`${error.name}: ${error.message}`),
      onFinish: ({ isAbort, isDisconnect, isError, finishReason }) =>
        this.finishes.push({ isAbort, isDisconnect, isError, finishReason }),
      ...given,
    });
  }

  get answer() {
    const last = this.chat.messages.at(-1);
    const texts = last?.role === "assistant" ? last.parts.filter((part) => part.type === "text") : [];
    return texts.map((part) => part.text).join("");
  }

  shown(characters = 1) {
    return new Promise((resolve) => {
      const remove = this.chat["~registerMessagesCallback"](() => {
        if (this.answer.length >= characters) {
          remove();
          resolve();
        }
      });
    });
  }

  get outcome() {
    const { status, messages } = this.chat;
    return { status, messages, errors: this.errors, finishes: this.finishes, runs: this.runs };
  }
}

const stop = (id) => fetch(`${api}/${encodeURIComponent(id)}/stop`, { method: "POST" });
async function killed() {
  console.log(JSON.stringify({ do: "kill" }));
  await lines.next();
}

// A page that answers the approval of the server's tool `erase`, and ends when the turn has ended.
async function approval(answer, wait = async () => {}, { reloads = false, ...given } = {}) {
  const id = `approval ${Math.random()}`;
  const options = {
    ...given,
    model: "sim/tools:pace=0",
    body: { tools: ["clock", "erase"] },
    sendAutomaticallyWhen: ai.lastAssistantMessageIsCompleteWithApprovalResponses,
  };
  let page = new Page(id, options);
  await page.chat.sendMessage({ text: "erase it" });
  await wait();
  if (reloads) {
    page = new Page(id, { ...options, messages: page.chat.messages.slice(0, 1) });
    await page.chat.resumeStream();
  }
  const asked = page.chat.messages.at(-1).parts.find((part) => part.state === "approval-requested");
  const ended = new Promise((resolve) => page.chat["~registerStatusCallback"](() => {
    if (["ready", "error"].includes(page.chat.status)) resolve();
  }));
  await page.chat.addToolApprovalResponse({ id: asked.approval.id, ...answer(true) });
  await ended;
  return { ...page.outcome, asked };
}

const STORY = "sim/story:events=30,pace=0.01";

async function plain(given = {}) {
  const page = new Page(`a chat/with ?#% 日本 ${Math.random()}`, { model: STORY, ...given });
  await page.chat.sendMessage({ text: "one" });
  await page.chat.sendMessage({ text: "two" });
  return page.outcome;
}

async function tools(given = {}) {
  const page = new Page(`tools ${Math.random()}`, {
    ...given,
    model: "sim/agent:pace=0",
    body: { tools: ["clock", WEATHER] },
    sendAutomaticallyWhen: ai.lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall({ toolCall: { toolName, toolCallId } }) {
      if (toolName === "weather")
        void page.chat.addToolOutput({ tool: toolName, toolCallId, output: { sky: "clear" } });
    },
  });
  let ended;
  const both = new Promise((resolve) => (ended = resolve));
  const remove = page.chat["~registerStatusCallback"](() => {
    if (page.finishes.length === 2 || page.errors.length) ended();
  });
  page.chat.onFinish = ((before) => (event) => { before(event); if (page.finishes.length === 2) ended(); })(page.chat.onFinish);
  await page.chat.sendMessage({ text: "what is the weather?" });
  await both;
  remove();
  return page.outcome;
}

const cases = {
  plain: () => plain(),
  tools: () => tools(),
  async thinking() {
    const page = new Page("thinking", { model: "sim/thinking:pace=0" });
    await page.chat.sendMessage({ text: "think" });
    return page.outcome;
  },
  async image() {
    const page = new Page("image");
    const url = `data:image/png;base64,${PNG}`;
    await page.chat.sendMessage({ text: "see", files: [{ type: "file", mediaType: "image/png", url }] });
    return page.outcome;
  },
  async loaded() {
    const page = new Page("loaded", { model: "sim/agent:pace=0", body: { tools: ["clock"] } });
    await page.chat.sendMessage({ text: "one" });
    const messages = await (await fetch(`${api}/loaded/messages`)).json();
    const again = new Page("loaded", { messages });
    await again.chat.sendMessage({ text: "two" });
    return again.outcome;
  },
  async regenerate() {
    const page = new Page("regenerate", { model: STORY });
    await page.chat.sendMessage({ text: "one" });
    const first = page.chat.messages.at(-1).id;
    await page.chat.regenerate();
    return { ...page.outcome, first };
  },
  async cut() {
    const outcomes = [];
    for (let frames = 0; frames < 24; frames++) {
      const outcome = await cutting(api, frames, async (url) => {
        const page = new Page(`cut ${frames}`, { model: "sim/story:events=16,pace=0.01", url });
        await page.chat.sendMessage({ text: "one" });
        const cut = page.outcome;
        await page.chat.resumeStream();
        return { ...page.outcome, cut: { status: cut.status, errors: cut.errors.length } };
      });
      outcomes.push(outcome);
    }
    return outcomes;
  },
  async reload() {
    const page = new Page("reload", { model: STORY });
    const sent = page.chat.sendMessage({ text: "one" });
    await page.shown(30);
    await page.chat.stop(); // the page goes; its answer goes on
    await sent;
    const again = new Page("reload", { messages: page.chat.messages.slice(0, 1) });
    await again.chat.resumeStream();
    return again.outcome;
  },
  async stop() {
    const page = new Page("stop", { model: "sim/story:events=4000,pace=0.01" });
    const sent = page.chat.sendMessage({ text: "one" });
    await page.shown(30);
    const stopped = await (await stop("stop")).json();
    await sent;
    return { ...page.outcome, stopped };
  },
  async lateJoin() {
    const page = new Page("late", { model: STORY });
    const sent = page.chat.sendMessage({ text: "one" });
    await page.shown(30);
    const other = new Page("late", { messages: page.chat.messages.slice(0, 1) });
    await Promise.all([sent, other.chat.resumeStream()]);
    return [page.outcome, other.outcome];
  },
  async twoAtOnce() {
    const pages = ["first", "second"].map((id) => new Page(id, { model: STORY.replace("pace", `seed=${id.length},pace`) }));
    await Promise.all(pages.map((page, place) => page.chat.sendMessage({ text: `question ${place}` })));
    return pages.map((page) => page.outcome);
  },
  async faultBefore() {
    const page = new Page("fault before", { model: "sim/story:events=9,pace=0,fault=error-before,status=401" });
    await page.chat.sendMessage({ text: "one" });
    return page.outcome;
  },
  async faultAfter() {
    const page = new Page("fault after", { model: "sim/story:events=9,pace=0,fault=cut,after=6" });
    await page.chat.sendMessage({ text: "one" });
    return page.outcome;
  },
  async maxTokens() {
    const page = new Page("max tokens", { model: "sim/story:events=9,pace=0,fault=max-tokens,after=6" });
    await page.chat.sendMessage({ text: "one" });
    return page.outcome;
  },
  async refused() {
    const page = new Page("refused", { model: "no such/model" });
    await page.chat.sendMessage({ text: "one" });
    return page.outcome;
  },
  workflowPlain: () => plain({ workflow: {} }),
  workflowTools: () => tools({ workflow: {} }),
  workflowApproved: () => approval(() => ({ approved: true }), undefined, { workflow: {} }),
  async workflowCut() {
    const outcomes = [];
    for (const frames of [0, 1, 2, 3, 7, 12, 17, 18, 19, 20]) {
      const outcome = await cutting(api, frames, async (url) => {
        const page = new Page(`workflow cut ${frames}`, { model: "sim/story:events=16,pace=0.01", url, workflow: {} });
        await page.chat.sendMessage({ text: "one" });
        return page.outcome;
      });
      outcomes.push(outcome);
    }
    return outcomes;
  },
  async workflowReload() {
    const outcomes = [];
    for (const initialStartIndex of [0, -1, -7, -1000]) {
      const id = `workflow reload ${initialStartIndex}`;
      const page = new Page(id, { model: STORY, workflow: {} });
      const sent = page.chat.sendMessage({ text: "one" });
      await page.shown(30);
      await page.chat.stop(); // the page goes; its answer goes on
      await sent;
      const again = new Page(id, { messages: page.chat.messages.slice(0, 1), workflow: { initialStartIndex } });
      await again.chat.resumeStream();
      outcomes.push(again.outcome);
    }
    return outcomes;
  },
  async workflowIdle() {
    const page = new Page("nothing was asked here", { workflow: {} });
    await page.chat.resumeStream();
    return page.outcome;
  },
  async workflowStop() {
    const page = new Page("workflow stop", { model: "sim/story:events=4000,pace=0.01", workflow: {} });
    const sent = page.chat.sendMessage({ text: "one" });
    await page.shown(30);
    const stopped = await (await stop(page.runs[0])).json();
    await sent;
    return { ...page.outcome, stopped };
  },
  async workflowFault() {
    const page = new Page("workflow fault", { model: "sim/story:events=9,pace=0,fault=cut,after=6", workflow: {} });
    await page.chat.sendMessage({ text: "one" });
    return page.outcome;
  },
  approved: () => approval((ask) => ({ approved: ask })),
  denied: () => approval(() => ({ approved: false, reason: "not this file" })),
  expired: () => approval(() => ({ approved: true }), async () => {
    console.log(JSON.stringify({ do: "expire" }));
    await lines.next();
  }),
  async killed() {
    const page = new Page("killed", { model: "sim/story:events=400,pace=0.02" });
    const sent = page.chat.sendMessage({ text: "one" });
    await page.shown(200);
    await killed();
    await sent;
    const cut = { ...page.outcome, errors: [...page.errors], messages: [] };
    await page.chat.resumeStream(); // as useChat does when the page becomes visible again
    const again = new Page("killed", { messages: page.chat.messages.slice(0, 1) });
    await again.chat.resumeStream();
    return { cut, own: page.outcome, again: again.outcome };
  },
  // The server dies while the turn waits. The page that is still open answers, and so does one that has loaded.
  approvedAfterKill: () => approval(() => ({ approved: true }), killed),
  approvedAfterKillAndReload: () => approval(() => ({ approved: true }), killed, { reloads: true }),
};

const named = process.argv.slice(4);
for (const [name, run] of Object.entries(cases)) {
  if (major === 5 && /^(approved|denied|expired)/.test(name)) continue;
  if (major !== 7 && name.startsWith("workflow")) continue;
  if (named.length && !named.includes(name)) continue;
  console.log(JSON.stringify({ name, outcome: await run() }));
}
process.exit(0);
