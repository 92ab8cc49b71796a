import type { UIMessage } from "ai";

export const api = "/api/ai-sdk/v7/chat";
const addressOf = (id: string) => `${api}/${encodeURIComponent(id)}`;

/** The messages of a chat, without an answer that is still being written: `resume` brings that one. */
export async function loadMessages(id: string): Promise<UIMessage[]> {
  const answer = await fetch(`${addressOf(id)}/messages`);
  if (!answer.ok) throw new Error(`The chat cannot be loaded: ${answer.status}`);
  return (await answer.json()) as UIMessage[];
}

/** Stops the answer. `stop()` of useChat only closes the connection, and the answer would continue. */
export async function stopAnswer(id: string) {
  const answer = await fetch(`${addressOf(id)}/stop`, { method: "POST" });
  if (!answer.ok) throw new Error(`Stop failed: ${answer.status}`);
}
