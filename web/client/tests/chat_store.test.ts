// The store of a chat: pages of its branch, and messages in the middle of it.

import { expect, test } from "vitest";

import type { PathTurn } from "../src/answers.js";
import { ChatStore } from "../src/chat.js";
import type { TurnEvent } from "../src/events.js";
import { createTurnstream } from "../src/turnstream.js";

function stored(id: string, role: string, prev: string | null): PathTurn {
  const none = { model: null, system: null, params: {}, metadata: {}, stop_reason: null, cost: null, error: null, asked_model: null };
  const counts = { input_tokens: null, output_tokens: null, cache_read_tokens: null, cache_write_tokens: null, reasoning_tokens: null };
  return {
    id, chat_id: "c", prev_turn_id: prev, role, status: "complete", ...none, ...counts, cost_estimated: false, unpriced: false, steps: [],
    attempts: [], approvals: [], fallbacks: null, created_at: "", completed_at: null, blocks: [], siblings: [id], events: [],
  };
}

const TURNS = ["u1", "a1", "u2", "a2"].map((id, place, ids) => stored(id, place % 2 ? "assistant" : "user", ids[place - 1] ?? null));

/** A store of a chat with two pages of two turns each. `posts`: the answers to POST requests. `turn`: a turn that is read. */
function storeOf(posts: (path: string) => unknown, turn?: PathTurn) {
  const asked: string[] = [];
  const client = createTurnstream({
    baseUrl: "http://server.test/api",
    fetch: async (url, init) => {
      const { pathname, search } = new URL(url as string);
      asked.push(`${init?.method ?? "GET"} ${pathname}${search}`);
      const pages = search.includes("before=u2") ? { turns: TURNS.slice(0, 2), previous: null } : { turns: TURNS.slice(2), previous: "u2" };
      const answer = init?.method === "POST" ? await posts(pathname) : pathname.startsWith("/api/turns/") ? turn : { chat_id: "c", ...pages };
      const { status } = answer as { status?: unknown };
      return new Response(JSON.stringify(answer), { status: typeof status === "number" ? status : 200, headers: { "Content-Type": "application/json" } });
    },
  });
  client.feed = (turn) => { turn.feed(true); };
  const store = new ChatStore(client, "c");
  return { client, store, asked, ids: () => store.getSnapshot().messages.map(({ turn, pending }) => turn?.id ?? (pending ? "?" : "")) };
}

test("turns that were read before stay when the branch is read again, and no data of files is read", async () => {
  const { store, asked, ids } = storeOf(() => ({}));
  await store.reload();
  expect([ids(), store.getSnapshot().has_previous]).toEqual([["u2", "a2"], true]);
  await store.readPrevious();
  await store.reload();
  expect([ids(), store.getSnapshot().has_previous]).toEqual([["u1", "a1", "u2", "a2"], false]);
  expect(asked.every((request) => request.includes("media=omit"))).toBe(true);
});

test("an edit hides what followed the old question, and a refused edit shows it again", async () => {
  const refusal = Promise.withResolvers<unknown>();
  const { store, ids } = storeOf(() => refusal.promise);
  await store.reload();
  await store.readPrevious();
  const edited = store.edit(stored("u2", "user", "a1"), "another question");
  expect(ids()).toEqual(["u1", "a1", "?"]);
  const refused = expect(edited).rejects.toMatchObject({ code: "model_not_found" });
  refusal.resolve({ status: 404, error: { code: "model_not_found", message: "there is no such model" } });
  await refused;
  expect(ids()).toEqual(["u1", "a1", "u2", "a2"]);
  expect(store.getSnapshot()).toMatchObject({ sending: false, error: { code: "model_not_found" } });
});

test("an answer and its alternatives are siblings", async () => {
  const answer = (id: string) => ({ ...stored(id, "assistant", "u3"), status: "streaming" });
  const { store } = storeOf(() => ({
    user_turn: stored("u3", "user", "a2"), assistant_turn: answer("x"), stream_url: "",
    alternatives: [{ assistant_turn: answer("y"), stream_url: "" }],
  }));
  await store.reload();
  await store.send("Hello", { alternatives: [{}, { model: "another/model" }] });
  expect(store.getSnapshot().messages.at(-1)).toMatchObject({ turn: { id: "x" }, siblings: ["x", "y"] });
});

test("what is stored of an answer is read once, also if it ends before the response to its question", async () => {
  const complete = { ...stored("x", "assistant", "u3"), input_tokens: 3, output_tokens: 5 };
  const { client, store, asked } = storeOf(() => {
    const turn = client.turn("x");
    turn.fold({ type: "turn_start", turn_id: "x", chat_id: "c", model: "m" } as TurnEvent);
    turn.fold({ type: "turn_complete", turn_id: "x", status: "complete", stop_reason: "end_turn" } as TurnEvent);
    return { user_turn: stored("u3", "user", "a2"), assistant_turn: { ...complete, status: "pending", output_tokens: null }, stream_url: "", alternatives: [] };
  }, complete);
  await store.reload();
  await store.send("Hello");
  await expect.poll(() => store.getSnapshot().messages.at(-1)?.turn).toMatchObject({ status: "complete", output_tokens: 5 });
  expect(store.getSnapshot().running).toBe(null);
  await store.reload();
  expect(asked.filter((request) => request.startsWith("GET /api/turns/x"))).toHaveLength(1);
});
