"""Turns that models answer: their tools, the sources of their content, and their executors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import msgspec

from turnstream.audit.trail import AuditTrail
from turnstream.core.blocks import Block, Message
from turnstream.core.history import PastTurn, build_history
from turnstream.errors import Conflict, InvalidRequest
from turnstream.model_loop.accounts import TurnAccount
from turnstream.model_loop.model_call import ModelCall
from turnstream.model_loop.model_source import ModelSource
from turnstream.model_loop.position import LoopPosition
from turnstream.model_loop.redacted_source import redacted_source
from turnstream.model_loop.sources import TurnSource
from turnstream.model_loop.tool_calls import ResumedStep, ToolUse
from turnstream.nodes.node import OwnNode
from turnstream.providers.base import CalledModel
from turnstream.providers.catalog import Catalog
from turnstream.providers.conversations import run_work
from turnstream.providers.plan import PlannedModel, Planner
from turnstream.providers.pricing import Pricing
from turnstream.providers.routing import Routing
from turnstream.safety.redaction import NO_REDACTION, Redaction
from turnstream.store.approvals import WasApproved
from turnstream.store.base import Store, TurnRecord
from turnstream.store.queries import AllBlocks, AttemptsOfTurn
from turnstream.telemetry.measures import Histogram
from turnstream.telemetry.tracing import Tracing
from turnstream.tools.asking import NO_APPROVALS, Approvals
from turnstream.tools.base import Tool
from turnstream.tools.ledger import NoLedger, ToolLedger
from turnstream.tools.runner import ToolRunner
from turnstream.turnlog.base import FrameEncoder
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.ring import DEFAULT_LIMIT
from turnstream.turns.executor import Executor
from turnstream.turns.histories import Path, read_history
from turnstream.turns.new_turns import TurnRequest, assistant_turn
from turnstream.turns.preparation import CallPreparer, PrepareHook
from turnstream.turns.tool_ledger import StoredLedger
from turnstream.wires.base import ModelRequest, ToolDefinition

EncoderFactory: TypeAlias = Callable[[str, int], FrameEncoder]
MakeSource: TypeAlias = Callable[[TurnRecord], TurnSource]


class ExecutorOptions(NamedTuple):
    """Settings of new turns.

    Attributes:
        ring_limit: Bytes of recent events that a turn's log keeps.
        debug: True to show clients the providers' own error texts.
        tools: Runs the tools of the host application.
        pricing: Prices of models. None: no cost is computed.
        prepare: Prepares the first model call of each turn, or None.
        has_end_hook: True if the host application has a hook for ended turns.
        stores_turns: False if no turn has rows.
        redaction: Rules for what is shown, and for what is sent to providers.
        audit: The audit log, or None.
        node: This process, which runs the turns.
        tracing: Makes the spans of turns, or None.
    """

    ring_limit: int = DEFAULT_LIMIT
    debug: bool = False
    tools: ToolRunner = ToolRunner({})
    pricing: Pricing | None = None
    planner: Planner | None = None
    routing: Routing | None = None
    prepare: PrepareHook | None = None
    has_end_hook: bool = False
    stores_turns: bool = True
    redaction: Redaction = NO_REDACTION
    audit: AuditTrail | None = None
    node: OwnNode = OwnNode()
    tracing: Tracing | None = None


class _PlannedCall(NamedTuple):
    """The first call of a turn, the models to call, and the names of the tools that run here.

    `past`: the conversation before the turn, if it is not stored with the turn.
    """

    request: ModelRequest
    models: Sequence[PlannedModel]
    offered: tuple[str, ...]
    past: Sequence[PastTurn] | None = None


class ModelTurns:
    """Makes the sources and the executors of turns.

    Args:
        encoder: Makes the encoder of a turn's frames.
        gaps: Histogram of the seconds between two batches of a stream.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        encoder: EncoderFactory,
        options: ExecutorOptions,
        gaps: Histogram | None = None,
    ) -> None:
        self.tools = options.tools
        self.routing = options.routing or Routing(catalog)
        self._store = store
        self._catalog = catalog
        self._encoder = encoder
        self._options = options
        self._gaps = gaps
        self._planner = options.planner or Planner()
        self._preparer = options.prepare and CallPreparer(options.prepare, self._planner, self.routing)
        self.has_end_hook = options.has_end_hook
        self.node = options.node
        self._lease = options.node.lease if options.node.is_shared else None

    def new_turn(self, owner: str, request: TurnRequest, user: TurnRecord | None) -> TurnRecord:
        """Return the row of the turn that answers `user`, or follows `request.prev_turn_id`."""
        return assistant_turn(owner, request, user, awaits_hook=self.has_end_hook, node=self.node.id)

    async def prepare(
        self, owner: str, request: TurnRequest, path: Path, *, is_stored: bool = True
    ) -> tuple[TurnRequest, MakeSource]:
        """Return the request as it is stored, and a function that makes the source of its turn.

        Raises InvalidRequest, Conflict, and AuthenticationFailed if there is no key.

        Args:
            path: The turns before the new one.
            is_stored: False for a transient turn.
        """
        if not is_stored:
            tools = tools_that_never_ask(request.tools, self.tools.tools, "transient turns")
            request = msgspec.structs.replace(request, tools=tools)
        target = request.model or self._catalog.default_model
        name, *_ = self.routing.names(target, request.fallbacks)
        definitions, offered = self._tools_of(request.tools)
        given = tuple(tool.name if tool.name in offered else tool for tool in definitions)
        request = msgspec.structs.replace(request, model=name, asked_model=target, tools=given)
        call = ModelRequest(target, (), request.system, definitions, request.params or {})
        before = _limited(path, request.history_limit, 0 if request.blocks else 1)
        past = _past(before, request.blocks, request.messages)
        planned = await self._planned(call, offered, request.fallbacks, past)
        planned = planned._replace(past=None if is_stored else past)
        return request, partial(self._source, owner, planned)

    async def continued(self, turn: TurnRecord, path: Path, resumed: ResumedStep | None = None) -> TurnSource:
        """Return the source of a turn that continues. Raises the errors of `prepare`.

        Args:
            turn: The turn, with the generation of the executor that continues it.
            path: The turns up to this one. This one is included if a step is resumed.
            resumed: The step at which the turn continues. None: the turn begins again.
        """
        known = self.tools.tools
        tools = tuple(tool for tool in turn.tools or () if not isinstance(tool, str) or tool in known)
        definitions, offered = self._tools_of(tools)
        target = turn.asked_model or turn.model or self._catalog.default_model
        call = ModelRequest(target, (), turn.system, definitions, turn.params)
        own = 1 if resumed is None else 2
        past = _past(_limited(path, turn.history_limit, own), ())
        planned = await self._planned(call, offered, turn.fallbacks, past)
        return self._source(turn.owner, planned, turn, resumed)

    async def _planned(
        self,
        call: ModelRequest,
        offered: tuple[str, ...],
        fallbacks: Sequence[str] | None,
        past: Sequence[PastTurn],
    ) -> _PlannedCall:
        messages = await run_work(past, partial(_history, past))
        request = msgspec.structs.replace(call, messages=messages)
        needs_key = self._preparer is None  # the hook may give one
        models = self.routing.models(call.model, fallbacks, request, needs_key=needs_key)
        return _PlannedCall(request, models, offered)

    def _source(
        self, owner: str, planned: _PlannedCall, turn: TurnRecord, resumed: ResumedStep | None = None
    ) -> TurnSource:
        if planned.past is None:
            approvals = Approvals(partial(self._was_approved, turn.chat_id))
            past = partial(self._past_of, turn.id, turn.history_limit)
            ledger: ToolLedger = StoredLedger(self._store, turn, self._options.redaction.shown)
        else:
            approvals, ledger = NO_APPROVALS, NoLedger()
            past = partial(self._past_of_transient, planned.past, turn.id)
        use = ToolUse(self.tools, planned.offered, turn.id, owner, turn.metadata, approvals, ledger)
        plan = self._planner.plan(planned.models, owner=owner)
        prepare = None if self._preparer is None else partial(self._preparer.prepare, turn)
        sent = self._options.redaction.sent
        source = ModelSource(
            plan, planned.request, past, use, resumed=resumed, prepare=prepare, redaction=sent
        )
        return self.redacted(source)

    def redacted(self, source: TurnSource) -> TurnSource:
        """Return a source whose content is redacted by the rules of the engine."""
        return redacted_source(source, self._options.redaction)

    async def _past_of(self, turn_id: str, limit: int | None) -> Sequence[PastTurn]:
        """Return the turns up to now, including the stored blocks of this turn.

        Args:
            limit: Turns before the question. None: all.
        """
        return _past(_limited(await read_history(self._store, turn_id), limit, 2), ())

    async def _past_of_transient(self, past: Sequence[PastTurn], turn_id: str) -> Sequence[PastTurn]:
        """Return the turns before a transient turn, and this turn with its blocks up to now."""
        rows = await self._store.read(AllBlocks(turn_id=turn_id))
        return [*past, PastTurn("assistant", "streaming", tuple(row.block for row in rows))]

    async def _was_approved(self, chat_id: str, tool_name: str) -> bool:
        return await self._store.read(WasApproved(chat_id=chat_id, tool_name=tool_name))

    def _tools_of(
        self, asked: Sequence[str | ToolDefinition] | None
    ) -> tuple[tuple[ToolDefinition, ...], tuple[str, ...]]:
        """Return the tools that the model is given, and the names of those that run here.

        Raises InvalidRequest, and Conflict if two tools have the same name.
        """
        known = self.tools.tools
        wanted = tuple(known) if asked is None else asked
        definitions: dict[str, ToolDefinition] = {}
        offered: list[str] = []
        for tool in wanted:
            if isinstance(tool, str):
                if tool not in known:
                    raise InvalidRequest(
                        f"there is no tool called {tool} here; there are: {', '.join(known) or 'none'}",
                        code="unknown_tool",
                    )
                offered.append(tool)
            name, definition = (tool, known[tool].definition) if isinstance(tool, str) else (tool.name, tool)
            if name in definitions:
                raise Conflict(f"two tools are called {name}: rename one", code="duplicate_tool")
            definitions[name] = definition
        return tuple(definitions.values()), tuple(offered)

    # -- executors ---------------------------------------------------------------------------------------

    def log_of(self, turn: TurnRecord) -> TurnLog:
        """Return a new log of a turn."""
        encoder = self._encoder(turn.id, turn.generation)
        return TurnLog(turn.id, turn.generation, encoder, ring_limit=self._options.ring_limit)

    def executor(self, turn: TurnRecord, *, is_stored: bool = True) -> Executor:
        """Return the executor of a new turn. `is_stored`: False for a transient turn."""
        account = TurnAccount(self._options.pricing)
        lease = self._lease if is_stored else None
        log = self.log_of(turn)
        executor = Executor(turn, log, self._store, account, lease=lease, debug=self._options.debug)
        executor.is_stored = is_stored
        return self._measured(executor)

    async def account_of(self, turn: TurnRecord) -> TurnAccount:
        """Return the account of a turn that continues, with its ended calls. Raises StoreError."""
        attempts = await self._store.read(AttemptsOfTurn(turn_id=turn.id))
        calls = [ModelCall.of(attempt, self._model_of(attempt.model)) for attempt in attempts]
        return TurnAccount(self._options.pricing, calls)

    def next_executor(
        self, turn: TurnRecord, log: TurnLog, account: TurnAccount, position: LoopPosition, *, kept: int
    ) -> Executor:
        """Return the executor that continues a turn at `position`.

        Args:
            turn: The turn, with the generation of the new executor.
            log: The turn's log, at the last event that survived.
            kept: Number of complete blocks of the turn that stay.
        """
        lease, debug = self._lease, self._options.debug
        executor = Executor(turn, log, self._store, account, position=position, lease=lease, debug=debug)
        executor.writer.blocks_completed = kept
        return self._measured(executor)

    def _measured(self, executor: Executor) -> Executor:
        executor.progress.gaps = self._gaps
        executor.tracing = self._options.tracing
        return executor

    def _model_of(self, name: str) -> CalledModel:
        provider, _, model = name.partition("/")
        wire = self._catalog.wire_of(provider) if provider in self._catalog.names else ""
        return CalledModel(provider, model, wire)


