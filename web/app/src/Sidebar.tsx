import type { Chat } from "@turnstream/client";
import { useLiveEvents, useRetryCountdown } from "@turnstream/client/react";
import { useDeferredValue, useEffect, useEffectEvent, useRef, useState } from "react";
import { flushSync } from "react-dom";
import { isPinned, titleOf } from "./data/chats";
import { useChatPart, useChatsPart, usePage, usePagePart } from "./data/context";
import { STATISTICS } from "./data/page";
import { nextTheme, showTheme, storedTheme } from "./data/theme";
import { Icon } from "./parts/Icon";

interface SidebarProps {
  readonly onChosen: () => void;
  /** Called when the reader wants to search in a narrow window. */
  readonly onSearch: () => void;
}

export function Sidebar({ onChosen, onSearch }: SidebarProps) {
  const page = usePage();
  const session = usePagePart((snapshot) => snapshot.session);
  const showsStatistics = usePagePart(({ view }) => view === STATISTICS);
  const [theme, setTheme] = useState(storedTheme);
  const changeTheme = () => {
    const next = nextTheme(theme);
    showTheme(next);
    setTheme(next);
  };
  return (
    <aside className="sidebar" aria-label="Chats">
      <header>
        <button
          type="button"
          onClick={() => {
            page.go(null);
            onChosen();
          }}
        >
          <Icon name="plus" /> New chat
        </button>
      </header>
      <Search onNarrow={onSearch} />
      <ChatList onChosen={onChosen} />
      <footer>
        <ConnectionState />
        <a
          href={STATISTICS}
          onClick={onChosen}
          aria-current={showsStatistics ? "page" : undefined}
          aria-label="Statistics"
          title="Statistics"
        >
          <Icon name="statistics" />
        </a>
        <button type="button" className="icon" onClick={changeTheme} aria-label={`Theme: ${theme}`} title={`Theme: ${theme}`}>
          <Icon name="theme" />
        </button>
        {session?.needs_key === true && (
          <button type="button" className="icon" onClick={() => void page.signOut()} aria-label="Sign out" title="Sign out">
            <Icon name="signOut" />
          </button>
        )}
      </footer>
    </aside>
  );
}

/** The state of the one connection. The seconds until the next attempt are not read aloud. */
function ConnectionState() {
  const { connection } = useLiveEvents(usePage().live);
  const seconds = useRetryCountdown(connection);
  const isLost = connection.kind === "retrying" || connection.kind === "failed";
  return (
    <span className="state">
      <span role="status">{isLost ? "Offline. Trying again…" : connection.kind === "open" ? "Connected" : "Connecting…"}</span>
      {seconds !== null && seconds > 1 && <span aria-hidden="true">{` ${seconds} s`}</span>}
    </span>
  );
}

function Search({ onNarrow }: { onNarrow: () => void }) {
  const { chats } = usePage();
  const [text, setText] = useState("");
  const searched = useDeferredValue(text.trim());
  const isFirst = useRef(true);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (isFirst.current) {
      isFirst.current = false;
      return;
    }
    const timer = setTimeout(() => void chats.read(searched), 200);
    return () => { clearTimeout(timer); };
  }, [chats, searched]);
  const focus = useEffectEvent((event: KeyboardEvent) => {
    const field = input.current;
    if (field === null || event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    // In a narrow window, the sidebar lies over the page.
    const sidebar = field.closest(".sidebar");
    if (sidebar !== null && getComputedStyle(sidebar).position === "fixed") flushSync(onNarrow);
    field.focus();
  });
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => { focus(event); };
    window.addEventListener("keydown", pressed);
    return () => { window.removeEventListener("keydown", pressed); };
  }, []);
  return (
    <div className="search" role="search">
      <input
        ref={input}
        type="search"
        maxLength={200}
        placeholder="Search (Ctrl+K)"
        aria-label="Search chats"
        value={text}
        onChange={(event) => { setText(event.target.value); }}
      />
    </div>
  );
}

function ChatList({ onChosen }: { onChosen: () => void }) {
  const page = usePage();
  const chats = useChatsPart(({ list }) => list);
  const more = useChatsPart(({ next }) => next);
  const search = useChatsPart((snapshot) => snapshot.search);
  const pinned = chats.filter(isPinned);
  const others = chats.filter((chat) => !isPinned(chat));
  return (
    <nav aria-label="Chats">
      {pinned.length > 0 && (
        <>
          <h2 id="pinned">Pinned</h2>
          <ul aria-labelledby="pinned">{pinned.map((chat) => <ChatLink key={chat.id} chat={chat} onChosen={onChosen} />)}</ul>
          <h2 id="others">Others</h2>
        </>
      )}
      <ul aria-label="Chats">{others.map((chat) => <ChatLink key={chat.id} chat={chat} onChosen={onChosen} />)}</ul>
      {chats.length === 0 && <p className="empty">{search === "" ? "No chats yet." : more === null ? "No chat has this text." : "No recent chat has this text."}</p>}
      {more !== null && (
        <button type="button" onClick={() => void page.chats.read(search, true)}>
          {search === "" ? "More chats" : "Search older chats"}
        </button>
      )}
    </nav>
  );
}

function ChatLink({ chat, onChosen }: { chat: Chat; onChosen: () => void }) {
  const isOpen = useChatPart(({ chat_id }) => chat_id === chat.id);
  const isShown = usePagePart(({ view }) => view === null) && isOpen;
  const isRunning = [...useLiveEvents(usePage().live).running.values()].includes(chat.id);
  return (
    <li>
      <a href={`#/chat/${chat.id}`} aria-current={isShown ? "page" : undefined} onClick={onChosen}>
        <span>{titleOf(chat)}</span>
        {isRunning && (
          <span className="status">
            <span className="dot" />
            <span className="hidden">answering</span>
          </span>
        )}
      </a>
    </li>
  );
}
