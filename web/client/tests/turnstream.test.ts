// The API: requests, their repetition, and errors with what people can do.

import { describe, expect, test } from "vitest";

import { createTurnstream, type Turnstream, type TurnstreamOptions } from "../src/turnstream.js";
import { type Reply, ScriptedServer } from "./scripted_server.js";

const JSON_TYPE = { "Content-Type": "application/json" };
const json = (value: unknown, status = 200): Reply => ({ status, headers: JSON_TYPE, body: JSON.stringify(value) });
const refused = (status: number, code: string) => json({ error: { code, message: "no" } }, status);
const retry = { firstDelay: 1, maxDelay: 2 };

async function against<T>(replies: readonly Reply[], run: (client: Turnstream) => Promise<T>, options: TurnstreamOptions = {}) {
  await using server = new ScriptedServer(replies);
  const client = createTurnstream({ baseUrl: `${await server.start()}/api/`, retry, ...options });
  let error: unknown = null;
  const answer = await run(client).catch((failure: unknown) => {
    error = failure;
    return null;
  });
  return { answer, error, asked: server.asked };
}

test("each request has its path, its body and the headers", async () => {
  let token = 0;
  const headers = () => Promise.resolve({ Authorization: `Bearer ${(token += 1)}` });
  const started = json({ user_turn: null, assistant_turn: { id: "a" }, stream_url: "" }, 201);
  const { asked } = await against(
    [json({}), json({}), json({}), started, started, started, started, json({}), json({}), json({}), { status: 204 }, json({}), json({}), json({}), json({})],
    async (client) => {
      const turn = { id: "t/1", chat_id: "c", prev_turn_id: null };
      await client.createChat({ title: "T" });
      await client.chats({ limit: 2, before: "b&c", search: "the sky" });
      await client.path("c", { turn_id: "t", limit: 5 });
      await client.send("c", "Hello", { model: "m", prev_turn_id: "t", key: "own" });
      await client.edit(turn, [{ type: "text", text: "Hi" }]);
      await client.regenerate("t/1", { model: "n" });
      await client.sendToolResults(turn, [{ tool_use_id: "u", content: "42" }]);
      await client.showBranch("c", "t");
      await client.approve("t", "p", { approved: true });
      await client.stop("t");
      await client.deleteChat("c");
      await client.readTurn("t");
      await client.siblings("t", { limit: 3 });
      await client.models();
      await client.statistics({ first_day: "2026-01-31" });
    },
    { headers },
  );
  expect(asked.map(({ method, url, body }) => [method, url, body && (JSON.parse(body) as unknown)])).toEqual([
    ["POST", "/api/chats", { title: "T" }],
    ["GET", "/api/chats?limit=2&before=b%26c&search=the+sky", ""],
    ["GET", "/api/chats/c/path?turn_id=t&limit=5", ""],
    ["POST", "/api/chats/c/turns", { model: "m", prev_turn_id: "t", turn_blocks: "Hello" }],
    ["POST", "/api/chats/c/turns", { prev_turn_id: null, turn_blocks: [{ type: "text", text: "Hi" }] }],
    ["POST", "/api/turns/t%2F1/regenerate", { model: "n" }],
    ["POST", "/api/chats/c/turns", {
      prev_turn_id: "t/1", turn_blocks: [{ block_type: "tool_result", content: { tool_use_id: "u", content: "42" } }],
    }],
    ["PATCH", "/api/chats/c", { active_turn_id: "t" }],
    ["POST", "/api/turns/t/approvals/p", { approved: true }],
    ["POST", "/api/turns/t/interrupt", ""],
    ["DELETE", "/api/chats/c", ""],
    ["GET", "/api/turns/t", ""],
    ["GET", "/api/turns/t/siblings?limit=3", ""],
    ["GET", "/api/models", ""],
    ["GET", "/api/stats?first_day=2026-01-31", ""],
  ]);
  expect(asked.map(({ headers: sent }) => sent.authorization)).toEqual(asked.map((_, place) => `Bearer ${place + 1}`));
  const keys = asked.map(({ headers: sent }) => sent["idempotency-key"]);
  expect(keys[3]).toBe("own");
  expect(new Set(keys.filter((key) => key !== undefined)).size).toBe(4);
});

