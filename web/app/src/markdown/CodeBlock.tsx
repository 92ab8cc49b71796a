import { isValidElement, useEffect, useMemo, useState, type ReactNode } from "react";
import { CopyButton } from "../parts/CopyButton";
import type { tokensOf } from "./highlighter";

/** Show a block of code with its language, its colours, and a button that copies it. */
export function CodeBlock({ children }: { children?: ReactNode }) {
  const { text, language } = codeOf(children);
  return (
    <figure className="code">
      <figcaption>
        <span>{language}</span>
        <CopyButton text={text} label="Copy code" />
      </figcaption>
      <pre tabIndex={0}>
        <code>{language === "" ? text : <Coloured text={text} language={language} />}</code>
      </pre>
    </figure>
  );
}

let loaded: typeof tokensOf | null = null;

function Coloured({ text, language }: { text: string; language: string }) {
  const [tokenize, setTokenize] = useState(() => loaded);
  useEffect(() => {
    if (loaded !== null) return;
    let isShown = true;
    import("./highlighter").then(
      (module) => {
        loaded = module.tokensOf;
        if (isShown) setTokenize(() => module.tokensOf);
      },
      () => undefined, // Without the chunk, as after an update of the server, code stays plain.
    );
    return () => { isShown = false; };
  }, []);
  const lines = useMemo(() => tokenize?.(text, language) ?? null, [tokenize, text, language]);
  if (lines === null) return text;
  return lines.map((line, place) => (
    <span key={place}>
      {line.map(({ text: part, kind }, number) => (
        <span key={number} className={kind}>
          {part}
        </span>
      ))}
      {place < lines.length - 1 && "\n"}
    </span>
  ));
}

function codeOf(children: ReactNode): { text: string; language: string } {
  if (!isValidElement<{ className?: string; children?: ReactNode }>(children)) return { text: "", language: "" };
  const { className = "", children: text } = children.props;
  const language = /language-(\S+)/.exec(className)?.[1] ?? "";
  return { text: typeof text === "string" ? text.replace(/\n$/, "") : "", language };
}
