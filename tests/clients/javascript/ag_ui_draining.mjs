// Two runs of @ag-ui/client while their server drains: one ends in time, the other does not.
// Arguments: the address of the AG-UI endpoint. Prints one line of JSON with the outcomes.
// The line `{"do": "drain"}` asks the test to stop the server, `{"do": "restart"}` to wait for its end and to
// start the next one. A line on stdin follows each.
import { createInterface } from "node:readline";
import { HttpAgent } from "@ag-ui/client";

const url = process.argv[1];
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (what) => {
  console.log(JSON.stringify({ do: what }));
  await lines.next();
};

class Page {
  constructor(threadId, messages = []) {
    this.agent = new HttpAgent({ url, threadId, initialMessages: structuredClone(messages) });
    this.errors = [];
    this.outcomes = [];
    this.notices = [];
    this.shown = new Promise((resolve) => (this.show = resolve));
  }

  async run(model, runId) {
    this.runId = runId;
    try {
      await this.agent.runAgent({ runId, tools: [], forwardedProps: { model } }, {
        onCustomEvent: ({ event }) => void this.notices.push(event.value.code),
        onTextMessageContentEvent: () => void this.show(),
        onRunErrorEvent: ({ event }) => void this.errors.push(event.code),
        onRunFinishedEvent: ({ outcome }) => void this.outcomes.push(outcome),
      });
    } catch (error) {
      this.errors.push(`${error.name}: ${error.message}`);
    }
  }

  get outcome() {
    const last = this.agent.messages.at(-1);
    const { errors, outcomes, notices } = this;
    return { text: last.content ?? "", turn: last.id.slice(0, last.id.lastIndexOf("-")), errors, outcomes, notices };
  }
}

const pages = [new Page("in time"), new Page("too long")];
for (const page of pages) page.agent.addMessage({ id: crypto.randomUUID(), role: "user", content: "go" });
const runs = ["sim/story:events=40,pace=0.05", "sim/story:events=4000,pace=0.05"].map((model, place) =>
  pages[place].run(model, `run ${place}`),
);
await Promise.all(pages.map((page) => page.shown));
await ask("drain");
await Promise.all(runs);
await ask("restart");
const again = pages.map((page) => new Page(page.agent.threadId, page.agent.messages));
await Promise.all(again.map((page, place) => page.run("sim/echo", pages[place].runId)));
console.log(JSON.stringify({ first: pages.map((page) => page.outcome), again: again.map((page) => page.outcome) }));
process.exit(0);
