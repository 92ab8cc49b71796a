// Errors of the client and of the server.

interface ErrorDetails {
  readonly code: string;
  readonly status?: number | null;
  readonly retryable?: boolean;
  readonly cause?: unknown;
  /** Shortest delay in milliseconds before the next attempt, as the server asks. */
  readonly retryAfter?: number | null;
}

const NEXT_STEPS: Readonly<Record<string, string>> = {
  400: "Correct the request.",
  401: "Sign in, or send a valid key.",
  403: "Ask the operator for access.",
  404: "Reload: it does not exist any more.",
  409: "Reload the chat, then decide again.",
  413: "Send less at once.",
};

/** An error of a request or of a stream. `code` is for programs, `message` for people. */
export class TurnstreamError extends Error {
  override readonly name = "TurnstreamError";
  readonly code: string;
  /** Status of the HTTP answer, or null without an answer. */
  readonly status: number | null;
  /** True if the same request may succeed later. */
  readonly retryable: boolean;
  readonly retryAfter: number | null;

  constructor(message: string, { code, status, retryable, retryAfter, cause }: ErrorDetails) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.status = status ?? null;
    this.retryable = retryable ?? false;
    this.retryAfter = retryAfter ?? null;
  }

  /** A sentence for people: what they can do now. */
  get nextStep(): string {
    if (this.retryable) return "Try again in a moment.";
    return NEXT_STEPS[this.status ?? 0] ?? "Report this to the operator.";
  }
}

/** Statuses after which the same request may succeed. */
const TEMPORARY = new Set([408, 425, 429, 500, 502, 503, 504]);
/** Characters of an error's body that are read at most. */
const ERROR_LIMIT = 64 * 1024;

/** Return the error of an answer that is not a success, with the server's message if it has one. */
export async function refusal(response: Response): Promise<TurnstreamError> {
  const { status } = response;
  let code = status >= 300 && status < 400 ? "redirected" : "unexpected_answer";
  let message = `the server answers ${status}: is this the address of a turnstream server?`;
  try {
    const body = JSON.parse(await beginning(response)) as { error?: ErrorBody };
    if (body.error) ({ code = code, message = message } = body.error);
  } catch {
    // The body is not the server's JSON: a proxy answers. The status alone decides.
  }
  const retryAfter = retryAfterOf(response.headers.get("Retry-After"));
  return new TurnstreamError(message, { code, status, retryable: TEMPORARY.has(status), retryAfter });
}

/** Return the beginning of a body: a body that is longer is not the server's. */
async function beginning({ body }: Response): Promise<string> {
  const bytes = body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (bytes && text.length <= ERROR_LIMIT) {
    const { done, value } = await bytes.read();
    if (done) return text;
    text += decoder.decode(value, { stream: true });
  }
  await bytes?.cancel();
  return text;
}

interface ErrorBody {
  readonly code?: string;
  readonly message?: string;
}

/** Return the milliseconds of a `Retry-After`, which is a number of seconds or a date. Null if it is neither. */
export function retryAfterOf(value: string | null, now = Date.now()): number | null {
  if (value === null) return null;
  if (/^\s*\d{1,9}\s*$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}

/** Return the error of a connection that failed before or within an answer. */
export function lostConnection(cause: unknown): TurnstreamError {
  const reason = cause instanceof Error ? cause.message : "it was closed";
  return new TurnstreamError(`the connection to the server was lost (${reason})`, {
    code: "connection_error",
    retryable: true,
    cause,
  });
}
