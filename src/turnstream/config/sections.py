"""The settings: one class for each table of `turnstream.toml`, with bounds and defaults."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
EnvironmentName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
BaseUrl: TypeAlias = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+[^\s]*$")]
ProviderName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
Dollars: TypeAlias = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
MODEL_PATTERN = r"^[^/\s]+/\S+$"
NamedModels: TypeAlias = Annotated[str, StringConstraints(pattern=MODEL_PATTERN)]
ModelName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^\S+$")]
FunctionName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[\w.]+:\w+$")]
Component: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.]*$")]


def _split_commas(value: object) -> object:
    """Split a string at commas. The environment and flags have no lists, so `a,b` is a list there."""
    if isinstance(value, str):
        return [piece.strip() for piece in value.split(",") if piece.strip()]
    return value


Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]
Origin: TypeAlias = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/*]+$")]
Origins: TypeAlias = Annotated[tuple[Origin, ...], BeforeValidator(_split_commas)]


Protocol: TypeAlias = Literal[
    "native",
    "ai_sdk",
    "ag_ui",
    "staged_agent",
    "relay",
    "openai_chat",
    "anthropic",
    "ollama",
    "openai_responses",
]
Protocols: TypeAlias = Annotated[tuple[Protocol, ...], BeforeValidator(_split_commas)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(_Section):
    """`[server]`: address, access and limits of the HTTP server."""

    host: str = "127.0.0.1"
    port: int = Field(default=8089, ge=0, le=65535)
    """Port to listen on. 0 takes a free port."""
    api_key_env: EnvironmentName = "TURNSTREAM_API_KEY"
    """Name of the environment variable that holds the key that clients must send."""
    max_body_bytes: int = Field(default=20 * 1024 * 1024, ge=1024)
    """Largest request body, in bytes. The default allows about 15 MB of images and documents."""
    drain_seconds: float | None = Field(default=None, ge=0, le=3600)
    """Seconds that running turns may continue after SIGTERM.

    None: 20 on an SQLite database, 300 on a PostgreSQL database, where other nodes serve meanwhile.
    """
    debug: bool = False
    """True to show clients the inner messages of errors: of providers, tools, storage and exceptions."""
    cors_origins: Origins = ()
    """Origins of web pages that may use the API from a browser, such as `https://app.example`."""
    protocols: Protocols = get_args(Protocol)
    """Protocols that clients may speak."""
    stop_on_disconnect: Protocols = ("openai_chat", "anthropic", "ollama")
    """Protocols in which a client stops its turn by closing the connection. In others the turn continues."""
    metrics: Literal["open", "key", "off"] = "key"
    """Access to `/metrics`: "key" for callers that may use the API, "open" for all, "off" for none."""
    page: bool = True
    """False to show only a plain page at `/`, without the chat."""


class StoreSettings(_Section):
    """`[store]`: the database."""

    url: str = Field(default="sqlite:///turnstream.sqlite", min_length=1)
    """SQLAlchemy URL. A relative SQLite path starts at the working directory."""
    outage: float = Field(default=30.0, ge=0, le=600)
    """Seconds that writes wait for a PostgreSQL server that is lost. Then they fail with `database_error`."""
    writers: int = Field(default=2, ge=1, le=16)
    """Transactions of a node that write to PostgreSQL at once, each on its own connection. SQLite has one."""


class NodeSettings(_Section):
    """`[nodes]`: several processes on one PostgreSQL. Other databases have one process."""

    lease: float = Field(default=10.0, ge=1, le=600)
    """Seconds after the last heartbeat of a node in which no other node takes over its turns."""


class AuditSettings(_Section):
    """`[audit]`: the audit log."""

    path: str | None = Field(default=None, min_length=1)
    """File of the log. A relative path starts at the working directory. None: there is no audit log."""
    max_bytes: int = Field(default=16 * 1024 * 1024, ge=64 * 1024)
    """Size, in bytes, at which a file of the log is closed and the next one begins."""


class EngineSettings(_Section):
    """`[engine]`: defaults of turns, timeouts and memory limits."""

    default_model: NamedModels | None = None
    """`provider/model` for turns that do not name a model.

    None: the first model of the first provider that is ready.
    """
    fallbacks: Names = ()
    """Models, as `provider/model`, that are called in this order if a turn's own model fails."""
    title_model: NamedModels | None = None
    """`provider/model` that makes the title of a chat after its first answer.

    None: no model makes titles. The calls count in the tokens and the cost of that answer.
    """
    journal_interval: Seconds = 0.1
    """Seconds of output of an open block that may be lost if the process is killed."""
    retention: Seconds = 600.0
    """Seconds that an ended turn stays in memory. A turn without rows is lost after that."""
    store: bool = True
    """False for turns without rows: they are in memory only, and are lost if the process ends."""
    orphan_timeout: Seconds = 300.0
    """Seconds without output after which a running turn is ended."""
    heartbeat: Annotated[float, Field(gt=0, le=15)] = 15.0
    """Seconds between comments on a quiet event stream."""
    stall_timeout: Seconds = 30.0
    """Seconds after which a watcher that reads nothing is disconnected."""
    ring_bytes: int = Field(default=64 * 1024, ge=4096)
    """Bytes of recent events that are kept in memory for each turn."""
    max_active_turns: int = Field(default=10_000, ge=1)


