// Requests of the page. The session's cookie goes with each, and a header that pages of other origins cannot send.

import { lostConnection, refusal } from "@turnstream/client";

export const API = new URL("api/", document.baseURI);
export const HEADERS: Readonly<Record<string, string>> = { "X-Turnstream-Page": "1" };
const DEADLINE = 30_000;

interface RequestOptions {
  readonly method?: "GET" | "POST" | "PATCH" | "DELETE";
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Return the JSON of an answer, or undefined without content. Throws a TurnstreamError. */
export async function request<T>(path: string, { method = "GET", body, headers }: RequestOptions = {}): Promise<T> {
  const sent: Record<string, string> = { ...HEADERS, ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(new URL(path, API), {
      method,
      headers: sent,
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(DEADLINE),
      cache: "no-store",
    });
  } catch (error) {
    throw lostConnection(error);
  }
  if (!response.ok) throw await refusal(response);
  if (response.status === 204) return undefined as T;
  try {
    return (await response.json()) as T;
  } catch (error) {
    throw lostConnection(error);
  }
}