def tools_that_never_ask(
    asked: tuple[str | ToolDefinition, ...] | None, known: Mapping[str, Tool], who: str
) -> tuple[str | ToolDefinition, ...] | None:
    """Return the tools of a turn that cannot wait for approvals.

    Raises InvalidRequest (`approval_impossible`) if a tool that asks first is requested by name.

    Args:
        asked: The requested tools. None: all tools that run here, of which those that ask are left out.
        known: Tools that run here, by name.
        who: The turns or clients, for the message.
    """
    asking = {name for name, tool in known.items() if tool.ask != "never"}
    if not asking:
        return asked
    if asked is None:
        return tuple(name for name in known if name not in asking)
    if refused := sorted(tool for tool in asked if isinstance(tool, str) and tool in asking):
        raise InvalidRequest(
            f"the tool {refused[0]} asks first, and {who} cannot wait for an answer: leave it out",
            code="approval_impossible",
        )
    return asked


def _past(path: Path, blocks: tuple[Block, ...], messages: Sequence[Message] = ()) -> list[PastTurn]:
    turns = [PastTurn(turn.role, turn.status, kept) for turn, kept in path]
    turns += [PastTurn(message.role, "complete", message.blocks) for message in messages]
    return [*turns, PastTurn("user", "complete", blocks)] if blocks else turns


def _limited(path: Path, limit: int | None, own: int) -> Path:
    """Return the last `own` turns of a path, and at most `limit` turns before them.

    Args:
        limit: Turns to keep. Those before the first user turn among them are left out. None: all.
        own: Number of turns at the end that stay: the question, and the answer so far.
    """
    if limit is None:
        return path
    end = len(path) - own
    last = path[max(0, end - limit) : end]
    first = next((place for place, (turn, _) in enumerate(last) if turn.role == "user"), len(last))
    return [*last[first:], *path[end:]]


def _history(past: Sequence[PastTurn]) -> tuple[Message, ...]:
    messages = build_history(past)
    if not messages and any(block.block_type == "tool_result" for turn in past[-1:] for block in turn.blocks):
        raise Conflict(
            "the tool_result does not answer a call of the turn before, and there is no text to send: "
            "give the prev_turn_id of the turn with the call, or some text",
            code="unknown_tool_use",
        )
    if not messages:
        raise InvalidRequest("turn_blocks have no content to send to a model: add some text")
    return messages
