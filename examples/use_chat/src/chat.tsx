import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } from "ai";
import { useEffect, useRef, useState, type FormEvent } from "react";
import { Message } from "./message";
import { onSaved, saveChat, savedChat } from "./saved";

const api = "/api/ai-sdk/v7/chat";
const models = [
  "sim/demo",
  "sim/tools",
  "sim/thinking",
  "sim/story:events=2000,pace=0.01",
  "anthropic/claude-sonnet-5-5",
  "openai/gpt-5",
];
const transport = new DefaultChatTransport({ api });

export function Chat({ id }: { id: string }) {
  const [saved] = useState(() => savedChat(id).messages);
  const [model, setModel] = useState(models[0]!);
  const [text, setText] = useState("");
  const [stopError, setStopError] = useState("");
  const { messages, status, error, sendMessage, setMessages, resumeStream, addToolApprovalResponse } = useChat({
    id,
    transport,
    messages: saved,
    resume: true, // after a reload the answer goes on
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  const isBusy = status === "submitted" || status === "streaming";
  const count = messages.length;
  const savedCount = useRef(saved.length);

  // A question is saved before its answer ends: a reload needs it. A replay of known messages saves nothing:
  // tabs would start each other's replays without end.
  useEffect(() => {
    if (count === 0 || (isBusy && count === savedCount.current)) return;
    savedCount.current = count;
    saveChat(id, { messages, isEnded: !isBusy });
  }, [id, count, isBusy]);

  // Another tab has asked, or has the whole answer.
  useEffect(() => {
    if (isBusy) return;
    return onSaved(id, (chat) => {
      setMessages(chat.messages);
      if (!chat.isEnded && chat.messages.at(-1)?.role === "assistant") void resumeStream();
    });
  }, [id, isBusy, setMessages, resumeStream]);

  function ask(event: FormEvent) {
    event.preventDefault();
    if (isBusy || text.trim() === "") return;
    setStopError("");
    setText("");
    void sendMessage({ text }, { body: { model } });
  }

  // `stop()` of useChat only closes the connection. The turn would go on.
  async function stop() {
    try {
      const answer = await fetch(`${api}/${encodeURIComponent(id)}/stop`, { method: "POST" });
      if (!answer.ok) setStopError(`Stop failed: ${answer.status}`);
    } catch (failure) {
      setStopError(`Stop failed: ${String(failure)}`);
    }
  }

  return (
    <main>
      <section aria-live="polite">
        {messages.map((message) => (
          <Message key={message.id} message={message} answer={addToolApprovalResponse} />
        ))}
      </section>
      <p className="error" role="alert">
        {error ? messageOf(error) : stopError}
      </p>
      <form onSubmit={ask}>
        <select aria-label="Model" value={model} onChange={(event) => setModel(event.target.value)}>
          {models.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <input aria-label="Question" value={text} onChange={(event) => setText(event.target.value)} />
        <button disabled={isBusy}>Send</button>
        <button type="button" disabled={!isBusy} onClick={stop}>
          Stop
        </button>
        <output>{status}</output>
      </form>
    </main>
  );
}

/** The server's own message, if it refused the request with one. */
function messageOf({ message }: Error): string {
  try {
    return (JSON.parse(message) as { error: { message: string } }).error.message;
  } catch {
    return message; // the stream's errors are plain text
  }
}
