// @vitest-environment happy-dom
// The hooks: which component renders, and how often.

import { act, memo } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import type { StoredTurn } from "../src/answers.js";
import type { TurnEvent } from "../src/events.js";
import type { Block } from "../src/fold.js";
import { useChat, useTurn } from "../src/react.js";
import { createTurnstream, type Turnstream } from "../src/turnstream.js";
import type { WatchedTurn } from "../src/watched_turn.js";

declare global {
  var IS_REACT_ACT_ENVIRONMENT: boolean;
}

let root: Root;
let place: HTMLElement;

beforeEach(() => {
  globalThis.IS_REACT_ACT_ENVIRONMENT = true;
  place = document.createElement("div");
  root = createRoot(place);
});

afterEach(async () => {
  await act(() => {
    root.unmount();
    return Promise.resolve();
  });
  vi.restoreAllMocks();
});

function stored(id: string, role: string, status: string, prev: string | null): StoredTurn & { siblings: string[]; events: [] } {
  const none = { model: null, system: null, params: {}, metadata: {}, stop_reason: null, cost: null, error: null, asked_model: null };
  const counts = { input_tokens: null, output_tokens: null, cache_read_tokens: null, cache_write_tokens: null, reasoning_tokens: null };
  return {
    id, chat_id: "c", prev_turn_id: prev, role, status, ...none, ...counts, cost_estimated: false, unpriced: false, steps: [],
    attempts: [], approvals: [], fallbacks: null, created_at: "", completed_at: null, blocks: [], siblings: [id], events: [],
  };
}

/** A client whose turns are fed by the test, so that each event is in its hands. */
function fedClient(answers: (method: string) => unknown): Turnstream {
  const client = createTurnstream({
    baseUrl: "http://server.test/api",
    fetch: async (_url, init) => {
      const answer = await answers(init?.method ?? "GET");
      const { status = 200, ...body } = answer as { status?: number };
      return new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
    },
  });
  client.feed = (turn) => {
    turn.feed(true);
  };
  return client;
}

const start = (turn_id: string): TurnEvent => ({ type: "turn_start", turn_id, chat_id: "c", role: "assistant", model: null, timestamp: "" });
const delta = (turn_id: string, block_index: number, text: string): TurnEvent => ({
  type: "block_delta", turn_id, block_index, block_type: "text", delta: { text },
});
const cancelled = (turn_id: string): TurnEvent => ({ type: "turn_cancelled", turn_id, blocks_completed: 0, status: "cancelled", usage: null });

/** Fold events in one task, and let the next frame draw them. */
async function fed(turn: WatchedTurn, ...events: TurnEvent[]) {
  await act(async () => {
    for (const event of events) turn.fold(event);
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  });
}

test("deltas of one frame render once, only their turn, and only the block that grows", async () => {
  const client = fedClient(() => ({}));
  const renders: Record<string, number> = {};
  const count = (name: string) => (renders[name] = (renders[name] ?? 0) + 1);
  const Piece = memo(({ block, name }: { block: Block; name: string }) => {
    count(`${name}.${block.sequence}`);
    return <p>{block.text_content}</p>;
  });
  const Answer = ({ turn }: { turn: WatchedTurn }) => {
    const { blocks } = useTurn(turn);
    count(turn.id);
    return blocks.map((block) => <Piece key={block.sequence} block={block} name={turn.id} />);
  };
  const [one, other] = [client.turn("one"), client.turn("other")];
  await act(() => {
    root.render([<Answer key="1" turn={one} />, <Answer key="2" turn={other} />]);
    return Promise.resolve();
  });
  await fed(one, start("one"), delta("one", 0, "first"), { type: "block_stop", turn_id: "one", block_index: 0, block_type: "text" });
  expect(place.textContent).toBe("first");
  const before = { ...renders };
  await fed(one, ...Array.from({ length: 500 }, () => delta("one", 1, "x")));
  expect(place.textContent).toBe(`first${"x".repeat(500)}`);
  expect(renders.other).toBe(before.other);
  expect(renders["one.0"]).toBe(before["one.0"]);
  expect(renders["one.1"]).toBe(1);
  expect(Number(renders.one) - Number(before.one)).toBe(1);
});

