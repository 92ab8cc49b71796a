// The npm package openai against a server's Responses. Each case prints one line of JSON: its name and outcome.
// Arguments: the address of the server, and the addresses of proxies that cut their first connection.
// The cases and their outcomes are those of openai_responses_cases.py.
import OpenAI from "openai";

const [url, ...cutters] = process.argv.slice(1);
const STORY = "sim/story:events=16,pace=0";
const LONG = "sim/story:events=4000,pace=0.005";
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WEATHER = {
  type: "function",
  name: "weather",
  description: "Tell the weather.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  strict: false,
};

const clientOf = (baseURL = url) => new OpenAI({ baseURL: `${baseURL}/v1`, apiKey: "any", maxRetries: 0, timeout: 30_000 });
const question = (name) => `question of ${name}`;
const textOf = ({ output }) =>
  output.flatMap(({ type, content }) => (type === "message" ? content : [])).map(({ text }) => text ?? "").join("");

function shown(response) {
  const { id, status, output, usage } = response;
  return {
    id,
    status,
    text: textOf(response),
    thinking: output.flatMap(({ type, summary }) => (type === "reasoning" ? summary : [])).map(({ text }) => text).join(""),
    calls: output
      .filter(({ type }) => type === "function_call")
      .map(({ call_id, name, arguments: given }) => [call_id, name, JSON.parse(given)]),
    usage: usage ? [usage.input_tokens, usage.output_tokens] : null,
  };
}

const failure = (error) => ({ error: error.constructor.name, status: error.status ?? null, body: error.error ?? null });

class Reading {
  constructor(from = { text: "", identity: "", last: "", number: -1, final: null }) {
    Object.assign(this, from);
  }

  take(event) {
    if (event.sequence_number <= this.number) throw new Error(`${event.sequence_number} after ${this.number}`);
    this.number = event.sequence_number;
    this.last = event.type;
    if (event.type === "response.created") this.identity = event.response.id;
    if (event.type === "response.output_text.delta") this.text += event.delta;
    if (event.response) this.final = event.response;
  }
}

async function streamed(name, model, { baseURL = url, input = question(name), ...given } = {}) {
  let part = "";
  let last = "";
  try {
    const stream = clientOf(baseURL).responses.stream({ model, input, ...given });
    for await (const event of stream) {
      last = event.type;
      if (event.type === "response.output_text.delta") part += event.delta;
    }
    const final = await stream.finalResponse();
    return final.status === "completed" ? shown(final) : { ...shown(final), part, last };
  } catch (error) {
    return { ...failure(error), part, last };
  }
}

async function plain(name, model, { input = question(name), ...given } = {}) {
  try {
    return shown(await clientOf().responses.create({ model, input, ...given }));
  } catch (error) {
    return failure(error);
  }
}

async function rounds(name, model, resends) {
  let sent = [{ role: "user", content: question(name) }];
  let given = { input: sent, tools: [WEATHER] };
  const responses = [];
  for (;;) {
    const response = await clientOf().responses.stream({ model, ...given }).finalResponse();
    responses.push(shown(response));
    const calls = response.output.filter(({ type }) => type === "function_call");
    if (!calls.length) return responses;
    const results = calls.map(({ call_id }, number) => ({ type: "function_call_output", call_id, output: `clear sky ${number}` }));
    sent = [...sent, ...response.output, ...results];
    given = resends ? { ...given, input: sent } : { ...given, input: results, previous_response_id: response.id };
  }
}

async function parsed(name) {
  const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
  const response = await clientOf().responses.create({
    model: "sim/echo:pace=0",
    input: JSON.stringify({ city: name }),
    text: { format: { type: "json_schema", name: "city", schema, strict: true } },
  });
  return { ...shown(response), value: JSON.parse(textOf(response)) };
}

async function everyCut(name) {
  const client = clientOf();
  const ends = [];
  for (let place = 0; ; place++) {
    const seen = new Reading();
    const stream = await client.responses.create({ model: STORY, input: question(name), stream: true });
    let number = 0;
    for await (const event of stream) {
      seen.take(event);
      if (number++ === place) break;
    }
    if (seen.last === "response.completed") return ends;
    const helped = new Reading(seen);
    for await (const event of client.responses.stream({ response_id: seen.identity, starting_after: seen.number })) helped.take(event);
    for await (const event of await client.responses.retrieve(seen.identity, { stream: true, starting_after: seen.number })) seen.take(event);
    ends.push({ ...shown(seen.final), raw: seen.text, helped: helped.text });
  }
}

