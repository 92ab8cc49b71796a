// The client of the server that the page came from. The session's cookie goes with each request, and a header that
// pages of other origins cannot send.

import { createTurnstream } from "@turnstream/client";

export const API = new URL("api/", document.baseURI);
export const HEADERS: Readonly<Record<string, string>> = { "X-Turnstream-Page": "1" };

/** A page that stays open for days tries again for as long. */
export const client = createTurnstream({ baseUrl: API.href, headers: HEADERS, retry: { budget: Infinity } });

/** Return the address of the image or the document of a block. */
export function contentAddress(turnId: string, sequence: number): string {
  return new URL(`turns/${turnId}/blocks/${sequence}/content`, API).href;
}

interface RequestOptions {
  readonly method?: "GET" | "POST" | "PATCH" | "DELETE";
  readonly body?: unknown;
}

/** Return the JSON of an answer, or undefined without content. Throws a TurnstreamError. */
export function request<T>(path: string, { method = "GET", body }: RequestOptions = {}): Promise<T> {
  return client.ask<T>(method, `/${path}`, body);
}
