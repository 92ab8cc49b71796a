import type { ChatMessage } from "@turnstream/client/chat";
import { memo, useEffect, useRef, useState } from "react";
import { Turn } from "./Turn";

/** Turns that enter and leave the page together. It divides the turns that are read at once. */
export const CHUNK = 10;
/** Distance from the view, above and below, within which turns are in the page. */
const NEAR = "1500px 0px";

interface ChunkProps {
  readonly messages: readonly ChatMessage[];
  /** True for the end of the conversation, which stays in the page because it grows. */
  readonly isTail: boolean;
  readonly isLast: boolean;
}

/** Turns that follow each other. Far from the view, a space of the same height takes their place. */
export const Chunk = memo(function Chunk({ messages, isTail, isLast }: ChunkProps) {
  const place = useRef<HTMLDivElement>(null);
  /** Height of the turns that are not in the page, or null while they are. */
  const [height, setHeight] = useState<number | null>(null);
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const root = element.closest(".turns");
    const watched = new IntersectionObserver(
      (entries) => {
        const entry = entries.at(-1);
        if (entry === undefined) return;
        const isNeeded = entry.isIntersecting || element.contains(document.activeElement);
        setHeight((known) => (isNeeded ? null : (known ?? entry.boundingClientRect.height)));
      },
      { root, rootMargin: NEAR },
    );
    watched.observe(element);
    return () => { watched.disconnect(); };
  }, []);
  const isAbsent = height !== null && !isTail;
  return (
    <div ref={place} className="chunk" style={isAbsent ? { height } : undefined}>
      {!isAbsent && (
        <ol>
          {messages.map((message, index) => (
            <Turn key={message.key} message={message} isLast={isLast && index === messages.length - 1} />
          ))}
        </ol>
      )}
    </div>
  );
}, isSame);

function isSame(before: ChunkProps, after: ChunkProps): boolean {
  return (
    before.isTail === after.isTail &&
    before.isLast === after.isLast &&
    before.messages.length === after.messages.length &&
    before.messages.every((message, index) => message === after.messages[index])
  );
}
