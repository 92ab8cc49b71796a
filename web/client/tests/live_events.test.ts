// Many turns over one connection, shared by the tabs of a browser.

import { expect, test, vi } from "vitest";

import { TurnstreamError } from "../src/errors.js";
import type { ChatEvent, TurnEvent } from "../src/events.js";
import { textOf } from "../src/fold.js";
import { LiveEvents } from "../src/live.js";
import type { FrameSink, StreamReader, StreamRequest } from "../src/reading.js";
import { createTurnstream } from "../src/turnstream.js";

/** A server whose streams are in the test's hands. */
class Streams {
  /** Requests of streams that are open, by the end of their path. */
  readonly open: { readonly request: StreamRequest; readonly sink: FrameSink; end(error?: TurnstreamError): void }[] = [];
  readonly asked: string[] = [];
  #waiting: (() => void)[] = [];
  #id = 0;

  readonly reader: StreamReader = (request, sink) =>
    new Promise((resolve, reject) => {
      sink.opened(true);
      const end = (error?: TurnstreamError) => {
        this.open.splice(this.open.findIndex((one) => one.sink === sink), 1);
        if (error) reject(error);
        else resolve("closed");
      };
      this.open.push({ request, sink, end });
      this.asked.push(`${new URL(request.url).pathname} ${request.lastId ?? ""}`);
      request.signal.addEventListener("abort", () => { end(); });
      for (const wake of this.#waiting.splice(0)) wake();
    });

  async opened(count: number): Promise<void> {
    while (this.asked.length < count) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  send(...events: (TurnEvent | ChatEvent)[]): void {
    for (const event of events) {
      this.#id += 1;
      this.open[0]?.sink.frame({ event: event.type, data: JSON.stringify(event), id: `e${this.#id}` });
    }
  }
}

function tab(streams: Streams, share?: string) {
  const retry = { firstDelay: 1, maxDelay: 1 };
  const client = createTurnstream({ baseUrl: "http://server.test/api", reader: streams.reader, retry });
  const events: string[] = [];
  const live = new LiveEvents(client, { ...(share !== undefined && { share }), onChatEvent: ({ type }) => events.push(type) });
  live.start();
  return { client, live, events };
}

const started = (turn_id: string): ChatEvent => ({ type: "turn_started", chat_id: "c", turn_id, model: null, timestamp: "" });
const start = (turn_id: string): TurnEvent => ({ type: "turn_start", turn_id, chat_id: "c", role: "assistant", model: null, timestamp: "" });
const delta = (turn_id: string, text: string): TurnEvent => ({ type: "block_delta", turn_id, block_index: 0, block_type: "text", delta: { text } });
const cancelled = (turn_id: string): TurnEvent => ({ type: "turn_cancelled", turn_id, blocks_completed: 0, status: "cancelled", usage: null });

test("interleaved turns are folded apart, without connections of their own", async () => {
  const streams = new Streams();
  const { client, live, events } = tab(streams);
  await streams.opened(1);
  const one = client.turn("one");
  const ended = one.wait();
  streams.send({ type: "events_start" }, started("one"), start("one"), started("two"), start("two"));
  streams.send(delta("one", "a"), delta("two", "b"), delta("one", "c"), delta("unknown", "x"), cancelled("one"));
  expect(textOf(await ended)).toBe("ac");
  expect(textOf(client.turn("two").state)).toBe("b");
  expect(events).toEqual(["events_start", "turn_started", "turn_started"]);
  expect(streams.asked).toEqual(["/api/events "]);
  live.close();
});

test("a stream that begins again keeps the turns that it announces again", async () => {
  const streams = new Streams();
  const { client, live } = tab(streams);
  await streams.opened(1);
  const turn = client.turn("t");
  const ended = turn.wait();
  streams.send({ type: "events_start" }, started("t"), start("t"), delta("t", "a"));
  streams.send({ type: "events_start" });
  expect(textOf(turn.state)).toBe("a");
  streams.send(started("t"), start("t"), delta("t", "b"), cancelled("t"));
  expect(textOf(await ended)).toBe("b");
  expect(streams.asked).toEqual(["/api/events "]);
  live.close();
});

test("a lost connection resumes after the last event", async () => {
  const streams = new Streams();
  const { client, live } = tab(streams);
  await streams.opened(1);
  streams.send({ type: "events_start" }, started("t"), start("t"), delta("t", "a"));
  streams.open[0]?.end();
  await streams.opened(2);
  expect(streams.asked[1]).toBe("/api/events e4");
  streams.send(delta("t", "b"));
  expect(textOf(client.turn("t").state)).toBe("ab");
  live.close();
});

test("a turn that is not announced, and all turns after an end, have streams of their own", async () => {
  const streams = new Streams();
  const { client, live } = tab(streams);
  await streams.opened(1);
  streams.send({ type: "events_start" }, started("t"), start("t"));
  const unsubscribe = [client.turn("t"), client.turn("old")].map((turn) => turn.subscribe(() => undefined));
  await streams.opened(2);
  expect(streams.asked[1]).toBe("/api/turns/old/stream ");
  live.close();
  await streams.opened(3);
  expect(streams.asked[2]).toBe("/api/turns/t/stream ");
  for (const end of unsubscribe) end();
});

test("a refusal is a failure, and turns go on by themselves", async () => {
  const streams = new Streams();
  const { client, live } = tab(streams);
  await streams.opened(1);
  streams.send({ type: "events_start" }, started("t"), start("t"));
  const unsubscribe = client.turn("t").subscribe(() => undefined);
  const failed = new Promise<void>((resolve) => {
    live.subscribe(() => {
      if (live.getSnapshot().kind === "failed") resolve();
    });
  });
  streams.open[0]?.end(new TurnstreamError("no", { code: "unauthorized", status: 401 }));
  await failed;
  expect(live.getSnapshot()).toMatchObject({ kind: "failed", error: { code: "unauthorized" } });
  await streams.opened(2);
  expect(streams.asked[1]).toBe("/api/turns/t/stream ");
  unsubscribe();
});

test("the end of a deleted chat's stream is final", async () => {
  const streams = new Streams();
  const client = createTurnstream({ baseUrl: "http://server.test/api", reader: streams.reader });
  const live = new LiveEvents(client, { chat_id: "c" });
  live.start();
  await streams.opened(1);
  streams.send({ type: "events_start", chat_id: "c" }, { type: "chat_deleted", chat_id: "c" }, { type: "events_end", code: "chat_deleted" });
  expect([live.ended, streams.asked]).toEqual([true, ["/api/chats/c/events "]]);
});

test("on a page without locks, each tab reads for itself", async () => {
  vi.stubGlobal("navigator", {});
  const streams = new Streams();
  const tabs = [tab(streams, "unlocked"), tab(streams, "unlocked")];
  await streams.opened(2);
  for (const { live } of tabs) live.close();
  vi.unstubAllGlobals();
});

test("the tabs of a browser read one stream, a late tab knows what came before, and a closed one is replaced", async () => {
  const streams = new Streams();
  const name = `tabs-${String(process.pid)}`;
  const until = (store: { subscribe(listener: () => void): () => void }, check: () => boolean) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (!check()) return;
        end();
        resolve();
      };
      const end = store.subscribe(look);
      look();
    });
  const first = tab(streams, name);
  await streams.opened(1);
  streams.send({ type: "events_start" }, started("t"), start("t"), delta("t", "one "));
  const second = tab(streams, name);
  const watched = second.client.turn("t");
  await until(watched, () => textOf(watched.state) === "one ");
  streams.send(delta("t", "two "));
  await until(watched, () => textOf(watched.state) === "one two ");
  expect(streams.asked).toHaveLength(1);
  await until(second.live, () => second.live.getSnapshot().kind === "open" && second.live.getRunning().get("t") === "c");
  first.live.close();
  await streams.opened(2);
  expect(streams.asked[1]).toBe("/api/events e5");
  const ended = watched.wait();
  streams.send(delta("t", "three"), cancelled("t"));
  expect(textOf(await ended)).toBe("one two three");
  expect(streams.asked).toHaveLength(2);
  await until(second.live, () => second.live.getRunning().size === 0);
  second.live.close();
});
