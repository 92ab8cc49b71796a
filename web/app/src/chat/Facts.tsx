import type { StoredTurn } from "@turnstream/client";

/** The model of an answer, its tokens and its cost. */
export function Facts({ record }: { record: StoredTurn }) {
  const facts = [record.model ?? "", tokens(record), cost(record)].filter((fact) => fact !== "");
  return <span className="facts">{facts.join(" · ")}</span>;
}

function tokens({ input_tokens, output_tokens, cost_estimated }: StoredTurn): string {
  if (typeof input_tokens !== "number" || typeof output_tokens !== "number") return "";
  return `${cost_estimated ? "≈ " : ""}${input_tokens.toLocaleString()} → ${output_tokens.toLocaleString()} tokens`;
}

function cost({ cost, unpriced, cost_estimated }: StoredTurn): string {
  if (unpriced) return "price not known";
  if (cost === null) return "";
  const dollars = Number(cost);
  return `${cost_estimated ? "≈ " : ""}$${dollars === 0 ? "0" : dollars.toFixed(dollars < 0.01 ? 6 : 4)}`;
}
