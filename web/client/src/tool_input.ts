// A tool call's arguments: JSON text that a model wrote, parsed once it is complete.

import type { Content } from "./fold.js";

/** Levels that JSON values may nest. The server refuses deeper ones. */
const DEEPEST = 100;

/** Return the content of a tool call, with its `input` as far as `input_json` can be read. */
export function finishToolUse(content: Content, inputJson: string): Content {
  const given = content.input;
  const finished = {
    tool_use_id: "",
    tool_name: "",
    ...content,
    input: isObject(given) ? given : {},
    input_json: inputJson,
  };
  if (!inputJson.trim()) return finished;
  const freeText = content.free_text;
  if (typeof freeText === "string") return { ...finished, input: { [freeText]: inputJson } };
  let value: unknown;
  try {
    value = JSON.parse(inputJson);
  } catch (error) {
    return { ...finished, input: null, input_error: `not valid JSON: ${(error as Error).message}` };
  }
  if (!isObject(value)) return { ...finished, input: null, input_error: "the arguments are not a JSON object" };
  if (nestsDeeper(value, DEEPEST)) {
    return { ...finished, input: null, input_error: `JSON nested deeper than ${DEEPEST} levels` };
  }
  return { ...finished, input: value };
}

function isObject(value: unknown): value is Content {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function nestsDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => nestsDeeper(inner, levels - 1));
}
