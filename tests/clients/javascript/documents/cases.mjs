// The cases of the readers. Prints one line of JSON for each: its name, and what its readers showed.
import net from "node:net";

const [url] = process.argv.slice(1);
const STORY = { model: "sim/story:pace=0.01,events=150" };
const ENDLESS = { model: "sim/story:pace=0.01,events=100000" };
const REFUSED = { model: "sim/story:pace=0,fault=error-before,status=429" };
const BROKEN = { model: "sim/story:pace=0.001,fault=error,after=20,code=overloaded_error" };

async function json(path, body, method = body === undefined ? "GET" : "POST") {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${url}/api${path}`, { method, headers, body: body && JSON.stringify(body) });
  return response.json();
}

// A proxy that cuts its connections: number N after `sizes[N]` bytes of the answers. The later ones stay whole.
// The sizes are smaller than an answer whose pieces a busy server has all joined.
async function cutting(sizes, use) {
  const target = new URL(url);
  let count = 0;
  const server = net.createServer((client) => {
    const upstream = net.connect(target.port, target.hostname);
    let left = sizes[count++] ?? Infinity;
    client.on("data", (data) => upstream.write(data)).on("error", () => upstream.destroy());
    client.on("close", () => upstream.destroy());
    upstream.on("error", () => client.destroy()).on("close", () => client.destroy());
    upstream.on("data", (data) => {
      client.write(data.subarray(0, left), () => left <= 0 && client.resetAndDestroy());
      left -= data.length;
      if (left <= 0) upstream.pause();
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return { ...(await use(`http://127.0.0.1:${server.address().port}`)), connections: count };
  } finally {
    server.close();
  }
}

// -- the staged agent, with the line reader --------------------------------------------------------------------

async function ask(context, { base = url, onChunk = () => {} } = {}) {
  const { id: conversation } = await json("/agent/chat/conversations", { page_name: "page" });
  const shown = { conversation, types: [], text: "", ended: [] };
  const service = new ChatStreamService();
  const request = { query: "tell me", context, session_id: "page-1", conversation_id: conversation };
  await service.streamChat(`${base}/api/agent/chat/stream`, request, {
    onEvent(event) {
      if (shown.types.at(-1) !== event.type) shown.types.push(event.type);
      if (event.type === "session_start") shown.message = event.assistant_message_id;
      if (event.type !== "stream_chunk") return;
      shown.text += event.content;
      onChunk(shown, service);
    },
    onError: (error) => shown.ended.push(error.name),
    onComplete: () => shown.ended.push("complete"),
  });
  return shown;
}

const messages = (conversation) => json(`/agent/chat/conversations/${conversation}/messages`);

// Reads a conversation again, after a reload of the page: waits for the end of its run first.
async function reloaded(shown) {
  const [, answer] = await messages(shown.conversation);
  const resumed = await json(`/agent/resume/${answer.id}`, {});
  const [, after] = await messages(shown.conversation);
  const { state } = await json(`/agent/state/${answer.id}`);
  const outputs = resumed.execution?.outputs ?? [];
  return { ...shown, before: answer, outputs, after, turn: state.workflow_id };
}

function once(act) {
  let is_done = false;
  return (...given) => is_done || ((is_done = true), act(...given));
}

const agent = {
  whole: async () => reloaded(await ask(STORY)),
  cut: () => Promise.all([150, 450, 700, 1200, 1600].map(
    (size) => cutting([size], async (base) => reloaded(await ask(STORY, { base }))),
  )),
  async stop() {
    const stop = once(({ message }) => json(`/agent/chat/messages/${message}/interrupt`, {}));
    const shown = await ask(ENDLESS, { onChunk: stop });
    const [, after] = await messages(shown.conversation);
    return { ...shown, after };
  },
  abort: async () => reloaded(await ask(STORY, { onChunk: (_, service) => service.abortStream() })),
  refused: async () => withMessages(await ask(REFUSED)),
  broken: async () => withMessages(await ask(BROKEN)),
  async late() {
    let other;
    const join = once((shown) => void (other = reloaded({ conversation: shown.conversation })));
    const first = await ask(STORY, { onChunk: join });
    return { first: await reloaded(first), other: await other };
  },
  two: async () => Promise.all([ask(STORY), ask({ model: `${STORY.model},seed=7` })].map(async (one) => reloaded(await one))),
};

