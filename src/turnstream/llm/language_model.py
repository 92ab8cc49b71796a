"""`LLM`: a model to call, with its fallbacks."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Never, Self, Unpack

from turnstream.config import (
    CapabilitySettings,
    PriceSettings,
    ProviderSettings,
    RetrySettings,
    Settings,
    Timeouts,
    load_settings,
    read_provider,
)
from turnstream.core.admission import plain_request_json
from turnstream.core.history import PastTurn, build_history
from turnstream.core.usage import Usage
from turnstream.errors import InvalidRequest
from turnstream.llm.approving import Approve, approvals_of
from turnstream.llm.call_options import CallOptions, check_options, misplaced_in_model
from turnstream.llm.call_planner import CallPlanner, ModelSelection
from turnstream.llm.callbacks import Callbacks
from turnstream.llm.conversation import Conversation, restored
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.loop_planners import LoopPlanners
from turnstream.llm.message_stream import MessageStream, StreamOptions
from turnstream.llm.model_calls import ModelCalls
from turnstream.llm.offering import ask_for, offer_of
from turnstream.llm.output import OutputFormat, OutputMode
from turnstream.llm.prompts import Prompt, past_turns
from turnstream.loop_thread import LoopThread
from turnstream.model_loop.model_source import ModelSource
from turnstream.model_loop.redacted_source import redacted_source
from turnstream.model_loop.sources import TurnSource
from turnstream.model_loop.tool_calls import ToolUse
from turnstream.providers.catalog import BUILT_IN, Catalog
from turnstream.providers.pricing import Pricing
from turnstream.safety.loading import configured_redaction
from turnstream.safety.redaction import Redaction
from turnstream.simulator.registration import SIMULATOR
from turnstream.tools.loading import limits_of
from turnstream.tools.runner import ToolLimits
from turnstream.tracebacks import short_tracebacks
from turnstream.wires.base import ModelRequest


@short_tracebacks
class LLM(ModelCalls):
    """A model to call, with its fallbacks.

        llm = LLM("anthropic/claude-sonnet-5-5", fallbacks=["openai/gpt-6.1-sol"])

    An LLM holds no messages: `conversation` returns an object that does. Any number of tasks, event loops and
    threads may use an LLM at once. It need not be closed.

    Raises ConfigurationError, and InvalidRequest for an invalid model name.

    Args:
        model: `provider/model`. None: the default of the settings, or of the first provider whose key is in
            the environment. `sim/demo` needs no key.
        fallbacks: Models to call, in this order, if the model fails. None: those of the settings.
        retry: Retry settings. None: those of the settings.
        providers: Providers by name, as in `[providers.NAME]`. They override the settings.
        prices: Prices by model, as in `[prices]`. They override the settings.
        capabilities: Capabilities by model, as in `[capabilities]`. They override the settings.
        settings: Settings, or a file. None: `turnstream.toml` if it exists, and the environment.
        tool_limits: Limits of the tools' time and rounds. None: those of the settings.
        approve: Called with an `ApprovalQuestion` for each call of a tool that asks, sync or async. Returns
            True, False, or `(False, reason)`. None: such calls are denied.
        redaction: Rules for the text that readers get, and for the text that providers get. None: those of
            the settings.
    """

    def __init__(  # noqa: PLR0913 - the one place where all parts of the library meet
        self,
        model: str | None = None,
        *,
        fallbacks: Sequence[str] | None = None,
        retry: RetrySettings | None = None,
        providers: Mapping[str, ProviderSettings | Mapping[str, Any]] | None = None,
        prices: Mapping[str, PriceSettings] | None = None,
        capabilities: Mapping[str, CapabilitySettings] | None = None,
        settings: Settings | str | Path | None = None,
        tool_limits: ToolLimits | None = None,
        approve: Approve | None = None,
        redaction: Redaction | None = None,
        **misplaced: Never,
    ) -> None:
        if misplaced:
            raise misplaced_in_model(misplaced, model)
        if isinstance(fallbacks, str):
            raise InvalidRequest(f"fallbacks is a list of models: fallbacks=[{fallbacks!r}]")
        found = settings if isinstance(settings, Settings) else load_settings(settings)
        self.settings = found
        described = _providers(found, providers or {})
        kinds = {**found.capabilities, **(capabilities or {})}
        default = found.engine.default_model
        spare = found.engine.fallbacks if found.stream.fallback_on_error else ()

        def calling() -> CallPlanner:
            catalog = Catalog(described, in_process=SIMULATOR, default_model=default, capabilities=kinds)
            return CallPlanner(catalog, retry or found.retry, found.models, spare)

        planner = calling()
        self.model = model or planner.catalog.default_model
        if model is None:
            planner.catalog.report_simulated_default()
        self._selection = ModelSelection(self.model, fallbacks if found.stream.fallback_on_error else ())
        self.models = tuple(planner.names(self._selection))
        """`provider/model` of each model that may answer, in order of preference."""
        planner.names(ModelSelection(self.model, fallbacks))
        self._takes_schemas = all(
            planner.catalog.capabilities_of(name).structured_output for name in self.models
        )
        self._limits = tool_limits or limits_of(found.tools)
        self._approve = approve
        self._redaction = configured_redaction(found.redaction) if redaction is None else redaction
        self._pricing = Pricing({**found.prices, **(prices or {})}, base_urls=planner.catalog.base_urls)
        self._callings = LoopPlanners(calling)
        super().__init__(LoopThread("turnstream llm", "llm"))
        weakref.finalize(self, self._thread.abandon)

    def __repr__(self) -> str:
        also = f", fallbacks={list(self.models[1:])!r}" if self.models[1:] else ""
        return f"LLM({self.model!r}{also})"

    # -- calls -------------------------------------------------------------------------------------------

    def _open(
        self, prompt: Prompt | None, output: type[Any] | None, options: CallOptions
    ) -> MessageStream[Any]:
        options = check_options(options)
        past = plain_request_json(past_turns(options.get("messages", ()), prompt), "the messages")
        if not build_history(past):
            raise InvalidRequest("the messages have no content to send to a model: add some text")
        shape = OutputFormat[Any](output) if output is not None else None
        as_tool = shape is not None and self._takes_output_by_tool(options.get("output_mode", "auto"))
        runs, rules = options.get("run_tools", True), self.settings.tools.ask
        offer = offer_of(options.get("tools", ()), self._limits, runs=runs, rules=rules)
        definitions = offer.definitions
        params = dict(options.get("params", {}))
        if shape is not None:
            definitions = ask_for(shape, definitions, params, as_tool=as_tool)
        asked = plain_request_json((options.get("system"), definitions, params), "the call")
        request = ModelRequest("", build_history(past), *asked)
        metadata = options.get("metadata", {})

        async def source(stream_id: str, live: LiveAnswer) -> TurnSource:
            plan = (await self._callings.get()).plan(self._selection, request)
            approvals = approvals_of(self._approve, self._limits.approval)
            use = ToolUse(offer.runner, offer.offered, stream_id, "local", metadata, approvals)

            async def read_past() -> Sequence[PastTurn]:
                return [*past, PastTurn("assistant", "streaming", tuple(live.fold.blocks))]

            source = ModelSource(plan, request, read_past, use, redaction=self._redaction.sent)
            return redacted_source(source, self._redaction)

        return MessageStream(
            source, self._stream_options(options.get("callbacks")), shape, output_as_tool=as_tool
        )

    def conversation(
        self, *, saved: str | bytes | None = None, **options: Unpack[CallOptions]
    ) -> Conversation:
        """Return a conversation, which keeps its messages. Raises InvalidRequest.

        Args:
            saved: An earlier conversation, from `Conversation.to_json`. `options` replace its parts.
            **options: See `CallOptions`. They apply to every call of the conversation.
        """
        options = check_options(options)
        given = options if saved is None else restored(saved, options)
        return Conversation(self._open, self._thread, given)

    # -- closing -----------------------------------------------------------------------------------------

    async def load_prices(self) -> None:
        """Load the prices of the models, in a thread, so that the first `message.cost` is fast."""
        calling = await self._callings.get()
        for name in self.models:
            provider, _, model = name.partition("/")
            wire = calling.catalog.wire_of(provider)
            await asyncio.to_thread(self._pricing.cost, provider, model, wire, Usage(0, 0))

    async def close(self) -> None:
        """Close the connections of the running event loop.

        Calling it is optional: connections are also closed when the loop shuts down, or the LLM is freed.
        """
        await self._callings.close()

    def close_sync(self) -> None:
        """End the thread of the streams without asyncio, and close its connections.

        Running streams are cancelled.
        """
        self._thread.close(self._callings.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_sync()

    # -- parts of a call ---------------------------------------------------------------------------------

    def _stream_options(self, callbacks: Callbacks | None) -> StreamOptions:
        stream = self.settings.stream
        return StreamOptions(
            stream.buffer_size,
            stream.update_interval,
            stream.update_buffer,
            stream.enabled,
            stream.tool_streaming,
            callbacks or Callbacks(),
            self._pricing,
        )

    def _takes_output_by_tool(self, mode: OutputMode) -> bool:
        """Return True if the model gets a tool for the typed answer.

        In mode `auto`, it gets one if a model takes no JSON Schema.
        """
        return mode == "tool" or (mode == "auto" and not self._takes_schemas)


def _providers(
    settings: Settings, given: Mapping[str, ProviderSettings | Mapping[str, Any]]
) -> dict[str, ProviderSettings]:
    """Return all providers. Those in `given` come first.

    A provider without its own `idle` timeout gets the stream's timeout as `idle`. It counts as set only if
    the settings set the stream's timeout: see `providers.clocks.limits_of`.
    """
    described: dict[str, ProviderSettings] = {}
    for name, one in given.items():
        described[name] = one if isinstance(one, ProviderSettings) else read_provider(name, one)
    for name, one in {**BUILT_IN, **settings.providers}.items():
        described.setdefault(name, one)
    for name, one in described.items():
        chosen = set(one.timeouts.model_fields_set)
        if "idle" not in chosen:
            if "timeout" in settings.stream.model_fields_set:
                chosen.add("idle")
            fields = dict(one.timeouts) | {"idle": settings.stream.timeout}
            timeouts = Timeouts.model_construct(chosen, **fields)
            described[name] = one.model_copy(update={"timeouts": timeouts})
    return described