class RetrySettings(_Section):
    """`[retry]`: how model calls are retried.

    `[engine] fallbacks` names the models that are called instead.
    """

    attempts: int = Field(default=3, ge=1, le=6)
    """Calls of one model for one answer, including the first call."""
    delay: Seconds = 1.0
    """Approximate seconds before the second call. The delay doubles for each further call."""
    max_delay: Seconds = 30.0
    """Longest delay between calls, in seconds.

    If a provider asks for more, the call waits only if no other model is left.
    """
    budget: Seconds = 120.0
    """Seconds for delays and for calls without output, after which a model is given up.

    Each model has its own budget.
    """
    silence: Seconds = 10.0
    """Seconds without output after which the fallbacks are called before the silent model is called again."""
    spacing: Seconds = 1.5
    """Seconds within which at most two calls of one model start."""
    circuit_failures: int = Field(default=5, ge=1, le=1000)
    """Consecutive failures of a model that open its circuit."""
    circuit_seconds: Seconds = 30.0
    """Seconds that an open circuit blocks calls. Then one probe at a time is let through."""


class ModelSettings(_Section):
    """One `[models.NAME]`: the model and the fallbacks of a name. NAME is an alias or a `provider/model`."""

    model: str | None = Field(default=None, pattern=r"^[^/\s]+/\S+$")
    """The `provider/model` that the alias NAME refers to."""
    fallbacks: Names | None = None
    """Fallbacks of this model. None: `engine.fallbacks`."""


class AgentSettings(_Section):
    """One `[agents.NAME]`: an agent that clients of the relay name."""

    model: ModelName | None = None
    """`provider/model`, or a name of `[models]`. None: the default model."""
    system: str | None = None
    """System prompt."""
    tools: Names = ()
    """Names of the tools that the agent may call."""
    params: dict[str, Any] = Field(default={})
    """Parameters of its model calls."""
    active: bool = True
    """False to refuse messages to the agent."""


class ToolSettings(_Section):
    """`[tools]`: tools that models may call, and their limits."""

    functions: Names = ()
    """Python functions that models may call, as `package.module:function`."""
    builtin: bool = False
    """True to also offer the built-in tools calculator and clock."""
    timeout: Seconds = 30.0
    """Seconds that one call may take, unless its function sets another limit."""
    parallel: int = Field(default=8, ge=1, le=64)
    """Tool calls of one turn that run at the same time."""
    soft_rounds: int = Field(default=8, ge=1, le=100)
    """Tool rounds after which the model is asked to finish its turn."""
    rounds: int = Field(default=10, ge=1, le=100)
    """Tool rounds after which the turn is ended."""
    ask: dict[str, Literal["never", "first", "always"]] = Field(default={})
    """Rules of approval by tool name. They override the rules of the functions."""
    approval_timeout: Seconds = 3600.0
    """Seconds that a call waits for its approval. Then it counts as denied."""


class RedactionPattern(_Section):
    """`[redaction.patterns.NAME]`: a rule of your own."""

    pattern: str = Field(min_length=1)
    """A regular expression without look-around, back references and lazy repetitions."""
    replacement: str | None = None
    """Text in place of a match. None: `[NAME]`."""
    function: FunctionName | None = None
    """Python function, `package.module:function`. It gets a match and returns the text in its place."""


class RedactionSettings(_Section):
    """`[redaction]`: what is hidden from watchers and from providers.

    Rules are names of built-in rules (api_key, card, email, iban, phone, private_key) and of patterns.
    """

    shown: Names = ()
    """Rules for the content of answers, before it is stored and shown."""
    sent: Names = ()
    """Rules for the conversation and the system prompt that providers get."""
    patterns: dict[Component, RedactionPattern] = {}
    """Rules of your own, by name."""


class StreamSettings(_Section):
    """`[stream]`: how the library streams. `[retry]` limits how often models are called."""

    enabled: bool = True
    """True to deliver an answer as it arrives, False to deliver it when it is complete."""
    buffer_size: int = Field(default=256, ge=1, le=1_000_000)
    """Size of the read-ahead buffer, in events."""
    timeout: Seconds = 60.0
    """Seconds without output in the middle of an answer after which the call is given up.

    The provider's `idle` overrides it.
    """
    tool_streaming: bool = True
    """True to deliver a tool call's arguments as they arrive, False to deliver complete arguments."""
    fallback_on_error: bool = True
    """True to fall back to other models if the first model fails."""
    update_interval: Annotated[float, Field(ge=0, le=60)] = 0.1
    """Seconds between two updates of a screen."""
    update_buffer: int = Field(default=50, ge=1)
    """Largest number of events that wait for the next update of a screen."""


