"""The engine: chooses the parts of a server and connects them.

    async with Engine("sqlite:///chats.sqlite") as engine:
        application.include_router(engine.router("/llm", dependencies=[Depends(signed_in)]))

A host application keeps an `Engine` open during its lifespan. Without a host application,
`engine.application()` returns the complete server.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

from starlette.requests import Request
from starlette.responses import Response

from turnstream import config
from turnstream.access import server_key
from turnstream.audit.loading import audited_parts
from turnstream.background_work import BackgroundWork, WorkingParts
from turnstream.core.blocks import Block
from turnstream.core.cursor import Cursor
from turnstream.core.turn_events import SourceEvent
from turnstream.dialects.native import NativeEncoder, chat_event_frame
from turnstream.dialects.relay.request import AgentPreset
from turnstream.model_loop.sources import ForeignSource, TurnSource
from turnstream.nodes.node import OwnNode
from turnstream.process_signals import HostSignals
from turnstream.providers.catalog import Catalog
from turnstream.providers.pricing import Pricing
from turnstream.providers.routing import Routing, planner_of
from turnstream.safety.loading import configured_redaction
from turnstream.safety.redaction import NO_REDACTION, Redaction
from turnstream.server.auth import (
    LOCAL,
    Authenticate,
    OriginKey,
    Principal,
    local_use,
    prepare_for,
    prepared_hook,
)
from turnstream.server.bodies import BodyBudget
from turnstream.server.context import ServerContext
from turnstream.server.keepalive import KeepAlive
from turnstream.server.live_turn import LiveTurn, turn_response
from turnstream.server.metrics import EngineMetrics
from turnstream.server.page.sessions import KeyOrSession
from turnstream.simulator.registration import SIMULATOR
from turnstream.store.sql import SqlStore
from turnstream.store.transient.store import LayeredStore
from turnstream.tools.base import Tool, ToolFunction, by_name
from turnstream.tools.call_spans import traced_tools
from turnstream.tools.loading import configured_tools
from turnstream.tools.runner import ToolRunner
from turnstream.turnlog.subscription import Subscription
from turnstream.turns.commands import Commands, TurnRequest
from turnstream.turns.ended_hooks import TurnEndHook, TurnEndHooks
from turnstream.turns.journal import JournalKeeper
from turnstream.turns.model_turns import ExecutorOptions, MakeSource
from turnstream.turns.owner_events.subscription import event_sources
from turnstream.turns.preparation import TurnPreparation
from turnstream.turns.registry import Registry
from turnstream.turns.watching import SubscriptionMaker

if TYPE_CHECKING:  # an engine that only runs turns loads no FastAPI and no routes
    from fastapi import APIRouter, FastAPI, params

    from turnstream.workflow.staged_workflow import Workflow

VERSION = version("turnstream")
PREFIX = "/api"
"""Default path prefix of the routes."""
NATIVE = ("native",)
Content: TypeAlias = str | Sequence[Block]


class Engine:
    """Runs turns, and holds their store and their watchers, in one event loop.

    Args:
        store_url: `sqlite:///PATH`, or `postgresql://USER@HOST/NAME`.
        settings: as `[engine]` of the configuration.
        providers: settings by provider name, as `[providers.NAME]` of the configuration.
        authenticate: returns the caller of a request. Default: serve this machine only, as one user.
        server: as `[server]` of the configuration, of which the engine uses all but the address and the key.
        tools: Python functions that models may call, or a ToolRunner with its own limits.
        prices: prices by `provider/model`, as `[prices]` of the configuration. They override the price list.
        retry, models, agents: as `[retry]`, `[models.NAME]`, `[agents.NAME]` of the configuration.
        capabilities: capabilities by `provider/model`. They override the built-in table.
        drain_seconds: seconds that turns may continue after SIGINT or SIGTERM. None: signals are not handled.
        prepare: function, sync or async, that changes a turn's model calls before the first of them.
        on_turn_end: function, sync or async, that is called at least once for each ended turn.
        redaction: rules for what watchers see, and for what providers get.
        workflow: the workflow of the staged agent's routes. None: these routes answer 404.
        audit, nodes, telemetry: as `[audit]`, `[nodes]`, `[telemetry]` (without logs) of the configuration.

    Raises ConfigurationError if one of them is invalid.
    """

    def __init__(  # noqa: PLR0913 - all parts of the server are connected here
        self,
        store_url: str = "sqlite:///turnstream.sqlite",
        *,
        settings: config.EngineSettings | None = None,
        providers: Mapping[str, config.ProviderSettings] | None = None,
        authenticate: Authenticate = local_use,
        server: config.ServerSettings | None = None,
        tools: Sequence[ToolFunction | Tool] | ToolRunner = (),
        prices: Mapping[str, config.PriceSettings] | None = None,
        retry: config.RetrySettings | None = None,
        models: Mapping[str, config.ModelSettings] | None = None,
        capabilities: Mapping[str, config.CapabilitySettings] | None = None,
        drain_seconds: float | None = 0.0,
        prepare: Callable[[TurnPreparation, Principal], object] | None = None,
        on_turn_end: TurnEndHook | None = None,
        agents: Mapping[str, config.AgentSettings] | None = None,
        redaction: Redaction = NO_REDACTION,
        workflow: Workflow | None = None,
        audit: config.AuditSettings | None = None,
        nodes: config.NodeSettings | None = None,
        telemetry: config.TelemetrySettings | None = None,
    ) -> None:
        server = server or config.ServerSettings()
        given = self.settings = settings or config.EngineSettings()
        default = given.default_model
        self.catalog = Catalog(
            providers or {}, in_process=SIMULATOR, default_model=default, capabilities=capabilities
        )
        self.pricing = Pricing(prices, base_urls=self.catalog.base_urls)
        self._store = SqlStore(store_url)
        nodes = nodes or config.NodeSettings()
        node = self._node = OwnNode(is_shared=self._store.is_shared, lease_seconds=nodes.lease)
        rows = LayeredStore(self._store, retention=given.retention)
        runner = tools if isinstance(tools, ToolRunner) else ToolRunner(by_name(tools), debug=server.debug)
        keys = config.Settings(server=server, providers=dict(providers or {}))
        self._audit, turns, runner, note = audited_parts(audit, rows, runner, keys)
        tracing, runner = traced_tools(telemetry, runner)
        self._registry = Registry(
            max_active=given.max_active_turns,
            retention=given.retention,
            orphan_timeout=given.orphan_timeout,
            transient=rows.transient,
        )
        self.commands = Commands(
            turns,
            self._registry,
            self.catalog,
            NativeEncoder,
            ExecutorOptions(
                given.ring_bytes,
                server.debug,
                runner,
                self.pricing,
                planner_of(retry or config.RetrySettings()),
                Routing(self.catalog, models, given.fallbacks),
                None if prepare is None else prepare_for(prepare),
                has_end_hook=on_turn_end is not None,
                stores_turns=given.store,
                redaction=redaction,
                audit=self._audit,
                node=self._node,
                tracing=tracing,
            ),
        )
        hooks = self._end_hooks = TurnEndHooks(turns, on_turn_end)
        self._watching = SubscriptionMaker(self.commands, NativeEncoder)
        self._events = event_sources(turns, self._watching, chat_event_frame)
        self._keep_alive = KeepAlive(heartbeat=given.heartbeat, stall_timeout=given.stall_timeout)
        self._journal = JournalKeeper(
            self._store, self._registry.journal_parts, interval=given.journal_interval, node=self._node
        )
        self._context = ServerContext(
            self.commands,
            self._watching,
            self._events,
            self._keep_alive,
            prepared_hook(authenticate, server.cors_origins, note),
            BodyBudget(),
            OriginKey(self._store),
            server.max_body_bytes,
            server.stop_on_disconnect,
            {name: AgentPreset(**dict(preset)) for name, preset in (agents or {}).items()},
            None if workflow is None else lambda: workflow,
            server.debug,
            None if tracing is None else tracing.note_request,
        )
        self.metrics = EngineMetrics(self._store, self._registry, self._journal, self._keep_alive, node)
        """Metrics for Prometheus: call `metrics.render()`, or add `metrics` to a registry."""
        self._server = server
        parts = WorkingParts(self._store, node, self._context, self._journal, hooks, given.title_model)
        self._background = BackgroundWork(parts)
        self._signals = HostSignals(self.drain, drain_seconds)

    @classmethod
    def from_settings(  # noqa: PLR0913 - the settings, and the objects that they cannot name
        cls,
        settings: config.Settings,
        *,
        store_url: str | None = None,
        authenticate: Authenticate | None = None,
        tools: Sequence[ToolFunction | Tool] | ToolRunner | None = None,
        drain_seconds: float | None = 0.0,
        prepare: Callable[[TurnPreparation, Principal], object] | None = None,
        on_turn_end: TurnEndHook | None = None,
        redaction: Redaction | None = None,
        workflow: Workflow | None = None,
    ) -> Self:
        """Return the engine that `turnstream serve` runs with these settings.

        Args:
            settings: Settings from `load_settings()`, which reads `turnstream.toml` and the environment.
            store_url: URL of the database. None: the URL of the settings.
            authenticate: Hook that returns the caller. None: the server's key, or local use if there is none.
            tools: Tools that models may call. None: the tools of the settings.
            drain_seconds, prepare, on_turn_end: As in the constructor.
            redaction: Rules in place of those of the settings.
            workflow: The staged agent. None: the default stages, with the default model and the tools.

        Raises ConfigurationError.
        """
        if authenticate is None:
            key = server_key(settings.server)
            authenticate = local_use if key is None else KeyOrSession(key)
        runner = configured_tools(settings.tools, tools, debug=settings.server.debug)
        engine = cls(
            store_url or settings.store.url,
            settings=settings.engine,
            providers=settings.providers,
            authenticate=authenticate,
            server=settings.server,
            tools=runner,
            prices=settings.prices,
            retry=settings.retry,
            models=settings.models,
            capabilities=settings.capabilities,
            drain_seconds=drain_seconds,
            prepare=prepare,
            on_turn_end=on_turn_end,
            agents=settings.agents,
            redaction=configured_redaction(settings.redaction) if redaction is None else redaction,
            workflow=workflow,
            audit=settings.audit,
            nodes=settings.nodes,
            telemetry=settings.telemetry,
        )
        engine._store.outage, engine._store.writers = settings.store.outage, settings.store.writers
        if workflow is None:

            def default_workflow() -> Workflow:
                from turnstream.workflow.loading import configured_workflow

                tools = engine.commands.tools
                return configured_workflow(engine.catalog.default_model, settings, tools, redaction)

            engine._context = engine._context._replace(workflow=default_workflow)
        return engine

    async def __aenter__(self) -> Self:
        """Open the store, end the turns that a stopped process left unfinished, and start to serve.

        Raises StoreError if the store cannot be opened, and ConfigurationError if the audit log cannot.
        """
        try:
            if self._audit is not None:
                await self._audit.open()
            await self._store.open()
            await self._background.start()
        except BaseException:
            await self._close_parts()
            raise
        self._signals.open()
        self.catalog.report_simulated_default()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the running turns and close all parts. If a signal began a drain, wait for its end first."""
        try:
            await self._signals.finish(self._registry.stop_all, at_once=kind is not None)
            await self._end_hooks.flush()
        finally:
            await self._close_parts()

    async def _close_parts(self) -> None:
        await self._signals.close()
        await self._background.stop()
        await self.commands.close()
        await self.catalog.close()
        if self._audit is not None:
            await self._audit.close()
        await self._store.close()

    async def load_prices(self) -> None:
        """Load the prices of all ready models. Else the first call of a model blocks for up to 0.3 s."""
        ready = (model for model in self.catalog.models() if model.ready)
        await self.pricing.load((model.provider, model.id.partition("/")[2]) for model in ready)

    async def drain(self, grace: float) -> None:
        """Stop accepting turns, wait up to `grace` seconds for running turns, and end the rest.

        Watchers of running turns get a notice first. If `grace` is not 0, clients that reconnect are cut.
        """
        self._keep_alive.drain(grace)
        await self._registry.drain(grace)
        self._events.changes.close()

    @property
    def active_turns(self) -> int:
        """Number of running turns."""
        return self._registry.active_count

    def router(
        self,
        prefix: str = PREFIX,
        dependencies: Sequence[params.Depends] = (),
        protocols: Sequence[str] = NATIVE,
    ) -> APIRouter:
        """Return the routes for a host application, under its prefix and behind its dependencies.

        `protocols`: names from `server.all_routes.PROTOCOLS`. Raises ConfigurationError for another name.
        """
        from turnstream.server.all_routes import build_router

        return build_router(self._context, prefix=prefix, dependencies=dependencies, protocols=protocols)

    def application(self) -> FastAPI:
        """Return the complete server as an ASGI application. Its lifespan opens and closes this engine."""
        from turnstream.server.complete_application import complete_application

        server = self._server
        return complete_application(
            self._context,
            version=VERSION,
            prefix=PREFIX,
            protocols=server.protocols,
            running=self,
            metrics=None if server.metrics == "off" else self.metrics,
            keyed_metrics=server.metrics == "key",
            health=self._background,
            cors_origins=server.cors_origins,
            with_chat=server.page,
        )

    async def send(
        self, content: Content, *, chat_id: str | None = None, owner: str = LOCAL.owner, **options: Any
    ) -> LiveTurn:
        """Start a turn in which a model answers `content`.

        Args:
            content: the user's message: a text, or blocks.
            chat_id: the chat of the turn. None: a new chat, or none for a turn with `store=False`.
            owner: the owner of the chat.
            options: fields of `TurnRequest`: model, system, params, prev_turn_id, metadata, store, messages.
        """
        chat = await self.commands.chat_for(owner, chat_id, store=options.get("store"))
        blocks = (Block(0, "text", content),) if isinstance(content, str) else tuple(content)
        request = TurnRequest(chat_id=chat, blocks=blocks, **options)
        return LiveTurn(self._context, owner, await self.commands.send(owner, request))

    async def start(
        self,
        source: TurnSource | MakeSource | AsyncIterable[SourceEvent | Sequence[SourceEvent]],
        *,
        chat_id: str | None = None,
        owner: str = LOCAL.owner,
        **options: Any,
    ) -> LiveTurn:
        """Start a turn whose content comes from `source`.

        Args:
            source: A `TurnSource`, a function that returns one for the turn's row, or an async iterable of
                StreamEvents and of turn events such as Data or Source, singly or in lists.
            chat_id: The chat of the turn. None: a new chat, or none for a turn with `store=False`.
            owner: The owner of the chat.
            options: Fields of `TurnRequest`. With `blocks`, a user turn precedes the turn.
        """
        chat = await self.commands.chat_for(owner, chat_id, store=options.get("store"))
        if isinstance(source, AsyncIterable):
            source = ForeignSource(aiter(cast("AsyncIterable[SourceEvent]", source)))
        request = TurnRequest(chat_id=chat, **options)
        return LiveTurn(self._context, owner, await self.commands.start(owner, request, source))

    async def subscribe(
        self, turn_id: str, *, owner: str = LOCAL.owner, after: Cursor | None = None, from_block: int = 0
    ) -> Subscription:
        """Watch a turn without HTTP. `await subscription.next()` returns frames, and None at the end."""
        return await self._watching.subscribe(owner, turn_id, after=after, from_block=from_block)

    async def response(
        self,
        request: Request,
        turn_id: str,
        *,
        principal: Principal | None = None,
        beginning: Cursor | None = None,
    ) -> Response:
        """Return the event stream of any turn, for a host application's own endpoint. See `turn_response`."""
        return await turn_response(self._context, request, turn_id, principal=principal, beginning=beginning)
