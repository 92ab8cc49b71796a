// A chat as a file: Markdown for people, JSON for programs.

import type { Chat, StoredBlock, StoredTurn } from "@turnstream/client";
import { client } from "../data/api";

export type ExportForm = "markdown" | "json";

/** Read the shown branch of a chat, and give it to the browser as a download. */
export async function exportChat(chat: Chat, form: ExportForm): Promise<void> {
  const path = await client.path(chat.id, { media: form === "json" ? "data" : "omit" });
  const text = form === "json" ? JSON.stringify({ chat, turns: path.turns }, null, 2) : markdownOf(chat, path.turns);
  const type = form === "json" ? "application/json" : "text/markdown";
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = `${fileName(chat.title)}.${form === "json" ? "json" : "md"}`;
  link.click();
  URL.revokeObjectURL(address);
}

/** Return a chat as Markdown. */
export function markdownOf(chat: Chat, turns: readonly StoredTurn[]): string {
  const parts = turns.map(({ role, model, blocks }) => {
    const who = role === "user" ? "You" : (model ?? "Assistant");
    return `## ${who}\n\n${blocks.map(markdownOfBlock).filter((text) => text !== "").join("\n\n")}`;
  });
  return `${[`# ${chat.title ?? "Chat"}`, ...parts].join("\n\n")}\n`;
}

function markdownOfBlock({ block_type, text_content, content }: StoredBlock): string {
  switch (block_type) {
    case "text":
      return text_content ?? "";
    case "thinking":
    case "provider":
      return "";
    case "tool_use":
    case "tool_result":
      return `\`\`\`\`json\n${JSON.stringify(content, null, 2)}\n\`\`\`\``;
    case "image":
    case "document":
    case "reference":
    case "partial_reference":
      return `*(${block_type.replace("_", " ")})*`;
  }
}

function fileName(title: string | null): string {
  return (title ?? "").replace(/[^\p{L}\p{N} _-]+/gu, "").trim().slice(0, 60) || "chat";
}
