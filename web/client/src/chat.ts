// A chat for a user interface.

export { type ChatMessage, type ChatSnapshot, ChatStore } from "./chat_store.js";
