import { memo, useEffect, useState } from "react";
import type { Block } from "@turnstream/client";
import { contentAddress } from "../data/api";
import { Markdown } from "../markdown/Markdown";
import { visibleText } from "../markdown/visibleText";

interface BlockViewProps {
  readonly turnId: string;
  readonly block: Block;
  /** Show a text as it was typed, not as Markdown. */
  readonly isPlain?: boolean;
  /** Seconds that a stored thought took, if they are known. */
  readonly seconds?: number | undefined;
}

export const BlockView = memo(function BlockView({ turnId, block, isPlain = false, seconds }: BlockViewProps) {
  const text = block.text_content ?? "";
  switch (block.block_type) {
    case "text":
      return isPlain ? <span>{visibleText(text)}</span> : <Markdown text={text} isOpen={block.open} />;
    case "thinking":
      return <Thinking text={text} isOpen={block.open} stored={seconds} />;
    case "image":
      return <Image turnId={turnId} block={block} />;
    case "document":
      return <Document turnId={turnId} block={block} />;
    default:
      return (
        <details className="thinking">
          <summary>{block.block_type.replace("_", " ")}</summary>
          <pre className="raw" tabIndex={0}>
            {visibleText(text === "" ? JSON.stringify(block.content, null, 2) : text)}
          </pre>
        </details>
      );
  }
});

function Thinking({ text, isOpen, stored }: { text: string; isOpen: boolean; stored: number | undefined }) {
  const watched = useDuration(isOpen);
  const seconds = stored ?? watched;
  if (text === "" && !isOpen) return null;
  const duration = seconds === null ? "" : ` (${seconds} s)`;
  return (
    <details className="thinking">
      <summary>
        {isOpen ? (
          <span className="status">
            <span className="dot" /> Thinking…
          </span>
        ) : (
          `Thought${duration}`
        )}
      </summary>
      <div>{visibleText(text)}</div>
    </details>
  );
}

/** Return the seconds that `isRunning` was true, or null if its beginning was not seen. */
function useDuration(isRunning: boolean): number | null {
  const [seconds, setSeconds] = useState<number | null>(null);
  useEffect(() => {
    if (!isRunning) return;
    const began = Date.now();
    return () => { setSeconds(Math.max(1, Math.round((Date.now() - began) / 1000))); };
  }, [isRunning]);
  return seconds;
}

function Image({ turnId, block }: { turnId: string; block: Block }) {
  const { url, data, media_type } = block.content ?? {};
  if (typeof url === "string" && !url.startsWith("data:")) return <Remote address={url} name="image" />;
  // An answer's image comes with its events; a stored one is read by its address.
  const source =
    typeof data === "string" && typeof media_type === "string" && /^image\/(png|jpeg|gif|webp)$/.test(media_type)
      ? `data:${media_type};base64,${data}`
      : contentAddress(turnId, block.sequence);
  return <img className="attached" src={source} alt="attached" loading="lazy" />;
}

function Document({ turnId, block }: { turnId: string; block: Block }) {
  const { url, title, media_type } = block.content ?? {};
  const name = typeof title === "string" ? title : typeof media_type === "string" ? media_type : "document";
  if (typeof url === "string") return <Remote address={url} name={name} />;
  return (
    <a className="file" href={contentAddress(turnId, block.sequence)} download>
      📄 {visibleText(name)}
    </a>
  );
}

/** A file on another server: it is read only if the reader asks for it. */
function Remote({ address, name }: { address: string; name: string }) {
  if (!/^https?:\/\//i.test(address)) return <span className="file">{visibleText(name)}</span>;
  return (
    <a className="file" href={address} title={address} target="_blank" rel="noopener noreferrer nofollow" referrerPolicy="no-referrer">
      🔗 {visibleText(name)}
    </a>
  );
}
