import type { ChatMessage } from "@turnstream/client/chat";
import { usePage, usePagePart } from "../data/context";
import { Icon } from "../parts/Icon";

/** ‹2/3›: the alternatives of a turn. */
export function Branches({ message: { siblings, turn } }: { message: ChatMessage }) {
  const page = usePage();
  const chat = usePagePart((snapshot) => snapshot.chat);
  const place = siblings.indexOf(turn?.id ?? "");
  const show = (turnId: string | undefined) => {
    if (turnId !== undefined) void page.attempt(() => chat.showBranch(turnId));
  };
  if (siblings.length < 2 || place < 0) return null;
  const [before, after] = [siblings[place - 1], siblings[place + 1]];
  return (
    <span className="branches" role="group" aria-label="Alternatives">
      <button type="button" className="icon" disabled={before === undefined} onClick={() => { show(before); }} aria-label="Alternative before">
        <Icon name="left" />
      </button>
      <span>{`${place + 1}/${siblings.length}`}</span>
      <button type="button" className="icon" disabled={after === undefined} onClick={() => { show(after); }} aria-label="Alternative after">
        <Icon name="right" />
      </button>
    </span>
  );
}
