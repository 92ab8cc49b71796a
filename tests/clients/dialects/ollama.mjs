// ollama of npm against a server. Each case prints one line of JSON: its name and its outcome.
// Arguments: the address of the server, and the addresses of proxies that cut their first connection.
// The cases and their outcomes are those of ollama_cases.py.
import { Ollama } from "ollama";

const [url, ...cutters] = process.argv.slice(1);
const STORY = "sim/story:events=30,pace=0";
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WEATHER = {
  type: "function",
  function: {
    name: "weather",
    description: "Tell the weather.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

const clientOf = (host = url) => new Ollama({ host });
const asked = (name, given = {}) => [{ role: "user", content: `question of ${name}`, ...given }];

class Reading {
  text = "";
  thinking = "";
  calls = [];
  last = {};

  add({ message, ...part }) {
    this.text += (message ? message.content : part.response) ?? "";
    this.thinking += (message ?? part).thinking ?? "";
    this.calls.push(...(message?.tool_calls ?? []));
    this.last = part;
  }
}

const failure = (error) => ({
  error: error.name,
  status: error.status_code ?? null,
  message: error.message,
});

async function streamed(name, model, { host = url, messages = asked(name), ...given } = {}) {
  const reading = new Reading();
  try {
    for await (const part of await clientOf(host).chat({ model, messages, stream: true, ...given })) reading.add(part);
    return reading;
  } catch (error) {
    return { ...failure(error), part: reading };
  }
}

async function whole(name, model, { messages = asked(name), ...given } = {}) {
  const reading = new Reading();
  try {
    reading.add(await clientOf().chat({ model, messages, ...given }));
    return reading;
  } catch (error) {
    return failure(error);
  }
}

async function rounds(name, model) {
  let messages = asked(name);
  const answers = [];
  do {
    const answer = await streamed(name, model, { messages, tools: [WEATHER] });
    answers.push(answer);
    const { text: content, thinking, calls } = answer;
    const results = calls.map((call, number) => ({ role: "tool", tool_name: call.function.name, content: `clear sky ${number}` }));
    messages = [...messages, { role: "assistant", content, thinking, tool_calls: calls }, ...results];
  } while (answers.at(-1).calls.length);
  return answers;
}

const cases = {
  plain: (name) => whole(name, STORY),
  streamed: (name) => streamed(name, STORY, { options: { temperature: 0.5, num_ctx: 4096 } }),
  async conversation(name) {
    let messages = asked(name);
    const answers = [];
    for (let number = 0; number < 4; number += 1) {
      answers.push(await streamed(name, STORY, { messages }));
      const next = { role: "user", content: `${name} goes on, ${number}` };
      messages = [...messages, { role: "assistant", content: answers.at(-1).text }, next];
    }
    return answers;
  },
  tools: (name) => rounds(name, "sim/tools:pace=0"),
  agent: (name) => rounds(name, "sim/agent:pace=0"),
  thinking: (name) => streamed(name, "sim/thinking:pace=0", { think: true }),
  image: (name) => streamed(name, "sim/echo:pace=0", { messages: asked(name, { images: [PNG] }) }),
  async structured(name) {
    const format = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
    const messages = [{ role: "user", content: JSON.stringify({ city: name }) }];
    const answer = await whole(name, "sim/echo:pace=0", { messages, format });
    return { ...answer, value: JSON.parse(answer.text) };
  },
  async generated(name) {
    const reading = new Reading();
    const given = { model: "sim/thinking:pace=0", prompt: `question of ${name}`, system: "Be kind.", stream: true };
    for await (const part of await clientOf().generate(given)) reading.add(part);
    return reading;
  },
  async generatedWhole(name) {
    const reading = new Reading();
    reading.add(await clientOf().generate({ model: STORY, prompt: `question of ${name}`, images: [PNG], keep_alive: "5m" }));
    return reading;
  },
  async loaded() {
    const load = await clientOf().generate({ model: "sim/story", prompt: "" });
    const unload = await clientOf().chat({ model: "sim/story", messages: [], keep_alive: 0 });
    return [load.done_reason, unload.done_reason];
  },
  async left(name) {
    const client = clientOf();
    const reading = new Reading();
    try {
      const given = { model: "sim/story:events=4000,pace=0.005", messages: asked(name), stream: true };
      for await (const part of await client.chat(given)) {
        reading.add(part);
        if (reading.text) client.abort();
      }
      return reading;
    } catch (error) {
      return { ...failure(error), part: reading };
    }
  },
  maxTokens: (name) => streamed(name, "sim/story:events=9,pace=0,fault=max-tokens,after=6"),
  faultBefore: (name) => streamed(name, "sim/story:events=9,pace=0,fault=error-before,status=401"),
  plainFault: (name) => whole(name, "sim/story:events=9,pace=0,fault=error-before,status=401"),
  faultAfter: (name) => streamed(name, "sim/story:events=9,pace=0,fault=cut,after=6"),
  refused: (name) => whole(name, "no such/model"),
  async listed() {
    const client = clientOf();
    return {
      names: (await client.list()).models.map(({ model }) => model),
      running: (await client.ps()).models,
      shown: await client.show({ model: "sim/story:latest" }),
    };
  },
  async unknown() {
    const client = clientOf();
    const calls = [
      () => client.show({ model: "no such/model" }),
      () => client.pull({ model: "sim/story" }),
      () => client.embed({ model: "sim/story", input: "text" }),
      () => client.generate({ model: "sim/story", prompt: "text", suffix: "end" }),
      () => client.generate({ model: "sim/story", prompt: "text", raw: true }),
    ];
    const found = [];
    for (const call of calls) found.push(await call().catch(failure));
    return found;
  },
};
cutters.forEach((host, place) => {
  cases[`cut ${place}`] = (name) => streamed(name, "sim/story:events=40,pace=0.002", { host });
});

for (const [name, run] of Object.entries(cases)) console.log(JSON.stringify({ name, outcome: await run(name) }));
process.exit(0);
