// Many turns over one connection, for all tabs of a browser.

export { CHAT_EVENTS } from "./events.js";
export { type EventsOptions, LiveEvents } from "./live/live_events.js";
