"""The settings: one class for each table of `turnstream.toml`, with bounds and defaults."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

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
Component: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.]*$")]


def _split_commas(value: object) -> object:
    """A list may be written `a,b` where the source holds only strings: the environment, a flag."""
    if isinstance(value, str):
        return [piece.strip() for piece in value.split(",") if piece.strip()]
    return value


Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]
Origin: TypeAlias = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/*]+$")]
Origins: TypeAlias = Annotated[tuple[Origin, ...], BeforeValidator(_split_commas)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ServerSettings(_Section):
    """`[server]`: where it listens, and what it takes and tells."""

    host: str = "127.0.0.1"
    port: int = Field(default=8089, ge=0, le=65535)
    """0 takes a free port."""
    api_key_env: EnvironmentName = "TURNSTREAM_API_KEY"
    """The environment variable that holds the key clients must send."""
    max_body_bytes: int = Field(default=20 * 1024 * 1024, ge=1024)
    """Bytes of a request's body: images and documents of about 15 MB in all."""
    drain_seconds: float = Field(default=20.0, ge=0, le=3600)
    """How long running turns may go on after SIGTERM."""
    debug: bool = False
    """Show clients the provider's own error texts."""
    cors_origins: Origins = ()
    """Origins of web pages that may use the API from a browser, such as `https://app.example`."""
    metrics: Literal["open", "key", "off"] = "key"
    """Who may read `/metrics`: whoever may use the API, anybody, or nobody."""


class StoreSettings(_Section):
    """`[store]`: the database."""

    url: str = Field(default="sqlite:///turnstream.sqlite", min_length=1)
    """A SQLAlchemy URL; a relative SQLite path starts at the working directory."""


class EngineSettings(_Section):
    """`[engine]`: what turns are given where they say nothing, and how long things are kept and waited for."""

    default_model: NamedModels | None = None
    """`provider/model` for turns that name none; None leaves the choice to what is configured."""
    fallbacks: Names = ()
    """`provider/model` of those that are called, in this order, where a turn's own fails."""
    journal_interval: Seconds = 0.1
    """Seconds of an open block that a killed process may lose."""
    retention: Seconds = 600.0
    """Seconds that an ended turn stays in memory."""
    orphan_timeout: Seconds = 300.0
    """Seconds of silence after which a running turn is ended."""
    heartbeat: Annotated[float, Field(gt=0, le=15)] = 15.0
    """Seconds between comments on a quiet event stream."""
    stall_timeout: Seconds = 30.0
    """Seconds after which a watcher whose socket takes nothing is dropped."""
    ring_bytes: int = Field(default=64 * 1024, ge=4096)
    """Memory of one turn's recent events."""
    max_active_turns: int = Field(default=10_000, ge=1)


class RetrySettings(_Section):
    """How calls of models are tried again: see `[engine] fallbacks` for what is called instead."""

    attempts: int = Field(default=3, ge=1, le=6)
    """Calls of one model for one answer, the first included."""
    delay: Seconds = 1.0
    """Seconds before the second call, about; twice as long before each further one."""
    max_delay: Seconds = 30.0
    """Seconds that such a wait may grow to. A provider that asks for more is waited for only where no other model is
    left."""
    budget: Seconds = 120.0
    """Seconds that waiting for a model, and its calls that brought nothing, may take before it is given up. Each model
    that may answer has its own."""
    silence: Seconds = 10.0
    """Seconds without output after which the fallbacks are called before the silent model is called again."""
    spacing: Seconds = 1.5
    """No more than two calls of one model begin within so many seconds."""
    circuit_failures: int = Field(default=5, ge=1, le=1000)
    """Failures of a model in a row after which it is not called for a while."""
    circuit_seconds: Seconds = 30.0
    """That while; then one call at a time probes it."""


class ModelSettings(_Section):
    """One `[models.NAME]`: a name of your own for a model, or a `provider/model`, with what is called where it fails."""

    model: str | None = Field(default=None, pattern=r"^[^/\s]+/\S+$")
    """The `provider/model` that NAME stands for."""
    fallbacks: Names | None = None
    """In place of `engine.fallbacks`."""


class ToolSettings(_Section):
    """`[tools]`: the tools that models may call, and their limits."""

    functions: Names = ()
    """Python functions that models may call, each `package.module:function`."""
    builtin: bool = False
    """Offer the built-in tools too: calculator and clock."""
    timeout: Seconds = 30.0
    """Seconds that one call may take, where its function sets no other limit."""
    parallel: int = Field(default=8, ge=1, le=64)
    """Calls of one turn that run at once."""
    soft_rounds: int = Field(default=8, ge=1, le=100)
    """Rounds of tools after which a model is asked to finish its turn."""
    rounds: int = Field(default=10, ge=1, le=100)
    """Rounds of tools after which its turn is ended."""


