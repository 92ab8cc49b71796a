// Requests that are answered by JSON. They are retried if that is safe.

import { lostConnection, refusal, TurnstreamError } from "./errors.js";
import { delayOf, type Transport } from "./following.js";

export interface JsonRequest {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  readonly path: string;
  readonly body?: unknown;
  /** Makes a POST safe to repeat: the server starts nothing a second time. */
  readonly key?: string | undefined;
  /** True if a POST without a key is safe to repeat. */
  readonly repeatable?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Statuses after which the request certainly had no effect. */
const WITHOUT_EFFECT = new Set([425, 429, 503]);

/** Return a path with its parts quoted. Throws a TurnstreamError if one is empty: the path would be another one. */
export function path(strings: TemplateStringsArray, ...parts: readonly string[]): string {
  return String.raw(
    { raw: strings },
    ...parts.map((part) => {
      if (part) return encodeURIComponent(part);
      throw new TurnstreamError("the id is empty", { code: "not_found" });
    }),
  );
}

/** Return a query of the values that are given. */
export function query(values: Readonly<Record<string, string | number | null | undefined>>): string {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString()}` : "";
}

/** Send a request and return its answer. Throws a TurnstreamError. An abort throws one with the code `aborted`. */
export async function ask<Answer>(root: string, transport: Transport, request: JsonRequest): Promise<Answer> {
  const { retry } = transport;
  const isRepeatable = request.method !== "POST" || request.key !== undefined || request.repeatable === true;
  const deadline = AbortSignal.timeout(retry.request);
  const signal = request.signal ? AbortSignal.any([request.signal, deadline]) : deadline;
  const end = Date.now() + retry.request;
  let failure: TurnstreamError | null = null;
  for (let attempt = 0; ; attempt += 1) {
    try {
      const answer = await send(root, transport, request, signal);
      if (answer.ok) return (answer.status === 204 ? undefined : await json(answer)) as Answer;
      failure = await refusal(answer);
      if (!failure.retryable || !(isRepeatable || WITHOUT_EFFECT.has(answer.status))) throw failure;
    } catch (error) {
      if (request.signal?.aborted) throw new TurnstreamError("the request was aborted", { code: "aborted", cause: error });
      if (error instanceof TurnstreamError) throw error;
      if (deadline.aborted && failure) throw failure;
      failure = lostConnection(error);
      if (!isRepeatable || deadline.aborted) throw failure;
    }
    const delay = delayOf(retry, retry.firstDelay, attempt, failure.retryAfter);
    if (Date.now() + delay > end) throw failure;
    await pause(delay, signal);
  }
}

async function send(root: string, transport: Transport, request: JsonRequest, signal: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { ...(await transport.headers()), Accept: "application/json" };
  if (request.body !== undefined) headers["Content-Type"] = "application/json";
  if (request.key !== undefined) headers["Idempotency-Key"] = request.key;
  return transport.fetch(root + request.path, {
    method: request.method,
    headers,
    body: request.body === undefined ? null : JSON.stringify(request.body),
    signal,
  });
}

async function json(answer: Response): Promise<unknown> {
  try {
    return await answer.json();
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    const message = "the server's answer is not JSON";
    throw new TurnstreamError(message, { code: "unexpected_answer", status: answer.status, cause });
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
  });
}

/** Return a new key. `crypto.randomUUID` does not exist on pages without TLS. */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
