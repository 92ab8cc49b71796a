// One client of a turn that others watch too. Arguments: its role, and the address; then those of the role.
//   page     a useChat page starts the turn, and stops it at its 40th event. A line on stdin: the others watch.
//   agent    an HttpAgent joins the run: the ids of the thread and of the run
import { createInterface } from "node:readline";

const [role, url, ...given] = process.argv.slice(1);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (value) => console.log(JSON.stringify(value));

const roles = {
  async page(id) {
    const { Chat } = await import("@ai-sdk/react");
    const { DefaultChatTransport } = await import("ai");
    const transport = new DefaultChatTransport({ api: url, body: { model: "sim/story:events=4000,pace=0.02" } });
    const chat = new Chat({ id, transport });
    const textOf = ({ messages }) => messages.at(-1).parts.filter(({ type }) => type === "text").map(({ text }) => text);
    let events = 0;
    let check = () => {};
    chat["~registerMessagesCallback"](() => {
      if (chat.messages.at(-1).role === "assistant" && textOf(chat).length) events += 1;
      check();
    });
    const reached = (count) => new Promise((resolve) => {
      check = () => events >= count && resolve();
      check();
    });
    const sent = chat.sendMessage({ text: "one" });
    await reached(1);
    say({ turn: chat.messages.at(-1).id });
    await lines.next();
    await reached(40);
    const stopped = await (await fetch(`${url}/${encodeURIComponent(id)}/stop`, { method: "POST" })).json();
    await sent;
    const again = new Chat({ id, transport, messages: chat.messages.slice(0, 1) });
    await again.resumeStream();
    const statuses = [chat.status, again.status];
    say({ events, stopped: stopped.stopped, texts: textOf(chat), reloaded: textOf(again), statuses });
  },
  async agent(threadId, runId) {
    const { HttpAgent } = await import("@ag-ui/client");
    const agent = new HttpAgent({ url, threadId });
    const textOf = () => agent.messages.filter(({ role, content }) => role === "assistant" && content).map(({ content }) => content);
    let joined = false;
    let outcome;
    await agent.runAgent({ runId }, {
      onRunFinishedEvent: (event) => void (outcome = event.outcome),
      onMessagesChanged: () => {
        if (!joined && textOf().length) say({ joined: (joined = true) });
      },
    });
    say({ outcome, texts: textOf() });
  },
};

await roles[role](...given);
process.exit(0);
