// @turnstream/client: watch, start and steer the turns of a turnstream server.

export type * from "./answers.js";
export { lostConnection, refusal, TurnstreamError } from "./errors.js";
export type * from "./events.js";
export { TURN_EVENTS } from "./events.js";
export { type Block, blocksOf, type Content, fold, newTurn, type Step, textOf, type TurnState, type TurnStatus } from "./fold.js";
export { type ConnectionState, follow, type Followed, type Retry, RETRY, type Transport } from "./following.js";
export { fetchReader, type FrameSink, type StreamReader, type StreamRequest } from "./reading.js";
export { type Frame, SseDecoder } from "./sse.js";
export {
  createTurnstream,
  type Message,
  type NewChat,
  type PageOptions,
  type PathOptions,
  type RegenerateOptions,
  type SendOptions,
  type StatisticsOptions,
  Turnstream,
  type TurnstreamOptions,
} from "./turnstream.js";
export { type TurnSnapshot, WatchedTurn, type WatchState } from "./watched_turn.js";