class TelemetrySettings(_Section):
    """`[telemetry]`: logs, and OpenTelemetry."""

    log_level: LogLevel = "info"
    format: Literal["text", "json"] = "text"
    """Format of a log record: a line of text, or a JSON object."""
    debug: Names = ()
    """Components that log at debug level in spite of `log_level`.

    Each is a module path below turnstream, such as `turns.executor`, or a short name: client, accumulator,
    events.
    """
    levels: dict[Component, LogLevel] = {}
    """Log levels by component, named as in `debug`."""
    opentelemetry: bool = False
    """True for traces and metrics of turns, model calls and tools. It needs `turnstream[otel]`."""
    record_content: bool = False
    """True to put the texts of conversations, and what tools get and return, into the traces."""


class PriceSettings(_Section):
    """One `[prices."provider/model"]`, in US dollars per million tokens. `*` in the name matches any text.

    Tokens that are read from a cache or written to it cost as much as other input, unless they have their own
    price.
    """

    input_per_million: Dollars
    output_per_million: Dollars
    cache_read_per_million: Dollars | None = None
    cache_write_per_million: Dollars | None = None


class CapabilitySettings(_Section):
    """One `[capabilities."provider/model"]`: overrides of the built-in table.

    `*` in the name matches any text. Fields that are None keep the value of the table.
    """

    prefill: bool | None = None
    """True if the model continues an answer whose beginning is in the request."""
    images: bool | None = None
    documents: bool | None = None
    """True if the model reads PDF files."""
    tools: bool | None = None
    thinking: Literal["budget", "effort", "switch", "none"] | None = None
    """Form of the request's option that controls thinking: token budget, effort level, on/off, or none."""
    thinks: bool | None = None
    """True if the model thinks by default. It may be silent for minutes, so its deadlines are longer."""
    reasoning_field: str | None = Field(default=None, min_length=1)
    """Field, such as `reasoning_content`, in which tool calls must be sent back with their thinking.

    Used by the wire openai-chat.
    """
    structured_output: bool | None = None
    context_tokens: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)


class Timeouts(_Section):
    """Deadlines of one model call, in seconds.

    If `first_token` and `idle` are not set, they are shorter while a fallback is left, and longer for a model
    that thinks. See `providers.clocks.limits_of`.
    """

    connect: Seconds = 10.0
    first_token: Seconds = 300.0
    """Seconds until the first output."""
    idle: Seconds = 120.0
    """Seconds between two pieces of output. Pings, empty deltas and usage do not count as output."""
    total: Seconds = 900.0
    """Seconds that the call may wait for the provider in total."""
    grace: Seconds = 1.0
    """Seconds between the stop reason and the end marker, while the connection stays open.

    After that, the answer counts as complete.
    """


class ProviderSettings(_Section):
    """One `[providers.NAME]`.

    Fields that are None have the values of the built-in provider NAME, if it exists.
    """

    wire: str | None = None
    base_url: BaseUrl | None = None
    api_key_env: EnvironmentName | None = None
    region: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$")] | None = None
    """AWS region, for the wire bedrock. None: AWS_REGION. It replaces `{region}` in `base_url`."""
    headers: dict[str, str] = Field(default={}, repr=False)
    """Headers that are sent with every call."""
    models: Names = ()
    timeouts: Timeouts = Timeouts()
    event_limit: int | None = Field(default=None, ge=1024)
    """Largest event, in bytes. None: the wire's own limit."""
    on_malformed: Literal["fail", "skip"] = "fail"
    """Reaction to an event that is not valid for the wire: fail the call, or skip the event with a notice."""
    trust_env: bool | None = None
    """True to use the proxies of the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).

    None: True, unless the provider is on this machine.
    """
    context_overflow: tuple[re.Pattern[str], ...] = ()
    """Regular expressions that match this provider's errors for a conversation beyond the context window.

    They extend the built-in ones and ignore case. After such an error, a model with a larger window is
    called.
    """
    think_tags: Names = ()
    """Models that write their thinking between `<think>` tags.

    The tagged text becomes thinking blocks. `*` in a name matches any text.
    """


class Settings(_Section):
    """All settings. Each field is a table of `turnstream.toml`."""

    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    nodes: NodeSettings = NodeSettings()
    audit: AuditSettings = AuditSettings()
    engine: EngineSettings = EngineSettings()
    retry: RetrySettings = RetrySettings()
    models: dict[ModelName, ModelSettings] = {}
    agents: dict[str, AgentSettings] = {}
    tools: ToolSettings = ToolSettings()
    redaction: RedactionSettings = RedactionSettings()
    stream: StreamSettings = StreamSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    providers: dict[ProviderName, ProviderSettings] = {}
    prices: dict[NamedModels, PriceSettings] = {}
    capabilities: dict[NamedModels, CapabilitySettings] = {}
