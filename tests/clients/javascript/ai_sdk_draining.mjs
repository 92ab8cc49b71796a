// Two chats of @ai-sdk/react while their server drains. One reconnects at once, the other to the next server.
// Arguments: the address of the chat endpoint. Prints one line of JSON with the outcomes.
// The line `{"do": "drain"}` asks the test to stop the server, `{"do": "restart"}` to wait for its end and to
// start the next one. A line on stdin follows each.
import { createInterface } from "node:readline";
import { Chat } from "@ai-sdk/react";
import * as ai from "ai";

const api = process.argv[1];
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (what) => {
  console.log(JSON.stringify({ do: what }));
  await lines.next();
};

class Page {
  constructor(id) {
    this.errors = [];
    this.notices = [];
    this.chat = new Chat({
      id,
      transport: new ai.DefaultChatTransport({ api, body: { model: "sim/story:events=40,pace=0.05" } }),
      onError: (error) => this.errors.push(`${error.name}: ${error.message}`),
      onData: (part) => this.notices.push(part.data?.code),
    });
  }

  // As the example page does: until the connection holds.
  async reconnect() {
    while (this.chat.status === "error" && this.chat.error instanceof TypeError) await this.chat.resumeStream();
  }

  shown() {
    return new Promise((resolve) => {
      const remove = this.chat["~registerMessagesCallback"](() => {
        if (this.outcome.text.length > 20) {
          remove();
          resolve();
        }
      });
    });
  }

  get outcome() {
    const { status, messages } = this.chat;
    const last = messages.at(-1);
    const texts = last?.role === "assistant" ? last.parts.filter((part) => part.type === "text") : [];
    const text = texts.map((part) => part.text).join("");
    return { status, text, id: last?.id, answers: messages.length - 1, errors: this.errors.length, notices: this.notices };
  }
}

const pages = [new Page("here"), new Page("next")];
const sent = pages.map((page) => page.chat.sendMessage({ text: "go" }));
await Promise.all(pages.map((page) => page.shown()));
await ask("drain");
await Promise.all(sent);
const cut = pages.map((page) => structuredClone(page.outcome));
await pages[0].reconnect();
const here = pages[0].outcome;
await ask("restart");
await pages[1].reconnect();
console.log(JSON.stringify({ cut, answers: [here, pages[1].outcome] }));
process.exit(0);
