// A server on the loopback interface that answers one request after the other as it is told.

import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Reply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly end?: "close" | "cut" | "silent";
}

export interface Asked {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export class ScriptedServer {
  /** The requests so far. */
  readonly asked: Asked[] = [];
  readonly #server: Server;

  /**
   * @param replies answers, in order; or a function that returns the answer to a request
   * @param pieces bytes per write; 0: each body at once
   */
  constructor(replies: readonly Reply[] | ((asked: Asked) => Reply), pieces = 0) {
    this.#server = createServer((request, response) => {
      const body: Buffer[] = [];
      request.on("data", (data: Buffer) => body.push(data));
      request.on("end", () => {
        const { method = "", url = "", headers } = request;
        const asked = { method, url, headers, body: Buffer.concat(body).toString() };
        const reply = typeof replies === "function" ? replies(asked) : replies[this.asked.length];
        this.asked.push(asked);
        send(response, reply ?? { status: 410 }, pieces);
      });
    });
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function send(response: ServerResponse, { status = 200, headers, body = "", end = "close" }: Reply, pieces: number): void {
  response.writeHead(status, { "Content-Type": "text/event-stream", ...headers });
  const bytes = Buffer.from(body);
  const write = (start: number) => {
    const size = pieces || bytes.length;
    if (start < bytes.length) {
      response.write(bytes.subarray(start, start + size), () => {
        // Each piece is a read of its own.
        setImmediate(write, start + size);
      });
    } else if (end === "close") response.end();
    else if (end === "cut") response.flushHeaders();
    if (start >= bytes.length && end === "cut") setImmediate(() => response.socket?.end());
  };
  write(0);
}
