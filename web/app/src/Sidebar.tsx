import { useDeferredValue, useEffect, useRef, useState } from "react";
import { useSnapshot, useStore } from "./data/context";
import type { Connection } from "./data/frames";
import type { ChatRecord } from "./data/records";
import { nextTheme, showTheme, storedTheme } from "./data/theme";
import { Icon } from "./parts/Icon";

const CONNECTIONS: Record<Connection, string> = {
  connecting: "Connecting…",
  open: "Connected",
  lost: "Offline. Trying again…",
  refused: "Signed out",
};

export function Sidebar({ onChosen }: { onChosen: () => void }) {
  const store = useStore();
  const session = useSnapshot((snapshot) => snapshot.session);
  const connection = useSnapshot((snapshot) => snapshot.connection);
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
            store.go(null);
            onChosen();
          }}
        >
          <Icon name="plus" /> New chat
        </button>
      </header>
      <Search />
      <ChatList onChosen={onChosen} />
      <footer>
        <span className="state" role="status">
          {CONNECTIONS[connection]}
        </span>
        <button type="button" className="icon" onClick={changeTheme} aria-label={`Theme: ${theme}`} title={`Theme: ${theme}`}>
          <Icon name="theme" />
        </button>
        {session?.needs_key === true && (
          <button type="button" className="icon" onClick={() => void store.signOut()} aria-label="Sign out" title="Sign out">
            <Icon name="signOut" />
          </button>
        )}
      </footer>
    </aside>
  );
}

function Search() {
  const store = useStore();
  const [text, setText] = useState("");
  const searched = useDeferredValue(text.trim());
  const isFirst = useRef(true);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (isFirst.current) {
      isFirst.current = false;
      return;
    }
    const timer = setTimeout(() => void store.loadChats(searched), 200);
    return () => { clearTimeout(timer); };
  }, [store, searched]);
  useEffect(() => {
    const focus = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      input.current?.focus();
    };
    window.addEventListener("keydown", focus);
    return () => { window.removeEventListener("keydown", focus); };
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
  const store = useStore();
  const chats = useSnapshot((snapshot) => snapshot.chats);
  const more = useSnapshot((snapshot) => snapshot.moreChats);
  const search = useSnapshot((snapshot) => snapshot.search);
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
      {chats.length === 0 && <p className="empty">{search === "" ? "No chats yet." : "No chat has this text."}</p>}
      {more !== null && (
        <button type="button" onClick={() => void store.loadChats(search, true)}>
          More chats
        </button>
      )}
    </nav>
  );
}

export function isPinned(chat: ChatRecord): boolean {
  return chat.metadata.pinned === true;
}

function ChatLink({ chat, onChosen }: { chat: ChatRecord; onChosen: () => void }) {
  const isShown = useSnapshot((snapshot) => snapshot.chatId === chat.id);
  const isRunning = useSnapshot(({ live }) => [...live.values()].some(({ chat_id, ended }) => chat_id === chat.id && !ended));
  return (
    <li>
      <a href={`#/chat/${chat.id}`} aria-current={isShown ? "page" : undefined} onClick={onChosen}>
        <span>{chat.title === null || chat.title === "" ? "Untitled chat" : chat.title}</span>
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