test("a hidden tab, which draws no frames, is told within a bound", async () => {
  vi.spyOn(globalThis, "requestAnimationFrame").mockReturnValue(1);
  const turn = fedClient(() => ({})).turn("t");
  const told = new Promise<number>((resolve) => {
    const began = performance.now();
    turn.subscribe(() => {
      if (turn.getSnapshot().turn.status === "streaming") resolve(performance.now() - began);
    });
  });
  turn.fold(start("t"));
  expect(turn.getSnapshot().turn.status).toBe("pending");
  expect(await told).toBeLessThan(5_000);
});

test("a message is shown at once, and removed if it is refused", async () => {
  const refusal = Promise.withResolvers<unknown>();
  let refuses = true;
  const client = fedClient((method) => {
    if (method === "GET") return { chat_id: "c", turns: [], previous: null };
    if (refuses) return refusal.promise;
    return { user_turn: stored("u", "user", "complete", null), assistant_turn: stored("a", "assistant", "streaming", "u"), stream_url: "", alternatives: [] };
  });
  let shown: ReturnType<typeof useChat> | null = null;
  const Chat = () => {
    shown = useChat(client, "c");
    return [...shown.messages.map(({ key, role, pending }) => <i key={key}>{`${role}${pending ? "?" : ""} `}</i>), shown.error?.code];
  };
  await act(async () => {
    root.render(<Chat />);
    await new Promise((resolve) => setTimeout(resolve));
  });
  const chat = () => (shown as unknown as ReturnType<typeof useChat>).chat;
  let sent: Promise<unknown> = Promise.resolve();
  await act(() => {
    sent = chat().send("Hello");
    return Promise.resolve();
  });
  expect(place.textContent).toBe("user? ");
  await act(async () => {
    const refused = expect(sent).rejects.toMatchObject({ code: "model_not_found" });
    refusal.resolve({ status: 404, error: { code: "model_not_found", message: "there is no such model" } });
    await refused;
  });
  expect(place.textContent).toBe("model_not_found");
  refuses = false;
  await act(() => {
    sent = chat().send("Hello");
    return Promise.resolve();
  });
  const keys = chat().getSnapshot().messages.map(({ key }) => key);
  await act(() => sent);
  expect(place.textContent).toBe("user assistant ");
  expect(chat().getSnapshot().messages[0]?.key).toBe(keys[0]);
  await expect(chat().send("More")).rejects.toMatchObject({ code: "turn_active" });
  await expect(chat().regenerate("a")).rejects.toMatchObject({ code: "turn_active" });
  expect(place.textContent).toBe("user assistant ");
  await fed(client.turn("a"), start("a"), cancelled("a"));
  expect(chat().getSnapshot().running).toBeNull();
});

test("an answer that grows does not render its chat", async () => {
  const client = fedClient(() => ({ chat_id: "c", turns: [stored("u", "user", "complete", null), stored("a", "assistant", "streaming", "u")], previous: null }));
  let renders = 0;
  const Chat = () => {
    renders += 1;
    return useChat(client, "c").messages.length;
  };
  await act(async () => {
    root.render(<Chat />);
    await new Promise((resolve) => setTimeout(resolve));
  });
  await act(() => new Promise((resolve) => setTimeout(resolve, 20)));
  expect(place.textContent).toBe("2");
  const before = renders;
  const turn = client.turn("a");
  await fed(turn, start("a"), delta("a", 0, "x"));
  await fed(turn, ...Array.from({ length: 100 }, () => delta("a", 0, "x")));
  expect(renders).toBe(before);
  await fed(turn, cancelled("a"));
  // The end, and then the record of the turn.
  expect(renders).toBe(before + 2);
});
