// @anthropic-ai/sdk against a server. Each case prints one line of JSON: its name and its outcome.
// Arguments: the address of the server, and the addresses of proxies that cut their first connection.
// The cases and their outcomes are those of anthropic_cases.py.
import Anthropic from "@anthropic-ai/sdk";

const [url, ...cutters] = process.argv.slice(1);
const STORY = "sim/story:events=30,pace=0";
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WEATHER = {
  name: "weather",
  description: "Tell the weather.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

const clientOf = (baseURL = url) => new Anthropic({ baseURL, apiKey: "any", maxRetries: 0, timeout: 30_000 });

function asked(name, blocks) {
  const text = `question of ${name}`;
  return [{ role: "user", content: blocks ? [{ type: "text", text }, ...blocks] : text }];
}

const shown = ({ id, model, content, stop_reason, usage }) => ({ id, model, content, stop_reason, usage });

function failure(error) {
  return {
    error: error.constructor.name,
    status: error.status ?? null,
    body: error.error ?? null,
    request_id: error.requestID ?? null,
  };
}

async function streamed(name, model, { baseURL = url, messages = asked(name), ...given } = {}) {
  let part;
  try {
    const stream = clientOf(baseURL).messages.stream({ model, max_tokens: 64, messages, ...given });
    stream.on("streamEvent", (_event, snapshot) => void (part = snapshot));
    return shown(await stream.finalMessage());
  } catch (error) {
    return { ...failure(error), ...(part && { part: shown(part) }) };
  }
}

async function whole(name, model, { messages = asked(name), ...given } = {}) {
  try {
    return shown(await clientOf().messages.create({ model, max_tokens: 64, messages, ...given }));
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
    const calls = answer.content.filter(({ type }) => type === "tool_use");
    const results = calls.map(({ id }, number) => ({ type: "tool_result", tool_use_id: id, content: `clear sky ${number}` }));
    messages = [...messages, { role: "assistant", content: answer.content }, { role: "user", content: results }];
  } while (answers.at(-1).stop_reason === "tool_use");
  return answers;
}

async function leave(name, then) {
  const controller = new AbortController();
  const given = { model: "sim/story:events=4000,pace=0.005", max_tokens: 64, messages: asked(name) };
  const stream = clientOf().messages.stream(given, { signal: controller.signal });
  let part, isLeft;
  stream.on("streamEvent", (event, snapshot) => {
    part = snapshot;
    if (event.type === "content_block_delta" && !isLeft) {
      isLeft = true;
      then(controller, snapshot);
    }
  });
  try {
    return shown(await stream.finalMessage());
  } catch (error) {
    return { ...failure(error), part: shown(part) };
  }
}

const fallback = (name, fault) => streamed(name, `sim/story:events=9,pace=0,${fault}`, { fallbacks: [STORY] });

const cases = {
  plain: (name) => whole(name, STORY),
  streamed: (name) => streamed(name, STORY),
  async conversation(name) {
    let messages = asked(name);
    const answers = [];
    for (let number = 0; number < 4; number += 1) {
      answers.push(await streamed(name, STORY, { messages }));
      const next = { role: "user", content: `${name} goes on, ${number}` };
      messages = [...messages, { role: "assistant", content: answers.at(-1).content }, next];
    }
    return answers;
  },
  tools: (name) => rounds(name, "sim/tools:pace=0", { tools: [WEATHER] }),
  agent: (name) => rounds(name, "sim/agent:pace=0", { tools: [WEATHER] }),
  serverTools: (name) => streamed(name, "sim/tools:pace=0", { server_tools: ["clock"] }),
  async thinking(name) {
    const thinking = { type: "enabled", budget_tokens: 1024 };
    const first = await streamed(name, "sim/thinking:pace=0", { thinking });
    const more = [{ role: "assistant", content: first.content }, { role: "user", content: "go on" }];
    return [first, await streamed(name, "sim/thinking:pace=0", { messages: [...asked(name), ...more] })];
  },
  media(name) {
    const image = { type: "image", source: { type: "base64", media_type: "image/png", data: PNG } };
    const document = { type: "document", source: { type: "text", media_type: "text/plain", data: "a page" } };
    return streamed(name, "sim/echo:pace=0", { messages: asked(name, [image, document]) });
  },
  async structured(name) {
    const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
    const messages = [{ role: "user", content: JSON.stringify({ city: name }) }];
    const output_config = { format: { type: "json_schema", schema } };
    const answer = await whole(name, "sim/echo:pace=0", { messages, output_config });
    return { ...answer, value: JSON.parse(answer.content[0].text) };
  },
  extras(name) {
    const cached = { cache_control: { type: "ephemeral" } };
    return whole(name, "sim/echo:pace=0", {
      messages: asked(name, [{ type: "text", text: "cached", ...cached }]),
      system: [{ type: "text", text: "Be kind.", ...cached }],
      stop_sequences: ["STOP"],
      metadata: { user_id: "user 7" },
      temperature: 0.5,
    });
  },
  left: (name) => leave(name, (controller) => controller.abort()),
  stopped: (name) =>
    leave(name, (_, { id }) => fetch(`${url}/api/turns/${id.replace("msg_", "")}/interrupt`, { method: "POST" })),
  maxTokens: (name) => streamed(name, "sim/story:events=9,pace=0,fault=max-tokens,after=6"),
  faultBefore: (name) => streamed(name, "sim/story:events=9,pace=0,fault=error-before,status=401"),
  plainFault: (name) => whole(name, "sim/story:events=9,pace=0,fault=error-before,status=401"),
  faultAfter: (name) => streamed(name, "sim/story:events=9,pace=0,fault=cut,after=6"),
  fallback: (name) => fallback(name, "fault=error-before,status=401"),
  lateFallback: (name) => fallback(name, "fault=cut,after=6"),
  refused: (name) => whole(name, "no such/model"),
  empty: (name) => whole(name, STORY, { messages: [{ role: "user", content: " " }] }),
  async counted(name) {
    const given = { model: STORY, messages: asked(name), system: "Be kind.", tools: [WEATHER] };
    const { data, response } = await clientOf().messages.countTokens(given).withResponse();
    return { ...data, estimate: response.headers.get("turnstream-estimate") };
  },
  async listed() {
    return (await Array.fromAsync(clientOf().models.list())).map(({ id }) => id);
  },
};
cutters.forEach((baseURL, place) => {
  cases[`cut ${place}`] = (name) => streamed(name, "sim/story:events=40,pace=0.002", { baseURL });
});

for (const [name, run] of Object.entries(cases)) console.log(JSON.stringify({ name, outcome: await run(name) }));
process.exit(0);
