// Following a stream: pauses, limits, silence, the network, and explicit ends.

import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";

import { retryAfterOf, TurnstreamError } from "../src/errors.js";
import { eventSourceReader } from "../src/event_source.js";
import { TURN_EVENTS } from "../src/events.js";
import { textOf } from "../src/fold.js";
import { type ConnectionState, delayOf, follow, type Followed, type Retry, RETRY, type Transport } from "../src/following.js";
import { fetchReader, type FrameSink, type StreamReader } from "../src/reading.js";
import { WatchedTurn } from "../src/watched_turn.js";
import { type Reply, ScriptedServer } from "./scripted_server.js";

const QUICK: Retry = { ...RETRY, firstDelay: 1, maxDelay: 2, idle: 5_000, budget: 10_000 };

function transport(retry: Partial<Retry> = {}, reader: StreamReader = fetchReader): Transport {
  return { fetch, reader, retry: { ...QUICK, ...retry }, headers: () => Promise.resolve({ "X-Key": "secret" }) };
}

function event(seq: number, type: string, more: object = {}): string {
  return `event: ${type}\ndata: ${JSON.stringify({ type, turn_id: "t", ...more })}\nid: 7-${seq}\n\n`;
}

const START = event(1, "turn_start", { chat_id: "c", role: "assistant", model: null, timestamp: "" });
const delta = (seq: number, text: string) => event(seq, "block_delta", { block_index: 0, block_type: "text", delta: { text } });
const end = (seq: number) => event(seq, "turn_cancelled", { blocks_completed: 0, status: "cancelled", usage: null });

async function watch(replies: readonly Reply[], retry: Partial<Retry> = {}, reader?: StreamReader) {
  await using server = new ScriptedServer(replies);
  const turn = new WatchedTurn(transport(retry, reader), `${await server.start()}/stream`, "t");
  const states: string[] = [];
  const unsubscribe = turn.subscribe(() => states.push(turn.getSnapshot().connection.kind));
  let error: unknown = null;
  await turn.wait().catch((failure: unknown) => {
    error = failure;
  });
  unsubscribe();
  return { turn, error, states, asked: server.asked };
}

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe("pauses", () => {
  test("a delay is random from 0 to a limit that doubles, and never below the server's wish", () => {
    const seconds = fc.option(fc.nat(60_000), { nil: null });
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(60), seconds, (random, attempt, asked) => {
        const retry = { ...RETRY, random: () => random };
        const delay = delayOf(retry, 200, attempt, asked);
        expect(delay).toBeGreaterThanOrEqual(asked ?? 0);
        expect(delay).toBeLessThanOrEqual(Math.max(Math.min(200 * 2 ** attempt, 5_000), (asked ?? 0) * 1.1));
        if (asked === null) expect(delay).toBeCloseTo(random * Math.min(200 * 2 ** attempt, 5_000), 6);
      }),
    );
  });

  test.each([
    ["0", 0], ["7", 7_000], [" 7 ", 7_000], ["soon", null],
    ["Sat, 21 Nov 2026 00:00:30 GMT", 30_000], ["Fri, 20 Nov 2026 00:00:00 GMT", 0],
  ])("Retry-After %j is %j ms", (value, expected) => {
    const now = Date.parse("2026-11-21T00:00:00Z");
    expect(retryAfterOf(value, now)).toBe(expected);
  });

  test("a refusal that asks for a delay gets it", async () => {
    const began = Date.now();
    const { turn, asked } = await watch([{ status: 503, headers: { "Retry-After": "1" } }, { body: START + end(2) }]);
    expect(turn.state.status).toBe("cancelled");
    expect(asked).toHaveLength(2);
    expect(Date.now() - began).toBeGreaterThanOrEqual(1_000);
  });

  test("a retry line sets the delay of the following connections", async () => {
    const attempts: number[] = [];
    const reader: StreamReader = async (request, sink) => {
      attempts.push(Date.now());
      if (attempts.length === 2) return fetchReader(request, sink);
      sink.opened(true);
      sink.retry(300);
      return Promise.resolve("closed");
    };
    await watch([{ body: START + end(2) }], { random: () => 1, firstDelay: 1, maxDelay: 10_000 }, reader);
    expect(Number(attempts[1]) - Number(attempts[0])).toBeGreaterThanOrEqual(295);
  });
});

