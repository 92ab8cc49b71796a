// Cases of the browser client against a real server. Arguments: the case, the folder of the built client, the port.
import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [name, folder, port] = process.argv.slice(2);
const load = (entry) => import(pathToFileURL(`${folder}/${entry}.js`).href);
const { blocksOf, createTurnstream, textOf, TURN_EVENTS } = await load("index");
const { ChatStore } = await load("chat");
const { LiveEvents } = await load("live");
const { eventSourceReader } = await load("event_source");

const retry = { firstDelay: 5, maxDelay: 50 };
const connect = (to = port, options = {}) => createTurnstream({ baseUrl: `http://127.0.0.1:${to}/api`, retry, ...options });
const client = connect();
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Assert that what was watched is what is stored. */
async function assertStored(state) {
  const stored = await client.readTurn(state.turn_id);
  assert.equal(state.status, stored.status);
  const kept = stored.blocks.map(({ sequence, block_type, text_content, content, partial }) =>
    ({ sequence, block_type, text_content, content, partial, open: false }));
  assert.deepEqual(blocksOf(state), kept);
  return stored;
}

async function start(model, text = "Hello") {
  const chat = await client.createChat();
  return (await client.send(chat.id, text, { model })).assistant_turn.id;
}

/** Resolve when `check` of the store's snapshot is true. */
function reached(store, check) {
  return new Promise((resolve) => {
    const unsubscribe = store.subscribe(() => {
      if (check(store.getSnapshot())) setTimeout(() => resolve(unsubscribe()));
    });
    if (check(store.getSnapshot())) setTimeout(() => resolve(unsubscribe()));
  });
}

