import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } from "ai";
import { useEffect, useState } from "react";
import { keepMessages } from "./kept.js";

const api = "http://localhost:8089/api/ai-sdk/v7/chat"; // 1
const transport = new DefaultChatTransport({ api }); // 2
const models = { "a story": "sim/story:events=400,pace=0.05", "tools that ask": "sim/tools" };

export function Chat({ id, messages: kept }) {
  const chat = useChat({
    id,
    messages: kept,
    transport,
    resume: true, // 3
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses, // 4
  });
  const stop = () => fetch(`${api}/${encodeURIComponent(id)}/stop`, { method: "POST" }); // 5
  const [text, setText] = useState("");
  const [model, setModel] = useState("a story");
  const isBusy = chat.status === "submitted" || chat.status === "streaming";

  useEffect(() => keepMessages(id, chat.messages), [id, chat.messages]);

  const send = (event) => {
    event.preventDefault();
    chat.sendMessage({ text }, { body: { model: models[model] } });
    setText("");
  };

  return (
    <>
      {chat.messages.map((message) => (
        <section key={message.id} data-role={message.role}>
          <h2>{message.role}</h2>
          {message.parts.map((part, place) => (
            <Part key={place} part={part} answer={chat.addToolApprovalResponse} />
          ))}
        </section>
      ))}
      {chat.error && <p role="alert">{chat.error.message}</p>}
      <form onSubmit={send}>
        <select value={model} onChange={(event) => setModel(event.target.value)}>
          {Object.keys(models).map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <input value={text} onChange={(event) => setText(event.target.value)} placeholder="Ask something" required />
        <button disabled={isBusy}>Send</button>
        <button type="button" onClick={stop} disabled={!isBusy}>
          Stop
        </button>
        <output>{chat.status}</output>
      </form>
    </>
  );
}

function Part({ part, answer }) {
  if (part.type === "text") return <p>{part.text}</p>;
  if (part.type === "reasoning") return <p><em>{part.text}</em></p>;
  if (!part.type.startsWith("tool-")) return null;
  const call = `${part.type.slice(5)}(${JSON.stringify(part.input ?? {})})`;
  if (part.state === "approval-requested")
    return (
      <p>
        {call} <button onClick={() => answer({ id: part.approval.id, approved: true })}>Approve</button>{" "}
        <button onClick={() => answer({ id: part.approval.id, approved: false })}>Deny</button>
      </p>
    );
  return <p>{call}: {part.state}{part.output !== undefined && ` ${JSON.stringify(part.output)}`}</p>;
}