describe("ends", () => {
  test("a terminal event ends the stream, and its connection is closed", async () => {
    const { turn, states, asked, error } = await watch([{ body: START + delta(2, "x") + end(3), end: "silent" }]);
    expect(error).toBeNull();
    expect([turn.state.status, textOf(turn.state), states.at(-1)]).toEqual(["cancelled", "x", "ended"]);
    expect(asked).toHaveLength(1);
    expect(asked[0]?.headers["x-key"]).toBe("secret");
  });

  test("the budget ends the attempts, with the last failure", async () => {
    const { error, states } = await watch(Array<Reply>(400).fill({ status: 503 }), { budget: 60, firstDelay: 20, maxDelay: 20 });
    expect(error).toMatchObject({ name: "TurnstreamError", status: 503, retryable: true, nextStep: "Try again in a moment." });
    expect(states.at(-1)).toBe("failed");
  });

  test("a server that sends the same events each time is given up", async () => {
    const { error, asked, turn } = await watch(Array<Reply>(40).fill({ body: START + delta(2, "x") }));
    expect(error).toMatchObject({ code: "no_progress" });
    expect(asked).toHaveLength(21);
    expect(textOf(turn.state)).toBe("x");
  });

  test("new events make the attempts unlimited", async () => {
    const replies = Array.from({ length: 60 }, (_, place) => ({ body: (place ? "" : START) + delta(place + 2, "x") }));
    const { turn, error } = await watch([...replies, { body: end(100) }], { budget: 40 });
    expect(error).toBeNull();
    expect(textOf(turn.state)).toBe("x".repeat(60));
  });

  test("a page in place of a stream is reported at once", async () => {
    const { error, asked } = await watch([{ headers: { "Content-Type": "text/html" }, body: "<h1>Hello</h1>" }]);
    expect(error).toMatchObject({ code: "unexpected_answer", retryable: false });
    expect(asked).toHaveLength(1);
  });

  test("after a failure the same store can be followed again", async () => {
    await using server = new ScriptedServer([{ status: 404 }, { body: START + end(2) }]);
    const turn = new WatchedTurn(transport(), `${await server.start()}/stream`, "t");
    await expect(turn.wait()).rejects.toMatchObject({ status: 404, code: "unexpected_answer" });
    turn.retry();
    expect((await turn.wait()).status).toBe("cancelled");
  });

  test("an abort is silent, and keeps what was received; the next subscriber resumes there", async () => {
    await using server = new ScriptedServer([{ body: START + delta(2, "one "), end: "silent" }, { body: delta(3, "two") + end(4) }]);
    const turn = new WatchedTurn(transport(), `${await server.start()}/stream`, "t");
    const stop = new AbortController();
    turn.onEvent = ({ type }) => {
      if (type === "block_delta") stop.abort();
    };
    const state = await turn.wait(stop.signal);
    expect([state.ended, state.status, textOf(state)]).toEqual([false, "streaming", "one "]);
    turn.onEvent = null;
    expect(textOf(await turn.wait())).toBe("one two");
    expect(server.asked[1]?.headers["last-event-id"]).toBe("7-2");
  });

  test("silence counts as a lost connection, and signs of life put it off", async () => {
    vi.useFakeTimers();
    try {
      const stop = new AbortController();
      const opened = Promise.withResolvers<FrameSink>();
      let lost = false;
      const reader: StreamReader = ({ signal }, sink) => {
        sink.opened(true);
        opened.resolve(sink);
        return new Promise((resolve) => {
          signal.addEventListener("abort", () => {
            lost = true;
            stop.abort();
            resolve("closed");
          });
        });
      };
      const followed = new WatchedTurn(transport(), "", "t");
      const ended = follow(followed, transport({ idle: 45_000 }, reader), stop.signal, () => undefined);
      const sink = await opened.promise;
      for (let beat = 0; beat < 10; beat += 1) {
        vi.advanceTimersByTime(40_000);
        sink.alive();
      }
      expect(lost).toBe(false);
      vi.advanceTimersByTime(44_000);
      expect(lost).toBe(false);
      vi.advanceTimersByTime(2_000);
      expect(lost).toBe(true);
      await ended;
    } finally {
      vi.useRealTimers();
    }
  });

  test("an answer beyond the limit is refused, and repetitions do not count", async () => {
    vi.spyOn(WatchedTurn, "limit", "get").mockReturnValue(1_000);
    const snapshot = (seq: number, size: number) => event(seq, "block_catchup", {
      block_index: 0, block_type: "text", complete: false, accumulated_text: "x".repeat(size),
    });
    const fine = Array.from({ length: 20 }, (_, place) => snapshot(place + 2, 500)).join("");
    const { turn, error } = await watch([{ body: START + fine + end(30) }]);
    expect([error, textOf(turn.state).length]).toEqual([null, 500]);
    const large = Array.from({ length: 5 }, (_, place) => snapshot(place + 2, 1_500)).join("");
    expect((await watch([{ body: START + large + end(30) }])).error).toMatchObject({ code: "answer_too_large" });
  });

  test("bad lines are skipped with one warning, and an abort warns of nothing", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => undefined);
    const { turn } = await watch([{ body: `${START}nonsense\n${delta(2, "x")}<p>\n${end(3)}` }]);
    expect([turn.state.status, textOf(turn.state)]).toEqual(["cancelled", "x"]);
    expect(warn.mock.calls).toEqual([[expect.stringContaining("2 lines")]]);
  });

  test("a listener that fails ends the stream with its error", async () => {
    await using server = new ScriptedServer([{ body: START + end(2) }]);
    const turn = new WatchedTurn(transport(), `${await server.start()}/stream`, "t");
    turn.onEvent = () => {
      throw new Error("a bug of the page");
    };
    await expect(turn.wait()).rejects.toMatchObject({ code: "listener_failed", cause: { message: "a bug of the page" } });
  });
});

