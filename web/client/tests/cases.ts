// The conformance cases of tests/conformance/cases.yaml, which every client has to pass.

import { readFileSync } from "node:fs";

import { parse } from "yaml";

export interface CaseConnection {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly end?: "close" | "cut" | "silent";
  readonly asked_with?: string | null;
}

export interface CaseBlock {
  readonly sequence: number;
  readonly block_type: string;
  readonly text_content?: string;
  readonly content?: Readonly<Record<string, unknown>>;
  readonly partial?: boolean;
}

export interface Outcome {
  readonly status?: string | null;
  readonly raises?: number | "malformed";
  readonly error?: { readonly code: string };
  readonly blocks: readonly CaseBlock[];
  readonly lost?: readonly number[];
  readonly usage?: Readonly<Record<string, number>>;
  readonly last_id: string | null;
  readonly connections: number;
}

export interface Case {
  readonly name: string;
  readonly after?: string;
  readonly connections: readonly CaseConnection[];
  readonly outcome: Outcome;
}

const FILE = new URL("../../../tests/conformance/cases.yaml", import.meta.url);

/** Return the cases. Throws an Error if one has a key that this runner does not know. */
export function readCases(): Case[] {
  const { cases } = parse(readFileSync(FILE, "utf-8")) as { cases: Case[] };
  for (const one of cases) {
    check(one, ["name", "after", "connections", "outcome"]);
    for (const connection of one.connections) check(connection, ["status", "headers", "body", "end", "asked_with"]);
    const outcome = ["status", "raises", "error", "blocks", "lost", "usage", "last_id", "connections"];
    check(one.outcome, outcome);
    for (const block of one.outcome.blocks) {
      check(block, ["sequence", "block_type", "text_content", "content", "partial"]);
    }
  }
  return cases;
}

function check(value: object, known: readonly string[]): void {
  const unknown = Object.keys(value).filter((key) => !known.includes(key));
  if (unknown.length) throw new Error(`cases.yaml has unknown keys: ${unknown.join(", ")}`);
}
