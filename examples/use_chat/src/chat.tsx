import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses, type UIMessage } from "ai";
import { useCallback, useEffect, useRef, useState, type FormEvent } from "react";
import { Message } from "./message";
import { api, loadMessages, stopAnswer } from "./server";

const models = [
  "sim/demo",
  "sim/tools",
  "sim/thinking",
  "sim/story:events=2000,pace=0.01",
  "anthropic/claude-sonnet-5-5",
  "openai/gpt-5",
];
const transport = new DefaultChatTransport({ api });

/** A chat, as soon as its messages are loaded. */
export function Chat({ id }: { id: string }) {
  const [messages, setMessages] = useState<UIMessage[]>();
  const [problem, setProblem] = useState("");
  useEffect(() => {
    loadMessages(id).then(setMessages, (failure: unknown) => setProblem(String(failure)));
  }, [id]);
  if (messages === undefined) return <p role="alert">{problem}</p>;
  return <LoadedChat id={id} loaded={messages} />;
}

function LoadedChat({ id, loaded }: { id: string; loaded: UIMessage[] }) {
  const [model, setModel] = useState(models[0]!);
  const [text, setText] = useState("");
  const [problem, setProblem] = useState("");
  const { messages, status, error, sendMessage, setMessages, resumeStream, addToolApprovalResponse } = useChat({
    id,
    transport,
    messages: loaded,
    resume: true, // after a reload the answer continues
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  const isBusy = status === "submitted" || status === "streaming";
  const hasAsked = useRef(false);

  const catchUp = useCallback(async () => {
    try {
      setMessages(await loadMessages(id));
      await resumeStream();
    } catch (failure) {
      setProblem(String(failure));
    }
  }, [id, setMessages, resumeStream]);

  // This tab has asked, and the server has stored the question: other tabs load it and follow the answer. A tab
  // that only follows tells nothing: tabs would start each other's replays without end.
  useEffect(() => {
    if (status !== "streaming" || !hasAsked.current) return;
    hasAsked.current = false;
    const others = new BroadcastChannel(`chat ${id}`);
    others.postMessage("asked");
    others.close();
  }, [id, status]);

  // The connection was lost, or the server is restarting: the answer continues there. The header names the message
  // that this page has in part.
  const shown = messages.at(-1);
  const inPart = shown?.role === "assistant" ? shown.id : "";
  useEffect(() => {
    if (status !== "error" || !(error instanceof TypeError)) return;
    const headers = { "x-message-id": inPart };
    const timer = setTimeout(() => void resumeStream({ headers }), 1000);
    return () => clearTimeout(timer);
  }, [status, error, inPart, resumeStream]);

  useEffect(() => {
    if (isBusy) return;
    const others = new BroadcastChannel(`chat ${id}`);
    others.onmessage = () => void catchUp();
    return () => others.close();
  }, [id, isBusy, catchUp]);

  const answer: typeof addToolApprovalResponse = (response) => {
    hasAsked.current = true;
    return addToolApprovalResponse(response);
  };

  async function stop() {
    try {
      await stopAnswer(id);
    } catch (failure) {
      setProblem(String(failure));
    }
  }

  function ask(event: FormEvent) {
    event.preventDefault();
    if (isBusy || text.trim() === "") return;
    setProblem("");
    setText("");
    hasAsked.current = true;
    void sendMessage({ text }, { body: { model } });
  }

  return (
    <main>
      <section aria-live="polite">
        {messages.map((message) => (
          <Message key={message.id} message={message} answer={answer} />
        ))}
      </section>
      <p className="error" role="alert">
        {error ? messageOf(error) : problem}
      </p>
      <form onSubmit={ask}>
        <select aria-label="Model" value={model} onChange={(event) => setModel(event.target.value)}>
          {models.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <input aria-label="Question" value={text} onChange={(event) => setText(event.target.value)} />
        <button disabled={isBusy}>Send</button>
        <button type="button" disabled={!isBusy} onClick={() => void stop()}>
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
