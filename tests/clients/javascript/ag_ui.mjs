// HttpAgents of @ag-ui/client against a server. Each case prints one line of JSON: its name and its outcome.
// Arguments: the address of the AG-UI endpoint, and the port of the server.
// The line `{"do": "expire"}` asks the test to let all approvals expire. A line on stdin follows.
// The line `{"do": "kill"}` asks the test to kill the server, and to start it again. A line on stdin follows.
import { createInterface } from "node:readline";
import { HttpAgent } from "@ag-ui/client";

const url = process.argv[1];
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WEATHER = {
  name: "weather",
  description: "Tell the weather.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
// When a connection breaks, the client also rejects a promise that its caller cannot reach.
process.on("unhandledRejection", (error) => {
  if (!(error instanceof TypeError && error.message === "terminated")) throw error;
});
const STORY = "sim/story:events=30,pace=0.01";

// One page with a thread.
class Page {
  constructor(threadId, messages = [], address = url) {
    this.agent = new HttpAgent({ url: address, threadId, initialMessages: structuredClone(messages) });
    this.errors = [];
    this.outcomes = [];
    this.kinds = [];
    this.pending = [];
    this.watchers = [];
  }

  get answer() {
    const last = this.agent.messages.at(-1);
    return last?.role === "assistant" ? (last.content ?? "") : "";
  }

  shown(characters = 1) {
    return new Promise((resolve) => this.watchers.push({ characters, resolve }));
  }

  ask(content) {
    this.agent.addMessage({ id: crypto.randomUUID(), role: "user", content });
  }

  async run(model, { runId = crypto.randomUUID(), tools = [], serverTools = [], ...given } = {}) {
    this.runId = runId;
    const forwardedProps = { model, tools: serverTools };
    try {
      await this.agent.runAgent({ runId, tools, forwardedProps, ...given }, {
        onEvent: ({ event }) => void this.kinds.push(event.type),
        onRunErrorEvent: ({ event }) => void this.errors.push(event.code),
        onRunFinishedEvent: ({ outcome, pendingToolCallIds = [], interrupts = [] }) => {
          this.outcomes.push(outcome);
          this.pending = pendingToolCallIds;
          this.interrupts = interrupts;
        },
        onMessagesChanged: () => {
          for (const watcher of this.watchers.splice(0)) {
            if (this.answer.length >= watcher.characters) watcher.resolve();
            else this.watchers.push(watcher);
          }
        },
      });
    } catch (error) {
      this.errors.push(`${error.name}: ${error.message}`);
    }
  }

  get outcome() {
    const { errors, outcomes } = this;
    return { errors, outcomes, messages: this.agent.messages, kinds: [...new Set(this.kinds)] };
  }
}

async function answered(model, content = "one", name = content) {
  const page = new Page(`thread ${name} ?#% 日本`);
  page.ask(content);
  await page.run(model);
  return page;
}

// A page whose run waits for an approval.
async function interrupted(name) {
  const page = new Page(name);
  page.ask("erase it");
  await page.run("sim/agent:pace=0", { serverTools: ["clock", "erase"] });
  return page;
}

async function resumed(page, payload) {
  const { interrupts } = page;
  const resume = interrupts.map(({ id }) => (payload ? { interruptId: id, status: "resolved", payload } : { interruptId: id, status: "cancelled" }));
  await page.run("sim/agent:pace=0", { resume });
  return { ...page.outcome, interrupts };
}

const asked = async (name, payload) => resumed(await interrupted(name), payload);

async function told(line) {
  console.log(JSON.stringify({ do: line }));
  await lines.next();
}

const cases = {
  async plain() {
    const page = await answered(STORY);
    page.ask("two");
    await page.run(STORY);
    return page.outcome;
  },
  thinking: async () => (await answered("sim/thinking:pace=0")).outcome,
  async image() {
    const source = { type: "data", value: PNG, mimeType: "image/png" };
    const content = [{ type: "text", text: "see" }, { type: "image", source }];
    return (await answered("sim/echo:pace=0", content, "image")).outcome;
  },
  async tools() {
    const page = new Page("tools");
    page.ask("what is the weather?");
    const given = { tools: [WEATHER], serverTools: ["clock"] };
    await page.run("sim/agent:pace=0", given);
    const [toolCallId] = page.pending;
    page.agent.addMessage({ id: crypto.randomUUID(), role: "tool", toolCallId, content: "clear sky" });
    await page.run("sim/agent:pace=0", given);
    return page.outcome;
  },
  approved: () => asked("approved", { approved: true }),
  denied: () => asked("denied", { approved: false, reason: "not this file" }),
  dismissed: () => asked("dismissed"),
  async expired() {
    const page = await interrupted("expired");
    await told("expire");
    return resumed(page, { approved: true });
  },
  async regenerate() {
    const page = await answered(STORY, "one", "regenerate");
    const first = page.agent.messages.at(-1);
    page.agent.setMessages(page.agent.messages.slice(0, 1));
    await page.run(STORY);
    return { ...page.outcome, first };
  },
  async cut() {
    const outcomes = [];
    for (let frames = 0; frames < 24; frames++) {
      const outcome = await cutting(url, frames, async (address) => {
        const page = new Page(`cut ${frames}`, [], address);
        page.ask("one");
        await page.run("sim/story:events=16,pace=0.01");
        const { errors, outcomes: ends } = page;
        const again = new Page(`cut ${frames}`, page.agent.messages);
        await again.run("sim/echo", { runId: page.runId });
        return { ...again.outcome, cut: { errors, outcomes: ends } };
      });
      outcomes.push(outcome);
    }
    return outcomes;
  },
  async lateJoin() {
    const page = new Page("late");
    page.ask("one");
    const ran = page.run("sim/thinking:events=200,pace=0.01");
    await page.shown(10);
    const other = new Page("late", page.agent.messages.slice(0, 1));
    await Promise.all([ran, other.run("sim/echo", { runId: page.runId })]);
    return [page.outcome, other.outcome];
  },
  async reload() {
    const outcomes = [];
    for (const characters of [1, 20, 40, 80]) {
      const page = new Page(`reload ${characters}`);
      page.ask("one");
      const ran = page.run(STORY);
      await page.shown(characters);
      page.agent.abortRun(); // the page goes; its run goes on
      await ran;
      const kept = new Page(page.agent.threadId, page.agent.messages);
      await kept.run("sim/echo", { runId: page.runId });
      outcomes.push(kept.outcome);
    }
    return outcomes;
  },
  async stop() {
    const page = new Page("stop");
    page.ask("one");
    const ran = page.run("sim/story:events=4000,pace=0.01");
    await page.shown(30);
    const stopped = await (await fetch(`${url}/runs/${page.runId}/stop`, { method: "POST" })).json();
    await ran;
    return { ...page.outcome, stopped };
  },
  async twoAtOnce() {
    const pages = await Promise.all([1, 2].map((seed) => answered(`sim/story:events=30,seed=${seed},pace=0.01`, `q${seed}`)));
    return pages.map((page) => page.outcome);
  },
  faultBefore: async () => (await answered("sim/story:events=9,pace=0,fault=error-before,status=401", "before")).outcome,
  faultAfter: async () => (await answered("sim/story:events=9,pace=0,fault=cut,after=6", "after")).outcome,
  maxTokens: async () => (await answered("sim/story:events=9,pace=0,fault=max-tokens,after=6", "max")).outcome,
  refused: async () => (await answered("no such/model", "refused")).outcome,
  async killed() {
    const asking = await interrupted("killed while it waits");
    const page = new Page("killed");
    page.ask("one");
    const ran = page.run("sim/story:events=400,pace=0.02");
    await page.shown(200);
    await told("kill");
    await ran;
    const again = new Page("killed", page.agent.messages);
    await again.run("sim/echo", { runId: page.runId });
    const joined = new Page("killed while it waits", asking.agent.messages);
    await joined.run("sim/echo", { runId: asking.runId });
    const waited = await resumed(joined, { approved: true });
    return { cut: { errors: page.errors }, again: again.outcome, waited };
  },
};

const named = process.argv.slice(3);
for (const [name, run] of Object.entries(cases)) {
  if (named.length && !named.includes(name)) continue;
  console.log(JSON.stringify({ name, outcome: await run() }));
}
process.exit(0);
