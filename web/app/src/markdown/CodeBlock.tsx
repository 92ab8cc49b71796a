import { isValidElement, type ReactNode } from "react";
import { CopyButton } from "../parts/CopyButton";

/** Show a block of code with its language and a button that copies it. */
export function CodeBlock({ children }: { children?: ReactNode }) {
  const { text, language } = codeOf(children);
  return (
    <figure className="code">
      <figcaption>
        <span>{language}</span>
        <CopyButton text={text} label="Copy code" />
      </figcaption>
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </figure>
  );
}

function codeOf(children: ReactNode): { text: string; language: string } {
  if (!isValidElement<{ className?: string; children?: ReactNode }>(children)) return { text: "", language: "" };
  const { className = "", children: text } = children.props;
  const language = /language-(\S+)/.exec(className)?.[1] ?? "";
  return { text: typeof text === "string" ? text.replace(/\n$/, "") : "", language };
}
