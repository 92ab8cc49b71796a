import { createRoot } from "react-dom/client";
import { Chat } from "./Chat.jsx";
import { loadMessages } from "./kept.js";

// The chat's id is in the address, so a reload and a second tab show the same chat.
const id = location.hash.slice(1) || crypto.randomUUID();
location.hash = id;
createRoot(document.getElementById("root")).render(<Chat id={id} messages={loadMessages(id)} />);
