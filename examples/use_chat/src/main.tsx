import { generateId } from "ai";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { Chat } from "./chat";
import "./style.css";

const chatInAddress = () => new URLSearchParams(location.search).get("chat");
const addressOf = (id: string) => `?chat=${encodeURIComponent(id)}`;

function Page() {
  const [id, setId] = useState(() => chatInAddress() ?? generateId());

  useEffect(() => {
    if (chatInAddress() === null) history.replaceState(null, "", addressOf(id));
    const follow = () => setId(chatInAddress() ?? generateId());
    addEventListener("popstate", follow);
    return () => removeEventListener("popstate", follow);
  }, [id]);

  function open() {
    const next = generateId();
    history.pushState(null, "", addressOf(next));
    setId(next);
  }

  return (
    <>
      <header>
        <h1>useChat on turnstream</h1>
        <button type="button" onClick={open}>
          New chat
        </button>
      </header>
      <Chat key={id} id={id} />
    </>
  );
}

createRoot(document.getElementById("page")!).render(<Page />);
