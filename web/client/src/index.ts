// @turnstream/client: watch, start and steer the turns of a turnstream server.

export * from "./errors.js";
export type * from "./events.js";
export { CHAT_EVENTS, TURN_EVENTS } from "./events.js";
export { type Block, blocksOf, type Content, fold, newTurn, type Step, textOf, type TurnState, type TurnStatus } from "./fold.js";
export { type ConnectionState, type Retry, RETRY, type Transport } from "./following.js";
export * from "./reading.js";
export { type Frame, SseDecoder } from "./sse.js";
export { type TurnSnapshot, WatchedTurn, type WatchState } from "./watched_turn.js";
