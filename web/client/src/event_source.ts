// A reader of event streams by `EventSource`.

import { lostConnection, refusal } from "./errors.js";
import type { StreamReader } from "./reading.js";

/**
 * Read a stream by `EventSource`, for pages whose policy or proxy allows nothing else. It sends cookies, but no
 * headers. It does not see comments: so silence between events does not count as a lost connection, and the
 * browser alone notices a dead one.
 *
 * @param names names of the events to read
 */
export function eventSourceReader(names: readonly string[], Source: typeof EventSource = EventSource): StreamReader {
  return async (request, sink) => {
    const url = new URL(request.url);
    if (request.lastId !== null) url.searchParams.set("after", request.lastId);
    const source = new Source(url, { withCredentials: true });
    let isOpen = false;
    try {
      return await new Promise<"closed">((resolve, reject) => {
        request.signal.addEventListener("abort", () => {
          resolve("closed");
        });
        source.onopen = () => {
          isOpen = true;
          sink.opened(false);
        };
        // The browser's own reconnecting knows no limit. Each connection is a new EventSource.
        source.onerror = () => {
          if (isOpen) resolve("closed");
          else reject(lostConnection(undefined));
        };
        for (const name of names) {
          source.addEventListener(name, ({ data, lastEventId }: MessageEvent<string>) => {
            if (request.signal.aborted) return;
            sink.alive();
            sink.frame({ event: name, data, id: lastEventId || null });
          });
        }
      });
    } catch (error) {
      // An EventSource hides the status. The same request by fetch shows it.
      const headers = { ...request.headers, Accept: "text/event-stream" };
      const probe = await request.fetch(url, { headers, signal: request.signal });
      if (probe.status === 204) return "nothing";
      if (probe.status !== 200) throw await refusal(probe);
      await probe.body?.cancel();
      throw error;
    } finally {
      source.close();
    }
  };
}