/** Run `use` with the port of a proxy that cuts the first stream after `frames` frames. */
async function cutting(frames, use) {
  let cut = false;
  const server = net.createServer((browser) => {
    const upstream = net.connect(Number(port), "127.0.0.1");
    let left = frames + 1; // the head ends with an empty line too
    browser.on("data", (data) => upstream.write(data)).on("error", () => upstream.destroy());
    browser.on("close", () => upstream.destroy());
    upstream.on("error", () => browser.destroy()).on("close", () => browser.destroy());
    const isFirst = !cut;
    cut = true;
    upstream.on("data", (data) => {
      let end = 0;
      for (let at = data.indexOf("\n\n"); isFirst && at >= 0 && left > 0; at = data.indexOf("\n\n", end)) {
        end = at + 2;
        left -= 1;
      }
      if (isFirst && left <= 0) browser.end(data.subarray(0, end + 7), () => browser.resetAndDestroy());
      else browser.write(data);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await use(server.address().port);
  } finally {
    server.close();
  }
}

/** Run `use` with the port of a proxy that loses the answer of the first POST which `path` matches. */
async function losing(path, use) {
  let lost = false;
  const server = http.createServer((request, response) => {
    const loses = !lost && request.method === "POST" && path.test(request.url);
    lost ||= loses;
    const { method, url, headers } = request;
    request.pipe(http.request({ port, method, path: url, headers }, (answer) => {
      if (loses) answer.resume().on("end", () => response.destroy());
      else answer.pipe(response.writeHead(answer.statusCode, answer.headers));
    }));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await use(server.address().port);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const cases = {
  async cut_after_each_frame() {
    for (let frames = 0, isWhole = false; !isWhole; frames += 1) {
      const id = await start("sim/thinking:pace=0.001");
      let events = 0;
      const state = await cutting(frames, (through) => {
        const turn = connect(through).turn(id);
        turn.onEvent = () => (events += 1);
        return turn.wait();
      });
      await assertStored(state);
      isWhole = frames > events;
      assert(frames < 500);
    }
  },

  async cut_with_an_event_source() {
    const reader = eventSourceReader(TURN_EVENTS);
    for (const frames of [0, 1, 5, 20, 60]) {
      const id = await start("sim/thinking:pace=0.001");
      const state = await cutting(frames, (through) => connect(through, { reader }).turn(id).wait());
      const { status } = await assertStored(state);
      assert.equal(status, "complete");
    }
    await assert.rejects(connect(port, { reader }).turn("01a1fc3d-f972-7b3d-9880-2b4d5256380e").wait(), { status: 404 });
  },

  async bad_lines_are_skipped_with_a_warning_and_an_abort_is_silent() {
    const warnings = [];
    console.warn = (...words) => warnings.push(words.join(" "));
    const junk = new TransformStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode("nonsense\n<p>: a page\n")),
    });
    const id = await start("sim/thinking:pace=0.001");
    const through = connect(port, { fetch: async (...request) => {
      const answer = await fetch(...request);
      return new Response(answer.body.pipeThrough(junk), answer);
    } });
    await assertStored(await through.turn(id).wait());
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /2 lines/);
    const running = await start("sim/story:events=100000,pace=0.002");
    const [turn, stop] = [client.turn(running), new AbortController()];
    const waiting = turn.wait(stop.signal);
    await reached(turn, ({ turn: state }) => textOf(state).length > 50);
    stop.abort();
    assert.deepEqual([(await waiting).ended, turn.state.status, warnings.length], [false, "streaming", 1]);
    assert.equal((await client.readTurn(running)).status, "streaming");
    await client.stop(running);
  },

  async server_is_killed_and_started_again() {
    const id = await start("sim/story:events=100000,pace=0.002");
    const turn = client.turn(id);
    await reached(turn, ({ turn: state }) => textOf(state).length > 500);
    const unsubscribe = turn.subscribe(() => undefined);
    console.log("kill");
    await lines.next();
    const state = await turn.wait();
    unsubscribe();
    assert.deepEqual([state.status, state.error.code], ["error", "orphaned"]);
    await assertStored(state);
  },

  async two_watchers_and_a_stop() {
    const id = await start("sim/story:events=100000,pace=0.001");
    const [one, other] = [client.turn(id), connect().turn(id)];
    const ended = [one.wait(), other.wait()];
    await reached(one, ({ turn }) => textOf(turn).length > 300);
    assert.equal((await client.stop(id)).status, "cancelled");
    assert.equal((await client.stop(id)).status, "cancelled");
    for (const state of await Promise.all(ended)) {
      assert.equal(state.status, "cancelled");
      await assertStored(state);
    }
    const late = await connect().turn(id).wait();
    await assertStored(late);
  },

  async refused_message_is_rolled_back() {
    const chat = new ChatStore(client, (await client.createChat()).id);
    await reached(chat, ({ status }) => status === "ready");
    const shown = [];
    const unsubscribe = chat.subscribe(() => shown.push(chat.getSnapshot()));
    await assert.rejects(chat.send("Hello", { model: "nobody/nothing" }), ({ name, status, retryable }) =>
      name === "TurnstreamError" && status >= 400 && status < 500 && !retryable);
    assert.deepEqual(shown[0].messages.map(({ role, pending }) => [role, pending[0].text]), [["user", "Hello"]]);
    assert.equal(shown[0].sending, true);
    const last = chat.getSnapshot();
    assert.deepEqual([last.messages, last.sending, last.error.name], [[], false, "TurnstreamError"]);
    const turn = await chat.send("Hello again", { model: "sim/story:events=100000,pace=0.01" });
    await assert.rejects(chat.send("Too early"), { code: "turn_active" });
    assert.equal(chat.getSnapshot().messages.length, 2);
    await chat.stop();
    assert.equal((await turn.wait()).status, "cancelled");
    await reached(chat, ({ running }) => running === null);
    await (await chat.send("And now", { model: "sim/echo" })).wait();
    await chat.reload();
    assert.deepEqual(chat.getSnapshot().messages.map(({ role, turn }) => [role, turn.status]),
      [["user", "complete"], ["assistant", "cancelled"], ["user", "complete"], ["assistant", "complete"]]);
    unsubscribe();
  },

  async lost_answer_does_not_send_twice() {
    const chat = await client.createChat();
    const started = await losing(/\/turns$/, (through) => connect(through).send(chat.id, "Once", { model: "sim/echo" }));
    await client.turn(started.assistant_turn.id).wait();
    const { turns } = await client.path(chat.id);
    assert.deepEqual(turns.map(({ role, siblings }) => [role, siblings.length]), [["user", 1], ["assistant", 1]]);
  },

  async message_that_failed_is_sent_again_with_its_key() {
    const chat = new ChatStore(client, (await client.createChat()).id);
    const nowhere = createTurnstream({ baseUrl: `http://127.0.0.1:${port}/api`, retry: { ...retry, request: 300 },
      fetch: async (url, init) => {
        const answer = await fetch(url, init);
        if (init.method !== "POST") return answer;
        throw new TypeError("the answer was lost");
      } });
    const failing = new ChatStore(nowhere, chat.getSnapshot().chat_id);
    await assert.rejects(failing.send("Once", { model: "sim/echo" }), { code: "connection_error" });
    assert.deepEqual(failing.getSnapshot().messages, []);
    nowhere.transport.fetch = fetch;
    await (await failing.send("Once", { model: "sim/echo" })).wait();
    const { turns } = await client.path(chat.getSnapshot().chat_id);
    assert.deepEqual(turns.map(({ siblings }) => siblings.length), [1, 1]);
  },

  async edit_regenerate_and_branches() {
    const chat = new ChatStore(client, null);
    const first = await chat.send("one", { model: "sim/echo" });
    const unsubscribe = chat.subscribe(() => undefined);
    await reached(chat, ({ running, status }) => running === null && status === "ready");
    assert.equal(textOf(first.state), "one");
    const [question, answer] = chat.getSnapshot().messages;
    const again = await chat.regenerate(answer.turn.id);
    await again.wait();
    const edited = await chat.edit(question.turn, "two");
    assert.equal(textOf(await edited.wait()), "two");
    await chat.reload();
    assert.equal(chat.getSnapshot().messages[0].siblings.length, 2);
    assert.equal(chat.getSnapshot().messages[1].turn.id, edited.id);
    await chat.showBranch(again.id);
    assert.equal(chat.getSnapshot().messages[1].turn.id, again.id);
    assert.equal(chat.getSnapshot().messages[1].siblings.length, 2);
    assert.deepEqual((await client.siblings(again.id)).turns.map(({ id }) => id), [first.id, again.id]);
    const chats = await client.chats({ limit: 5 });
    assert.deepEqual(chats.chats.map(({ id }) => id), [chat.getSnapshot().chat_id]);
    await client.changeChat(chat.getSnapshot().chat_id, { title: "Echoes" });
    assert.equal((await client.readChat(chat.getSnapshot().chat_id)).title, "Echoes");
    assert.deepEqual((await client.chats({ search: "echoe" })).chats.map(({ title }) => title), ["Echoes"]);
    assert.deepEqual((await client.chats({ search: "nowhere" })).chats, []);
    await client.deleteChat(chat.getSnapshot().chat_id);
    await chat.reload();
    assert.deepEqual([chat.getSnapshot().status, chat.getSnapshot().error.code], ["gone", "not_found"]);
    unsubscribe();
  },

  async events_of_all_turns() {
    let connections = 0;
    const counting = createTurnstream({ baseUrl: client.root, retry, fetch: (url, init) => {
      connections += String(url).endsWith("/stream");
      return fetch(url, init);
    } });
    const events = [];
    const live = new LiveEvents(counting, { onChatEvent: (event) => events.push(event) });
    live.start();
    await reached(live, ({ kind }) => kind === "open");
    const chat = new ChatStore(counting, (await client.createChat({ title: "Shared" })).id);
    live.onChatEvent(chat.takeChatEvent);
    const unsubscribe = chat.subscribe(() => undefined);
    await reached(chat, ({ status }) => status === "ready");
    // Another tab sends: the chat shows it without a reload of its own.
    const started = await client.send(chat.getSnapshot().chat_id, "Hello", { model: "sim/story:events=200,pace=0.001" });
    await reached(chat, ({ messages }) => messages.some(({ live: turn }) => turn?.id === started.assistant_turn.id));
    const state = await counting.turn(started.assistant_turn.id).wait();
    await assertStored(state);
    assert.equal(connections, 0);
    assert.deepEqual(new Set(events.map(({ type }) => type)),
      new Set(["events_start", "chat_created", "chat_changed", "turn_started"]));
    // Without the shared stream, a turn has one of its own.
    const next = await client.send(chat.getSnapshot().chat_id, "More", { model: "sim/story:events=400,pace=0.002" });
    const turn = counting.turn(next.assistant_turn.id);
    await reached(turn, ({ turn: now }) => textOf(now).length > 50);
    const ended = turn.wait();
    live.close();
    await assertStored(await ended);
    assert.equal(connections, 1);
    unsubscribe();
  },

  async approvals_and_tool_results() {
    const asking = await client.createChat();
    const asked = await client.send(asking.id, "Erase it", { model: "sim/tools:pace=0", tools: ["clock", "erase"] });
    const turn = client.turn(asked.assistant_turn.id);
    await reached(turn, ({ turn: state }) => state.status === "waiting");
    const [{ approval_id }] = turn.state.approvals;
    const ended = turn.wait();
    assert.equal((await client.approve(turn.id, approval_id, { approved: false, reason: "not this" })).approved, false);
    assert.equal((await client.approve(turn.id, approval_id, { approved: false, reason: "not this" })).approved, false);
    await assert.rejects(client.approve(turn.id, approval_id, { approved: true }), { status: 409, code: "approval_decided" });
    await assertStored(await ended);
    assert.deepEqual([turn.state.status, turn.state.approvals], ["complete", []]);
    const chat = await client.createChat();
    const lookup = { name: "lookup", description: "Looks something up.", input_schema: { type: "object" } };
    const { assistant_turn } = await client.send(chat.id, "Hello", { model: "sim/tools", tools: [lookup] });
    const called = await client.turn(assistant_turn.id).wait();
    assert.equal(called.stop_reason, "tool_use");
    const calls = blocksOf(called).filter(({ block_type }) => block_type === "tool_use");
    assert(calls.length > 0);
    const results = calls.map(({ content }) => ({ tool_use_id: content.tool_use_id, content: "42" }));
    const answered = await client.sendToolResults(assistant_turn, results, { tools: [lookup] });
    assert.equal((await client.turn(answered.assistant_turn.id).wait()).status, "complete");
  },
};

await cases[name]();
process.exit(0);