class StreamSettings(_Section):
    """`[stream]`: how the library streams; `[retry]` says how often models are called."""

    enabled: bool = True
    """Show an answer as it comes; otherwise once it is whole."""
    buffer_size: int = Field(default=256, ge=1, le=1_000_000)
    """Events that are read ahead of whoever reads the stream."""
    timeout: Seconds = 60.0
    """Seconds of silence in the middle of an answer after which it is given up, where a provider's own `idle` is not set."""
    tool_streaming: bool = True
    """Show a tool call's arguments as they come; otherwise once they are whole."""
    fallback_on_error: bool = True
    """Go on with the fallback models where the first fails."""
    update_interval: Annotated[float, Field(ge=0, le=60)] = 0.1
    """Seconds between two updates of a screen."""
    update_buffer: int = Field(default=50, ge=1)
    """Events that wait for the next update at most."""


class TelemetrySettings(_Section):
    """`[telemetry]`: logs."""

    log_level: LogLevel = "info"
    format: Literal["text", "json"] = "text"
    """Log lines for people, or JSON objects for machines."""
    debug: Names = ()
    """Components logged at debug level whatever `log_level` says: module paths below turnstream, `turns.executor`, or
    one of the short names client, accumulator, events."""
    levels: dict[Component, LogLevel] = {}
    """A level for each component, named as in `debug`."""


class PriceSettings(_Section):
    """One `[prices."provider/model"]`, in US dollars per million tokens; `*` in the name stands for anything.

    What is read from a cache or written to it costs as much as other input unless it has its own price.
    """

    input_per_million: Dollars
    output_per_million: Dollars
    cache_read_per_million: Dollars | None = None
    cache_write_per_million: Dollars | None = None


class CapabilitySettings(_Section):
    """One `[capabilities."provider/model"]`: what the model can do, where that is known better here; `*` in the name
    stands for anything. What is left out stays as it was known."""

    prefill: bool | None = None
    """It goes on with an answer that it is given the beginning of."""
    images: bool | None = None
    documents: bool | None = None
    """It reads PDF files."""
    tools: bool | None = None
    thinking: Literal["budget", "effort", "switch", "none"] | None = None
    """How it is told how much to think."""
    thinks: bool | None = None
    """It thinks unless it is told not to, and may be silent for minutes: its clocks are longer."""
    reasoning_field: str | None = Field(default=None, min_length=1)
    """The field (`reasoning_content`) in which it needs its thinking back beside tool calls, on the wire openai-chat."""
    structured_output: bool | None = None
    context_tokens: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)


class Timeouts(_Section):
    """The clocks of one model call, in seconds.

    `first_token` and `idle`, if they are not set, are shorter while another model can take over, and longer for a model
    that thinks: see `providers.clocks.limits_of`.
    """

    connect: Seconds = 10.0
    first_token: Seconds = 300.0
    """Until the first output."""
    idle: Seconds = 120.0
    """Between two pieces of output. Pings, empty deltas and usage do not count."""
    total: Seconds = 900.0
    """All waiting of the call."""
    grace: Seconds = 1.0
    """Between the provider's reason why the answer ended and its end marker, if the connection stays open. Then the
    answer is complete."""


class ProviderSettings(_Section):
    """One `[providers.NAME]`. What is None comes from the built-in provider of that name, where there is one."""

    wire: str | None = None
    base_url: BaseUrl | None = None
    api_key_env: EnvironmentName | None = None
    region: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$")] | None = None
    """Of AWS, for the wire bedrock; None leaves it to AWS_REGION. `{region}` in `base_url` stands for it."""
    headers: dict[str, str] = Field(default={}, repr=False)
    """Sent with every call."""
    models: Names = ()
    timeouts: Timeouts = Timeouts()
    event_limit: int | None = Field(default=None, ge=1024)
    """Bytes that one event may have; None leaves the wire's own limit."""
    on_malformed: Literal["fail", "skip"] = "fail"
    """Whether an event that is none of its wire ends the call, or is skipped with a notice."""
    trust_env: bool | None = None
    """Take proxies from the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY). None: yes, unless the provider is on this machine."""
    context_overflow: tuple[re.Pattern[str], ...] = ()
    """Regular expressions, in any case, for the words in which this provider says that a conversation is longer than the
    model reads; beside those that are known. A model that reads more is then asked."""
    think_tags: Names = ()
    """Models whose text has its thinking between `<think>` tags, which then becomes thinking blocks; `*` in a name
    stands for anything."""


class Settings(_Section):
    """All settings; each field is a table of `turnstream.toml`."""

    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    engine: EngineSettings = EngineSettings()
    retry: RetrySettings = RetrySettings()
    models: dict[ModelName, ModelSettings] = {}
    tools: ToolSettings = ToolSettings()
    stream: StreamSettings = StreamSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    providers: dict[ProviderName, ProviderSettings] = {}
    prices: dict[NamedModels, PriceSettings] = {}
    capabilities: dict[NamedModels, CapabilitySettings] = {}