describe("repetition", () => {
  test("a turn's start is repeated with its key, whatever the server answers before", async () => {
    const replies = [refused(500, "internal_error"), { status: 502 }, { end: "cut" as const, headers: JSON_TYPE, body: "{" }, json({ stream_url: "" }, 201)];
    const { answer, asked } = await against(replies, (client) => client.send("c", "Hello"));
    expect(answer).toEqual({ stream_url: "" });
    expect(new Set(asked.map(({ headers }) => headers["idempotency-key"])).size).toBe(1);
    expect(asked).toHaveLength(4);
  });

  test("a chat is not created again unless the server certainly created none", async () => {
    const lost = await against([refused(500, "internal_error"), json({})], (client) => client.createChat());
    expect([lost.asked.length, (lost.error as { status: number }).status]).toEqual([1, 500]);
    const full = await against([{ ...refused(503, "unavailable"), headers: { ...JSON_TYPE, "Retry-After": "0" } }, json({ id: "c" })], (client) => client.createChat());
    expect([full.asked.length, full.answer]).toEqual([2, { id: "c" }]);
  });

  test("the deadline ends the attempts, with the last failure", async () => {
    const { error } = await against(Array<Reply>(200).fill(refused(503, "unavailable")), (client) => client.models(), { retry: { ...retry, request: 50 } });
    expect(error).toMatchObject({ status: 503, code: "unavailable", retryable: true });
  });

  test("an abort ends a request and its pauses", async () => {
    const stop = new AbortController();
    const { error } = await against([{ ...refused(503, "unavailable"), headers: { ...JSON_TYPE, "Retry-After": "20" } }], (client) => {
      setTimeout(() => { stop.abort(); }, 50);
      return client.chats({ signal: stop.signal });
    });
    expect(error).toMatchObject({ code: "aborted", name: "TurnstreamError" });
  });
});

describe("errors", () => {
  test.each([
    [400, "invalid_request", false, "Correct the request."],
    [401, "unauthorized", false, "Sign in, or send a valid key."],
    [404, "not_found", false, "Reload: it does not exist any more."],
    [409, "turn_active", false, "Reload the chat, then decide again."],
    [418, "strange", false, "Report this to the operator."],
  ])("%i %s", async (status, code, retryable, nextStep) => {
    const { error, asked } = await against([refused(status, code)], (client) => client.models());
    expect(error).toMatchObject({ status, code, message: "no", retryable, nextStep, name: "TurnstreamError" });
    expect(asked).toHaveLength(1);
  });

  test("an answer that is not the server's is reported", async () => {
    const page = await against([{ headers: { "Content-Type": "text/html" }, body: "<h1>" }], (client) => client.models());
    expect(page.error).toMatchObject({ code: "unexpected_answer", retryable: false });
    const refusal = await against([{ status: 403, body: "<h1>" }], (client) => client.models());
    expect(refusal.error).toMatchObject({ code: "unexpected_answer", status: 403 });
  });

  test("an empty id asks nothing", async () => {
    const { error, asked } = await against([json({})], async (client) => client.readTurn(""));
    expect([(error as { code: string }).code, asked.length]).toEqual(["not_found", 0]);
  });
});

test("a turn has one store, and stores that are not used are forgotten", () => {
  const client = createTurnstream({ baseUrl: "http://127.0.0.1:9/api" });
  const first = client.turn("t0");
  expect(client.turn("t0")).toBe(first);
  for (let place = 1; place <= 300; place += 1) client.turn(`t${place}`);
  expect(client.turn("t300")).toBe(client.turn("t300"));
  expect(client.turn("t0")).not.toBe(first);
});
