import type { useChat } from "@ai-sdk/react";
import { getToolName, isToolUIPart, type DynamicToolUIPart, type ToolUIPart, type UIMessage } from "ai";
import type { KeyboardEvent } from "react";

type Answer = ReturnType<typeof useChat>["addToolApprovalResponse"];

export function Message({ message, answer }: { message: UIMessage; answer: Answer }) {
  return (
    <article className={message.role}>
      {message.parts.map((part, place) => {
        if (part.type === "text") return <p key={place}>{part.text}</p>;
        if (part.type === "reasoning") return <p key={place} className="reasoning">{part.text}</p>;
        return isToolUIPart(part) ? <Tool key={place} part={part} answer={answer} /> : null;
      })}
    </article>
  );
}

function Tool({ part, answer }: { part: ToolUIPart | DynamicToolUIPart; answer: Answer }) {
  return (
    <div className="tool">
      <code>
        {getToolName(part)}({JSON.stringify(part.input)})
      </code>
      {part.state === "approval-requested" && <Approval id={part.approval.id} answer={answer} />}
      {part.state === "output-available" && <pre>{asText(part.output)}</pre>}
      {part.state === "output-error" && <p className="error">{part.errorText}</p>}
      {part.state === "output-denied" && <p>Denied</p>}
    </div>
  );
}

function Approval({ id, answer }: { id: string; answer: Answer }) {
  // A person who types a question must not approve a call with the same key.
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter") event.preventDefault();
  };
  return (
    <div className="approval" role="group" aria-label="Approval" onKeyDown={onKeyDown}>
      <span>May this tool run?</span>
      <button type="button" onClick={() => void answer({ id, approved: true })}>
        Approve
      </button>
      <button type="button" onClick={() => void answer({ id, approved: false })}>
        Deny
      </button>
    </div>
  );
}

const asText = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