describe("the network", () => {
  class Browser extends EventTarget {
    onLine = true;
    constructor() {
      super();
      vi.stubGlobal("navigator", this);
      vi.stubGlobal("addEventListener", this.addEventListener.bind(this));
      vi.stubGlobal("removeEventListener", this.removeEventListener.bind(this));
    }
    set(online: boolean) {
      this.onLine = online;
      this.dispatchEvent(new Event(online ? "online" : "offline"));
    }
  }

  function followed(): Followed & { taken: number } {
    return {
      url: "http://127.0.0.1:9/", lastId: null, ended: false, quiet: false, taken: 0,
      connected() { this.taken += 0; },
      nothingFollows() { this.taken += 0; },
      take() { this.taken += 1; return true; },
    };
  }

  test("without a network, attempts do not use up the budget, and its return retries at once", async () => {
    const browser = new Browser();
    browser.set(false);
    const stop = new AbortController();
    const states: ConnectionState[] = [];
    let attempts = 0;
    const reader: StreamReader = () => {
      attempts += 1;
      if (attempts === 30) {
        stop.abort();
        return Promise.resolve("closed");
      }
      return Promise.reject(new TurnstreamError("down", { code: "connection_error", retryable: true }));
    };
    const retry = { ...QUICK, firstDelay: 60_000, maxDelay: 60_000, budget: 1, random: () => 1 };
    await follow(followed(), { ...transport(), retry, reader }, stop.signal, (state) => {
      states.push(state);
      // The network returns and goes at each pause: no pause of a minute is waited for.
      if (state.kind === "retrying") queueMicrotask(() => {
        browser.set(true);
        browser.onLine = false;
      });
    });
    expect(attempts).toBe(30);
  });

  test("when the network returns, an open connection is opened anew: it may be dead without a sign", async () => {
    const browser = new Browser();
    await using server = new ScriptedServer([{ body: START + delta(2, "x"), end: "silent" }, { body: end(3) }]);
    const turn = new WatchedTurn(transport({ idle: 60_000 }), `${await server.start()}/stream`, "t");
    turn.onEvent = ({ type }) => {
      if (type === "block_delta") browser.set(true);
    };
    expect((await turn.wait()).status).toBe("cancelled");
    expect(server.asked.map(({ headers }) => headers["last-event-id"])).toEqual([undefined, "7-2"]);
  });
});

describe("EventSource", () => {
  /** As much of the browser's EventSource as the reader uses, over fetch: the names and the order of its calls. */
  class Source extends EventTarget {
    onopen: (() => void) | null = null;
    onerror: (() => void) | null = null;
    readonly #closed = new AbortController();
    constructor(url: URL) {
      super();
      let lastEventId = "";
      const sink = {
        opened: () => this.onopen?.(),
        alive: () => undefined,
        retry: () => undefined,
        frame: ({ event: name, data, id }: { event: string; data: string; id: string | null }) => {
          lastEventId = id ?? lastEventId;
          this.dispatchEvent(new MessageEvent(name, { data, lastEventId }));
        },
      };
      const request = { url: url.href, headers: {}, lastId: null, signal: this.#closed.signal, fetch };
      void fetchReader(request, sink).catch(() => null).then(() => this.onerror?.());
    }
    close() {
      this.#closed.abort();
    }
  }
  const reader = eventSourceReader(TURN_EVENTS, Source as unknown as typeof EventSource);

  test("it reads the same, and resumes by ?after=", async () => {
    const { turn, asked } = await watch(
      [{ body: START + delta(2, "one ") }, { body: delta(3, "two") + end(4), end: "silent" }], {}, reader,
    );
    expect([turn.state.status, textOf(turn.state)]).toEqual(["cancelled", "one two"]);
    expect(asked.map(({ url }) => url)).toEqual(["/stream", "/stream?after=7-2"]);
  });

  test("a refusal, which an EventSource hides, is asked for by fetch", async () => {
    const refused = { status: 404, headers: { "Content-Type": "application/json" }, body: '{"error": {"code": "not_found", "message": "no"}}' };
    const { error, asked } = await watch([refused, refused], {}, reader);
    expect(error).toMatchObject({ status: 404, code: "not_found", message: "no" });
    expect(asked).toHaveLength(2);
  });

  test("204 says that nothing follows", async () => {
    const { turn, error } = await watch([{ status: 204 }, { status: 204 }], {}, reader);
    expect([error, turn.state.ended, turn.state.status]).toEqual([null, true, null]);
  });
});
