import type { Block, UserBlock } from "@turnstream/client";
import type { ChatMessage } from "@turnstream/client/chat";
import { memo } from "react";
import { usePagePart } from "../data/context";
import { Answer } from "./Answer";
import { BlockView } from "./BlockView";
import { Question } from "./Question";
import { SideBySide } from "./SideBySide";

interface TurnProps {
  readonly message: ChatMessage;
  /** True for the last turn of the branch. */
  readonly isLast: boolean;
}

export const Turn = memo(function Turn({ message, isLast }: TurnProps) {
  const { turn, pending } = message;
  const comparison = usePagePart((page) => page.comparison);
  if (pending !== null) return <UnsentQuestion blocks={pending} />;
  if (turn === null) return null;
  if (message.role === "user") return <Question message={message} record={turn} />;
  const isComparable = isLast && message.siblings.length > 1 && message.siblings.length <= 4;
  const isChosen = comparison?.questionId === turn.prev_turn_id ? comparison.isShown : turn.metadata.side_by_side === true;
  if (isComparable && isChosen) return <SideBySide message={message} record={turn} />;
  return <Answer message={message} record={turn} isComparable={isComparable} />;
});

function UnsentQuestion({ blocks }: { blocks: readonly UserBlock[] }) {
  return (
    <li className="turn user unsent" aria-busy="true">
      <div className="said">
        {blocks.map((block, sequence) => (
          <BlockView key={sequence} turnId="" block={unsentBlock(block, sequence)} isPlain />
        ))}
      </div>
      <span className="status">Sending…</span>
    </li>
  );
}

function unsentBlock(block: UserBlock, sequence: number): Block {
  const shared = { sequence, partial: false, open: false };
  if ("type" in block) return { ...shared, block_type: "text", text_content: block.text, content: null };
  const content = (block.content ?? null) as Block["content"];
  return { ...shared, block_type: block.block_type, text_content: block.text_content ?? null, content };
}
