import type { ChatMessage } from "@turnstream/client/chat";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { isPinned, titleOf } from "../data/chats";
import { useChatPart, useChatsPart, usePage, usePagePart } from "../data/context";
import { Icon } from "../parts/Icon";
import { ChatActions } from "./ChatActions";
import { Composer } from "./Composer";
import { Chunk, CHUNK } from "./Chunk";

export function ChatView({ onMenu }: { onMenu: () => void }) {
  const chat = useChatsPart(({ shown }) => shown);
  // A chat that is opened gets a view of its own. A new chat keeps its view when its first question is sent.
  const visit = usePagePart((page) => page.visit);
  const isGone = useChatPart(({ status }) => status === "gone");
  return (
    <main className="chat">
      <header>
        <button type="button" className="icon only-narrow" onClick={onMenu} aria-label="Show the chats" title="Show the chats">
          <Icon name="menu" />
        </button>
        <h1>{chat !== null ? titleOf(chat) : isGone ? "No such chat" : "New chat"}</h1>
        {chat !== null && <ChatActions chat={chat} isPinned={isPinned(chat)} />}
      </header>
      <Turns key={`turns ${visit}`} />
      {!isGone && <Composer key={`composer ${visit}`} />}
    </main>
  );
}

/** Pixels from the end within which the view follows the answer. */
const NEAR = 48;
/** Pixels from the beginning within which earlier turns are read. */
const NEAR_BEGINNING = 1000;

function Turns() {
  const page = usePage();
  const chat = usePagePart((snapshot) => snapshot.chat);
  const messages = useChatPart((snapshot) => snapshot.messages);
  const hasPrevious = useChatPart((snapshot) => snapshot.has_previous);
  const status = useChatPart((snapshot) => snapshot.status);
  const isRunning = useChatPart(({ running }) => running !== null);
  const unsent = messages.find(({ pending }) => pending !== null);
  const view = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const [isAway, setIsAway] = useState(false);
  const isReading = useRef(false);

  /** Read the turns before the first one. What is in view stays in its place. */
  const readPrevious = useCallback(async () => {
    const element = view.current;
    if (element === null || isReading.current || !chat.getSnapshot().has_previous) return;
    isReading.current = true;
    const before = element.scrollHeight - element.scrollTop;
    await page.attempt(() => chat.readPrevious());
    requestAnimationFrame(() => {
      element.scrollTop = element.scrollHeight - before;
      isReading.current = false;
    });
  }, [page, chat]);

  const jump = () => {
    follows.current = true;
    view.current?.scrollTo({ top: view.current.scrollHeight });
  };

  // The view follows growth only while its end is visible. A reader who scrolls up stays there.
  useEffect(() => {
    const element = view.current;
    const content = list.current;
    if (element === null || content === null) return;
    const grown = new ResizeObserver(() => {
      if (follows.current) element.scrollTop = element.scrollHeight;
    });
    grown.observe(content);
    grown.observe(element);
    const scrolled = () => {
      const isNear = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
      follows.current = isNear;
      setIsAway(!isNear);
      if (!isNear && element.scrollTop < NEAR_BEGINNING) void readPrevious();
    };
    element.addEventListener("scroll", scrolled, { passive: true });
    return () => {
      grown.disconnect();
      element.removeEventListener("scroll", scrolled);
    };
  }, [readPrevious]);

  // A question that was sent is shown, wherever its reader was.
  useLayoutEffect(() => {
    if (unsent === undefined || view.current === null) return;
    follows.current = true;
    view.current.scrollTop = view.current.scrollHeight;
  }, [unsent]);

  const isEmpty = messages.length === 0;
  const chunks = useMemo(() => chunksOf(messages), [messages]);
  return (
    <div className={isAway ? "turns away" : "turns"} ref={view} tabIndex={-1}>
      {isEmpty && (status === "new" || status === "ready") && <Welcome isNew={status === "new"} />}
      {isEmpty && status === "loading" && <p className="status">Loading…</p>}
      {(status === "failed" || status === "gone") && <Missing isGone={status === "gone"} />}
      {hasPrevious && (
        <button type="button" onClick={() => void readPrevious()}>
          Earlier turns
        </button>
      )}
      <div ref={list} role="group" aria-label="Conversation">
        {chunks.map((chunk, place) => (
          <Chunk key={chunk[0]?.key} messages={chunk} isTail={place >= chunks.length - 2} isLast={place === chunks.length - 1} />
        ))}
      </div>
      {isAway && (
        <div className="jump">
          <button type="button" onClick={jump}>
            <Icon name="down" /> Latest
          </button>
        </div>
      )}
      <p className="hidden" role="status">
        <Announcement isRunning={isRunning} />
      </p>
    </div>
  );
}

/** What a screen reader says of the answer: its beginning and its end, and not its text. */
function Announcement({ isRunning }: { isRunning: boolean }) {
  const [hasRun, setHasRun] = useState(isRunning);
  if (isRunning && !hasRun) setHasRun(true);
  if (isRunning) return "An answer is being written.";
  return hasRun ? "The answer is complete." : "";
}

function chunksOf(messages: readonly ChatMessage[]): readonly (readonly ChatMessage[])[] {
  const count = Math.ceil(messages.length / CHUNK);
  return Array.from({ length: count }, (_, place) => messages.slice(place * CHUNK, (place + 1) * CHUNK));
}

/** The chat that could not be read. */
function Missing({ isGone }: { isGone: boolean }) {
  const chat = usePagePart((page) => page.chat);
  const error = useChatPart((snapshot) => snapshot.error);
  return (
    <div className="notice error" role="alert">
      <span>{isGone ? "This chat does not exist any more." : (error?.message ?? "The chat could not be read.")}</span>
      {!isGone && (
        <button type="button" onClick={() => void chat.reload()}>
          Try again
        </button>
      )}
    </div>
  );
}

function Welcome({ isNew }: { isNew: boolean }) {
  return (
    <div className="welcome">
      <h2>{isNew ? "Ask something" : "This chat is empty"}</h2>
      <p>An answer continues on the server. Reload, close the tab or lose the network: nothing of it is lost.</p>
    </div>
  );
}
