// Readers of the staged agent and of the relay, written from the descriptions of their pages alone.
//
//   ChatStreamService   lines that begin with `data: `, each JSON, for `onEvent`
//   listen              an EventSource
//   readByFetch         a POST whose body is read line by line: `event: `, then `data: `
//   readProvider        the relay's own loop over a provider's stream: `data: ` lines alone

class ChatStreamService {
  // Reads the stream with a reader, decodes it, splits it at newlines, and parses the lines after `data: `.
  async streamChat(url, request, { onEvent, onError, onComplete }) {
    this.controller = new AbortController();
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(request),
        signal: this.controller.signal,
      });
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const reader = response.body.getReader();
      const decoder = new TextDecoder();
      let buffer = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        buffer += decoder.decode(value, { stream: true });
        const lines = buffer.split("\n");
        buffer = lines.pop();
        for (const line of lines) {
          if (line.trim() === "" || !line.startsWith("data: ")) continue;
          onEvent(JSON.parse(line.slice(6)));
        }
      }
      onComplete();
    } catch (error) {
      if (error.name === "AbortError") return;
      onError(error);
    }
  }

  abortStream() {
    this.controller.abort();
  }
}

// Resolves with what an EventSource showed, once `done` or an `error` with data came, or it gave up.
// `onChunk` gets the result so far.
function listen(url, onChunk = () => {}) {
  return new Promise((resolve) => {
    const source = new EventSource(url, { node: { reconnectionTime: 20 } }); // instead of 3 s
    const shown = { text: "", chunks: 0, opened: 0, lastId: "" };
    const end = (rest) => {
      source.close();
      resolve(Object.assign(shown, rest));
    };
    source.onopen = () => void (shown.opened += 1);
    source.addEventListener("chunk", ({ data, lastEventId }) => {
      shown.text += JSON.parse(data).text;
      shown.chunks += 1;
      shown.lastId = lastEventId;
      onChunk(shown);
    });
    source.addEventListener("cost", ({ data }) => void (shown.cost = JSON.parse(data)));
    source.addEventListener("done", ({ lastEventId }) => end({ end: "done", lastId: lastEventId }));
    source.addEventListener("error", ({ data }) => {
      if (data !== undefined) end({ end: "error", error: JSON.parse(data).error });
      else if (source.readyState === EventSource.CLOSED) end({ end: "closed" });
    });
  });
}

// Reads an answer with `fetch`: a new one, or the rest of one after `lastId`. If the connection breaks, and
// `resumes` is true, asks for the rest by the last id.
async function readByFetch(url, message, { onChunk = () => {}, resumes = true, lastId } = {}) {
  const shown = { text: "", chunks: 0, requests: 0 };

  for (;;) {
    shown.requests += 1;
    const response = lastId
      ? await fetch(url, { headers: { "last-event-id": lastId } })
      : await fetch(url, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(message),
        });
    shown.conversation ??= response.headers.get("x-conversation-id");
    if (response.status === 204) return shown;
    if (!response.ok) return Object.assign(shown, { status: response.status }, await response.json());
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let buffer = "";
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        buffer += decoder.decode(value, { stream: true });
        const lines = buffer.split("\n");
        buffer = lines.pop();
        if (lines.length && lines.at(-1).startsWith("event: ")) buffer = `${lines.pop()}\n${buffer}`;
        lines.forEach((line, place) => {
          if (line.startsWith("id: ")) shown.nextId = line.slice(4);
          if (line === "" && shown.nextId) lastId = shown.nextId;
          if (!line.startsWith("event: ")) return;
          const data = JSON.parse(lines[place + 1].slice("data: ".length)); // the line after `event:`
          const name = line.slice(7);
          if (name === "chunk") {
            shown.text += data.text;
            shown.chunks += 1;
            lastId = shown.nextId;
            onChunk(shown);
          } else if (name === "cost") shown.cost = data;
          else Object.assign(shown, { end: name, error: data.error });
        });
      }
    } catch (error) {
      shown.broken = error.name;
    }
    if (shown.end || !resumes) return shown;
  }
}

// The loop of the relay's server over the stream of a provider.
async function readProvider(url, request, onChunk = () => {}) {
  const shown = { text: "", inputTokens: 0, outputTokens: 0, types: [] };
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", "anthropic-version": "2023-06-01" },
    body: JSON.stringify({ ...request, stream: true }),
  });
  if (!response.ok) return { ...shown, status: response.status };
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      buffer += decoder.decode(value, { stream: true });
      const lines = buffer.split("\n");
      buffer = lines.pop() || "";
      for (const line of lines) {
        if (!line.startsWith("data: ")) continue;
        const event = JSON.parse(line.slice(6));
        if (shown.types.at(-1) !== event.type) shown.types.push(event.type);
        if (event.type === "content_block_delta") {
          shown.text += event.delta.text;
          onChunk(shown);
        }
        if (event.type === "message_start") shown.inputTokens = event.message?.usage?.input_tokens || 0;
        if (event.type === "message_delta") shown.outputTokens += event.usage?.output_tokens || 0;
        if (event.type === "error") shown.error = event.error.type;
      }
    }
  } catch (error) {
    shown.broken = error.name;
  }
  return shown;
}
