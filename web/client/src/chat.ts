// A chat for a user interface.

export { type ChatMessage, type ChatSendOptions, type ChatSnapshot, ChatStore } from "./chat_store.js";