async function cut(name, place) {
  const seen = new Reading();
  let error = null;
  try {
    const stream = await clientOf(cutters[place]).responses.create({ model: "sim/story:events=60,pace=0.001", input: question(name), stream: true });
    for await (const event of stream) seen.take(event);
  } catch (cutError) {
    error = cutError.constructor.name;
  }
  if (!seen.identity) return { error };
  for await (const event of await clientOf().responses.retrieve(seen.identity, { stream: true, starting_after: seen.number })) seen.take(event);
  return { ...shown(seen.final), raw: seen.text, error };
}

async function cancelled(name) {
  const client = clientOf();
  const seen = new Reading();
  const statuses = [];
  for await (const event of await client.responses.create({ model: LONG, input: question(name), stream: true, background: true })) {
    seen.take(event);
    if (seen.text && !statuses.length) {
      for (let time = 0; time < 2; time++) statuses.push((await client.responses.cancel(seen.identity)).status);
    }
  }
  return { ...shown(await client.responses.retrieve(seen.identity)), raw: seen.text, last: seen.last, statuses };
}

async function background(name) {
  const client = clientOf();
  let now = await client.responses.create({ model: STORY, input: question(name), background: true });
  while (now.status === "queued" || now.status === "in_progress") now = await client.responses.retrieve(now.id);
  return shown(now);
}

async function closed(name) {
  const client = clientOf();
  const seen = new Reading();
  for await (const event of await client.responses.create({ model: STORY, input: question(name), stream: true })) {
    seen.take(event);
    break;
  }
  for await (const event of await client.responses.retrieve(seen.identity, { stream: true, starting_after: seen.number })) seen.take(event);
  return { ...shown(seen.final), raw: seen.text };
}

async function image(name) {
  const image_url = `data:image/png;base64,${PNG}`;
  const content = [{ type: "input_text", text: question(name) }, { type: "input_image", image_url }];
  const response = await plain(name, "sim/echo", { input: [{ role: "user", content }] });
  const { data } = await clientOf().responses.inputItems.list(response.id);
  return { ...response, same: data[0].content[1].image_url === image_url };
}

async function conversation(name) {
  const client = clientOf();
  const items = [{ role: "user", content: question(name) }, { role: "assistant", content: "yes" }];
  const made = await client.conversations.create({ items, metadata: { a: "b" } });
  const response = await client.responses.create({ model: STORY, input: "more", conversation: made.id });
  const listed = [];
  for await (const item of client.conversations.items.list(made.id, { order: "asc", limit: 2 })) listed.push(item);
  const one = await client.conversations.items.retrieve(listed[0].id, { conversation_id: made.id });
  const changed = await client.conversations.update(made.id, { metadata: { c: "d" } });
  return { ...shown(response), roles: listed.map(({ role }) => role), same: one.id === listed[0].id, metadata: changed.metadata };
}

async function deleted(name) {
  const client = clientOf();
  const response = await client.responses.create({ model: STORY, input: question(name) });
  await client.responses.delete(response.id);
  return client.responses.retrieve(response.id).catch(failure);
}

const BROKEN = `${STORY},fault=error-before,status=429`;
const cases = {
  plain: (name) => plain(name, STORY),
  streamed: (name) => streamed(name, STORY),
  thinking: (name) => streamed(name, "sim/thinking", { reasoning: { effort: "low" } }),
  tools: (name) => rounds(name, "sim/tools", true),
  continued: (name) => rounds(name, "sim/tools", false),
  serverTools: (name) => streamed(name, "sim/tools", { server_tools: ["clock"] }),
  structured: parsed,
  image,
  everyCut,
  cancelled,
  background,
  closed,
  conversation,
  deleted,
  plainFault: (name) => plain(name, BROKEN),
  faultBefore: (name) => streamed(name, BROKEN),
  faultAfter: (name) => streamed(name, `${STORY},fault=cut,after=8`),
  maxTokens: (name) => streamed(name, `${STORY},fault=max-tokens,after=8`),
  fallback: (name) => streamed(name, BROKEN, { fallbacks: [STORY] }),
  refused: (name) => plain(name, "sim/echo", { previous_response_id: "resp_1" }),
};
for (const place of cutters.keys()) cases[`cut ${place}`] = (name) => cut(name, place);

for (const [name, run] of Object.entries(cases)) console.log(JSON.stringify({ name, outcome: await run(name) }));
