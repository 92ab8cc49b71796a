import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { useSnapshot, useStore } from "../data/context";
import { runningTurn } from "../data/store";
import { Icon } from "../parts/Icon";
import { isPinned } from "../Sidebar";
import { ChatActions } from "./ChatActions";
import { Composer } from "./Composer";
import { Turn, UnsentTurn } from "./Turn";

export function ChatView({ onMenu }: { onMenu: () => void }) {
  const chat = useSnapshot((snapshot) => snapshot.chat);
  // A chat that is opened gets a view of its own. A new chat keeps its view when its first question is sent.
  const visit = useSnapshot((snapshot) => snapshot.visit);
  return (
    <main className="chat">
      <header>
        <button type="button" className="icon only-narrow" onClick={onMenu} aria-label="Show the chats" title="Show the chats">
          <Icon name="menu" />
        </button>
        <h1>{chat === null ? "New chat" : chat.title === null || chat.title === "" ? "Untitled chat" : chat.title}</h1>
        {chat !== null && <ChatActions chat={chat} isPinned={isPinned(chat)} />}
      </header>
      <Turns key={`turns ${visit}`} />
      <Composer key={`composer ${visit}`} />
    </main>
  );
}

/** Pixels from the end within which the view follows the answer. */
const NEAR = 48;

function Turns() {
  const store = useStore();
  const path = useSnapshot((snapshot) => snapshot.path);
  const unsent = useSnapshot((snapshot) => snapshot.unsent);
  const earlier = useSnapshot((snapshot) => snapshot.earlier);
  const isLoading = useSnapshot((snapshot) => snapshot.isLoading);
  const chatId = useSnapshot((snapshot) => snapshot.chatId);
  const running = useSnapshot((snapshot) => runningTurn(snapshot)?.id ?? null);
  const view = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLOListElement>(null);
  const follows = useRef(true);
  const [isAway, setIsAway] = useState(false);

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
    };
    element.addEventListener("scroll", scrolled, { passive: true });
    return () => {
      grown.disconnect();
      element.removeEventListener("scroll", scrolled);
    };
  }, []);

  // A question that was sent is shown, wherever its reader was.
  useLayoutEffect(() => {
    if (unsent === null || view.current === null) return;
    follows.current = true;
    view.current.scrollTop = view.current.scrollHeight;
  }, [unsent]);

  const loadEarlier = async () => {
    const element = view.current;
    const before = element === null ? 0 : element.scrollHeight - element.scrollTop;
    await store.loadEarlier();
    requestAnimationFrame(() => { if (element !== null) element.scrollTop = element.scrollHeight - before; });
  };

  const isEmpty = path.length === 0 && unsent === null;
  return (
    <div className="turns" ref={view} tabIndex={-1}>
      {isEmpty && !isLoading && <Welcome isNew={chatId === null} />}
      {isLoading && isEmpty && <p className="status">Loading…</p>}
      {earlier !== null && (
        <button type="button" onClick={() => void loadEarlier()}>
          Earlier turns
        </button>
      )}
      <ol ref={list} aria-label="Conversation">
        {path.map((turn) => (
          <Turn key={turn.id} record={turn} />
        ))}
        {unsent !== null && <UnsentTurn turn={unsent} />}
      </ol>
      {isAway && (
        <div className="jump">
          <button type="button" onClick={jump}>
            <Icon name="down" /> Latest
          </button>
        </div>
      )}
      <p className="hidden" role="status">
        {running === null ? "" : "An answer is being written."}
      </p>
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
