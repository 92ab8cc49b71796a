// openai (npm) against a server. Each case prints one line of JSON: its name and its outcome.
// Arguments: the address of the server, and the addresses of proxies that cut their first connection.
// The cases and their outcomes are those of openai_chat_cases.py.
import OpenAI from "openai";

const [url, ...cutters] = process.argv.slice(1);
const STORY = "sim/story:events=30,pace=0";
const LONG = "sim/story:events=4000,pace=0.005";
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WEATHER = {
  type: "function",
  function: {
    name: "weather",
    description: "Tell the weather.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

const clientOf = (baseURL = url, timeout = 30_000) =>
  new OpenAI({ baseURL: `${baseURL}/v1`, apiKey: "any", maxRetries: 0, timeout });

function asked(name, ...parts) {
  const text = `question of ${name}`;
  return [{ role: "user", content: parts.length ? [{ type: "text", text }, ...parts] : text }];
}

const present = (value) => Object.fromEntries(Object.entries(value).filter(([, item]) => item != null));

function shown({ id, model, choices: [{ message, finish_reason }], usage }) {
  const { role, content, tool_calls } = message;
  const calls = tool_calls?.map(({ id, type, function: { name, arguments: text } }) => ({
    id,
    type,
    function: { name, arguments: text },
  }));
  const sent = present({ role, content, tool_calls: calls?.length ? calls : null });
  return { id, model, message: sent, reason: finish_reason, usage: usage ?? null };
}

function failure(error) {
  return {
    error: error.constructor.name,
    status: error.status ?? null,
    body: error.error ?? null,
    request_id: error.requestID ?? null,
  };
}

async function streamed(name, model, { baseURL = url, messages = asked(name), ...given } = {}) {
  let part = "";
  try {
    const options = { model, messages, stream_options: { include_usage: true }, ...given };
    const stream = clientOf(baseURL).chat.completions.stream(options);
    stream.on("content", (_delta, snapshot) => void (part = snapshot));
    return shown(await stream.finalChatCompletion());
  } catch (error) {
    return { ...failure(error), part };
  }
}

async function chunks(name, model, { baseURL = url, ...given } = {}) {
  let text = "";
  let thinking = "";
  const reasons = [];
  try {
    const options = { model, messages: asked(name), stream: true, ...given };
    for await (const chunk of await clientOf(baseURL).chat.completions.create(options)) {
      for (const { delta, finish_reason } of chunk.choices) {
        text += delta.content ?? "";
        thinking += delta.reasoning_content ?? "";
        if (finish_reason) reasons.push(finish_reason);
      }
    }
  } catch (error) {
    return { ...failure(error), part: text };
  }
  return { text, thinking, reasons };
}

async function whole(name, model, { messages = asked(name), ...given } = {}) {
  try {
    return shown(await clientOf().chat.completions.create({ model, messages, ...given }));
  } catch (error) {
    return failure(error);
  }
}

async function rounds(name, model, given) {
  let messages = asked(name);
  const answers = [];
  do {
    const answer = await streamed(name, model, { messages, ...given });
    answers.push(answer);
    const calls = answer.message.tool_calls ?? [];
    const results = calls.map(({ id }, number) => ({ role: "tool", tool_call_id: id, content: `clear sky ${number}` }));
    messages = [...messages, answer.message, ...results];
  } while (answers.at(-1).reason === "tool_calls");
  return answers;
}

async function conversation(name) {
  let messages = [{ role: "system", content: "Be kind." }, ...asked(name)];
  const answers = [];
  for (let number = 0; number < 4; number++) {
    answers.push(await streamed(name, STORY, { messages }));
    messages = [...messages, answers.at(-1).message, { role: "user", content: `${name} goes on, ${number}` }];
  }
  return answers;
}

async function structured(name) {
  const schema = {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  };
  const response_format = { type: "json_schema", json_schema: { name: "place", schema, strict: true } };
  const messages = [{ role: "user", content: JSON.stringify({ city: name }) }];
  const answer = await whole(name, "sim/echo:pace=0", { messages, response_format });
  return { ...answer, value: JSON.parse(answer.message.content) };
}

async function left(name) {
  const stream = await clientOf().chat.completions.create({ model: LONG, messages: asked(name), stream: true });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) return { part: chunk.choices[0].delta.content };
  }
  return {};
}

async function leftPlain(name) {
  try {
    await clientOf(url, 1000).chat.completions.create({ model: LONG, messages: asked(name) });
  } catch (error) {
    return failure(error);
  }
  return {};
}

async function stopped(name) {
  let text = "";
  let stopping;
  try {
    for await (const chunk of await clientOf().chat.completions.create({ model: LONG, messages: asked(name), stream: true })) {
      text += chunk.choices[0].delta.content ?? "";
      const turn = chunk.id.slice("chatcmpl-".length);
      if (text) stopping ??= fetch(`${url}/api/turns/${turn}/interrupt`, { method: "POST" });
    }
  } catch (error) {
    await stopping;
    return { ...failure(error), part: text };
  }
  return { text };
}

const fallback = (name, fault) => streamed(name, `sim/story:events=9,pace=0,${fault}`, { fallbacks: [STORY] });
const png = { type: "image_url", image_url: { url: `data:image/png;base64,${PNG}` } };
const BEFORE = "sim/story:events=9,pace=0,fault=error-before,status=429";
const extras = { stop: ["STOP"], temperature: 0.5, max_completion_tokens: 64, seed: 7, metadata: { project: "x" } };

const cases = {
  plain: (name) => whole(name, STORY),
  streamed: (name) => streamed(name, STORY),
  chunks: (name) => chunks(name, STORY),
  conversation,
  tools: (name) => rounds(name, "sim/tools:pace=0", { tools: [WEATHER] }),
  agent: (name) => rounds(name, "sim/agent:pace=0", { tools: [WEATHER] }),
  serverTools: (name) => streamed(name, "sim/tools:pace=0", { server_tools: ["clock"] }),
  thinking: (name) => chunks(name, "sim/thinking:pace=0", { reasoning_effort: "low" }),
  image: (name) => streamed(name, "sim/echo:pace=0", { messages: asked(name, png) }),
  structured,
  extras: (name) => whole(name, "sim/echo:pace=0", extras),
  left,
  leftPlain,
  stopped,
  maxTokens: (name) => whole(name, "sim/story:events=9,pace=0,fault=max-tokens,after=6"),
  faultBefore: (name) => streamed(name, BEFORE),
  plainFault: (name) => whole(name, BEFORE),
  faultAfter: (name) => streamed(name, "sim/story:events=9,pace=0,fault=cut,after=6"),
  fallback: (name) => fallback(name, "fault=error-before,status=401"),
  lateFallback: (name) => fallback(name, "fault=cut,after=6"),
  refused: (name) => whole(name, "no such/model"),
  empty: (name) => whole(name, STORY, { messages: [{ role: "user", content: "" }] }),
  listed: async () => {
    const found = [];
    for await (const { id } of clientOf().models.list()) found.push(id);
    return found;
  },
};
for (const [place, baseURL] of cutters.entries()) {
  cases[`cut ${place}`] = (name) => chunks(name, "sim/story:events=40,pace=0.002", { baseURL });
}

for (const [name, run] of Object.entries(cases)) {
  console.log(JSON.stringify({ name, outcome: await run(name) }));
}