async function withMessages(shown) {
  const [, after] = await messages(shown.conversation);
  return { ...shown, after };
}

// -- the relay, with an EventSource and with fetch --------------------------------------------------------------

const MESSAGE = "/api/command-center/message";
const address = (base, agentId, message = agentId) => `${base}${MESSAGE}?${new URLSearchParams({ agentId, message })}`;
const turnOf = (id) => id.split(":")[0];
const interrupt = once(({ lastId }) => json(`/turns/${turnOf(lastId)}/interrupt`, {}));

async function conversationOf(agentId) {
  const { conversations } = await json(`/command-center/conversations?agentId=${agentId}`);
  return Promise.all(conversations.map(async ({ id }) => (await json(`/chats/${id}/path`)).turns.map((turn) => turn.id)));
}

const eventSource = {
  whole: () => listen(address(url, "whole")),
  async cut() {
    const shown = await cutting([350, 500, 600, 700], (base) => listen(address(base, "cut")));
    return { ...shown, conversations: await conversationOf("cut") };
  },
  stop: () => listen(address(url, "endless"), interrupt),
  async refused() {
    const shown = await listen(address(url, "refused"));
    return { ...shown, conversations: await conversationOf("refused") };
  },
  broken: () => listen(address(url, "broken")),
  async late() {
    let other;
    const first = await listen(address(url, "late"), once(() => void (other = listen(address(url, "late")))));
    return { first, other: await other, conversations: await conversationOf("late") };
  },
  two: () => Promise.all([listen(address(url, "two", "one")), listen(address(url, "two", "other"))]),
};

const post = (agentId, options, base = url) => readByFetch(`${base}${MESSAGE}`, { agentId, message: agentId }, options);

const byFetch = {
  whole: () => post("whole"),
  cut: () => cutting([350, 500, 600, 700], (base) => post("cut", {}, base)),
  told: () => cutting([900], (base) => post("cut", { resumes: false }, base)),
  stop: () => post("endless", { onChunk: once(({ nextId }) => json(`/turns/${turnOf(nextId)}/interrupt`, {})) }),
  refused: () => post("refused"),
  broken: () => post("broken"),
  async late() {
    let other, joined;
    const join = once(({ nextId, text }) => {
      joined = text;
      other = readByFetch(`${url}${MESSAGE}`, undefined, { lastId: nextId });
    });
    const first = await post("late", { onChunk: join });
    return { first, joined, other: await other };
  },
  two: () => Promise.all([post("two"), post("other")]),
  unknown: () => post("nobody"),
};

// -- the relay's server as a client of the provider's protocol ---------------------------------------------------

const provider = (model, onChunk, base = url) =>
  readProvider(`${base}/v1/messages`, { model: model.model, max_tokens: 10_000, messages: [{ role: "user", content: "tell" }] }, onChunk);

const controller = {
  whole: () => provider(STORY),
  cut: () => cutting([1200], (base) => provider(STORY, undefined, base)),
  refused: () => provider(REFUSED),
  broken: () => provider(BROKEN),
  two: () => Promise.all([provider(STORY), provider(STORY)]),
};

for (const [reader, cases] of Object.entries({ agent, eventSource, byFetch, controller })) {
  const names = Object.keys(cases);
  const outcomes = await Promise.all(names.map((name) => cases[name]()));
  names.forEach((name, place) => console.log(JSON.stringify({ reader, name, outcome: outcomes[place] })));
}
process.exit(0);
