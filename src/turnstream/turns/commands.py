"""The commands of turns: send, regenerate, interrupt and read.

Every command takes the owner. It raises NotFound for the id of another owner's chat or turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from turnstream.audit.records import AuditRecord
from turnstream.core.admission import plain_request_json
from turnstream.core.lifecycle import TERMINAL_STATUSES, has_executor
from turnstream.core.usage import CallAttempt
from turnstream.errors import InvalidRequest, NotFound
from turnstream.model_loop.sources import TurnSource
from turnstream.providers.capabilities import Capabilities
from turnstream.providers.catalog import Catalog, ListedModel
from turnstream.store.base import Store, TurnRecord
from turnstream.store.operations.start import StartTurns
from turnstream.store.queries import (
    AllBlocks,
    AttemptsOfTurn,
    FindIdempotent,
    GetTurn,
)
from turnstream.turns.approvals import ApprovalCommands
from turnstream.turns.chats import ChatCommands
from turnstream.turns.conversations import ConversationCommands
from turnstream.turns.histories import Path, read_history
from turnstream.turns.mirrors.mirrors import Mirrors
from turnstream.turns.mirrors.remote_turns import RemoteTurns
from turnstream.turns.model_turns import EncoderFactory, ExecutorOptions, MakeSource, ModelTurns
from turnstream.turns.new_turns import (
    KeysInUse,
    StartedTurn,
    TurnRequest,
    TurnState,
    alternative_of,
    client_ids_of,
    each_alternative,
    entries_of_question,
    idempotency_conflict,
    inherit_fields,
    read_started,
    user_turn,
)
from turnstream.turns.registry import Registry
from turnstream.turns.takeover.handing_over import HandOver
from turnstream.turns.takeover.recovery import TurnRecovery
from turnstream.turns.takeover.restarting import Restarts
from turnstream.turns.transient import TransientCommands


class Commands:
    """The engine's operations, without HTTP."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        catalog: Catalog,
        encoder: EncoderFactory,
        options: ExecutorOptions | None = None,
    ) -> None:
        self.store = store
        self.registry = registry
        self.conversations = ConversationCommands(store)
        self.keys = KeysInUse()
        self.catalog = catalog
        options = options or ExecutorOptions()
        registry.lease = options.node.lease
        self._models = ModelTurns(store, catalog, encoder, options, registry.measures.gaps)
        self.recovery = TurnRecovery(
            store, catalog, options.pricing, end_here=registry.end_lost, node=options.node
        )
        self.restarts = Restarts(store, options.node, registry, self._models, self.recovery)
        self.recovery.restart = self.restarts.restart
        self.hand_over = HandOver(store, options.node, registry)
        registry.hand_over = self.hand_over.run
        self.approvals = ApprovalCommands(store, registry, self._models, self.recovery)
        self._remote = RemoteTurns(store, options.node, self.recovery)
        self.mirrors = Mirrors(store, registry, self._models, self._remote)
        self.approvals.logs.mirrored = self.restarts.mirrored = self.mirrors.release
        self.chats = ChatCommands(store, registry, self.approvals, self._remote)
        self._transient = TransientCommands(registry, self._models)
        self._stores_turns = options.stores_turns
        self._audit = options.audit
        self.tools = options.tools

    async def close(self) -> None:
        """Stop the background work of commands. The rest of it is done after the next start."""
        await self.approvals.close()
        await self.recovery.close()
        await self.chats.close()
        await self.mirrors.close()

    def models(self) -> list[ListedModel]:
        """Return the models that turns may name: the providers' models, and the names in the settings."""
        return [*self.catalog.models(), *self._models.routing.listed()]

    def is_stored(self, *, store: bool | None) -> bool:
        """Return True if a turn has rows. `store`: the field of its request.

        Raises InvalidRequest if the request wants rows, and the settings exclude them.
        """
        if store and not self._stores_turns:
            raise InvalidRequest("this server stores no turns: leave out `store`", code="turns_not_stored")
        return self._stores_turns if store is None else store

    async def chat_for(self, owner: str, chat_id: str | None, *, store: bool | None) -> str:
        """Return the chat of a host application's turn: `chat_id`, a new one, or none for a transient turn.

        `store`: as in the turn's request. Raises InvalidRequest, StoreError.
        """
        if chat_id is None and self.is_stored(store=store):
            return (await self.chats.create(owner)).id
        return chat_id or ""

    def describe_model(self, name: str) -> tuple[str, Capabilities]:
        """Return the provider of a model that turns may name, and its capabilities. Raises InvalidRequest."""
        called, *_ = self._models.routing.names(name, None)
        return called.partition("/")[0], self.catalog.capabilities_of(called)

    async def send(self, owner: str, request: TurnRequest) -> StartedTurn:
        """Add a user turn and start the model's answer to it. A transient turn has no user turn.

        The model is called while the rows are being committed. Events are shown only after the commit. Raises
        NotFound, Conflict, InvalidRequest, Unavailable, AuthenticationFailed (no key), StoreError.
        """
        self.registry.admit()
        request = plain_request_json(request, "the request")
        return await self._once(owner, request, self._send)

    async def _send(self, owner: str, request: TurnRequest) -> StartedTurn:
        if not request.blocks and request.opening is None and not request.messages:
            raise InvalidRequest("turn_blocks is empty: a user turn needs at least one block")
        await self._require_chat(owner, request)
        path = await self._path(owner, request)
        request = inherit_fields(request, path)
        return await self._call(owner, request, path)

    async def regenerate(self, owner: str, turn_id: str, request: TurnRequest) -> StartedTurn:
        """Start another answer to a user turn: a new sibling. Raises the same errors as `send`.

        Args:
            turn_id: Id of the user turn, or of an existing answer to it.
            request: Has no blocks. Fields that are None are taken from that answer. If `turn_id` is the user
                turn, they are taken from the last assistant turn before it.
        """
        self.registry.admit()
        request = plain_request_json(request, "the request")
        turn = await self._turn(owner, turn_id)
        asked_id = turn.prev_turn_id if turn.role == "assistant" else turn.id
        path = await read_history(self.store, asked_id) if asked_id is not None else []
        if not path or path[-1][0].role != "user":
            raise InvalidRequest(
                "this turn does not answer a user turn: choose an assistant turn that follows a user turn"
            )
        request = msgspec.structs.replace(request, chat_id=turn.chat_id, prev_turn_id=asked_id)

        async def call(owner: str, request: TurnRequest) -> StartedTurn:
            return await self._call(owner, inherit_fields(request, [*path, (turn, ())]), path)

        return await self._once(owner, request, call)

    async def _call(self, owner: str, request: TurnRequest, path: Path) -> StartedTurn:
        """Start the model's answer to `path` and the request's blocks, if there are any."""
        is_stored = self.is_stored(store=request.store)
        if request.alternatives:
            return await self._call_alternatives(owner, request, path, is_stored=is_stored)
        request, source = await self._models.prepare(owner, request, path, is_stored=is_stored)
        started = await self._start(owner, request, source, with_user_turn=bool(request.blocks))
        if request.blocks or started.replayed or not path:
            return started
        return started._replace(answered=path[-1][1])

    async def _call_alternatives(
        self, owner: str, request: TurnRequest, path: Path, *, is_stored: bool
    ) -> StartedTurn:
        """Start several answers. All of them are prepared first, so that a refusal stores nothing."""
        if not is_stored:
            raise InvalidRequest(
                "a transient turn cannot have alternatives: leave out `alternatives`, or set `store` to true",
                code="alternatives_not_stored",
            )
        asked = [await self._models.prepare(owner, each, path) for each in each_alternative(request)]
        (first, source), *others = asked
        return await self._start(
            owner, first, source, with_user_turn=bool(request.blocks), alternatives=others
        )

    async def start(self, owner: str, request: TurnRequest, source: TurnSource | MakeSource) -> StartedTurn:
        """Start a turn whose content comes from `source`, or from the source that it returns for the turn.

        A user turn precedes it if `request` has blocks. Raises the same errors as `send`.
        """
        self.registry.admit()
        request = plain_request_json(request, "the request")

        def make(turn: TurnRecord) -> TurnSource:
            return self._models.redacted(source if isinstance(source, TurnSource) else source(turn))

        is_used = False

        async def start(owner: str, request: TurnRequest) -> StartedTurn:
            nonlocal is_used
            is_used = True
            await self._require_chat(owner, request)
            return await self._start(owner, request, make, with_user_turn=bool(request.blocks))

        started = await self._once(owner, request, start)
        if not is_used and isinstance(source, TurnSource):
            await source.close()
        return started

    async def interrupt(self, owner: str, turn_id: str) -> TurnState:
        """Stop a turn and return its state. A turn that has ended stays as it is. Raises NotFound."""
        turn = await self.store.read(GetTurn(owner=owner, turn_id=turn_id))
        if self._remote.is_elsewhere(turn):
            self._note_stop(owner, turn_id)
            await self._remote.stop(turn)
        while (executor := self.registry.executor(turn_id)) is not None:
            if executor.stop("cancelled"):
                self._note_stop(owner, turn_id)
            await executor.ended.wait()
            if not executor.waiting:  # it had begun to wait when it was stopped
                break
        else:
            if await self.approvals.end(turn_id):
                self._note_stop(owner, turn_id)
        return await self.state(owner, turn_id)

    def _note_stop(self, owner: str, turn_id: str) -> None:
        """Record a request to stop. It is never refused, because a running turn costs money."""
        if self._audit is not None:
            self._audit.note(AuditRecord(act="turn.stop", owner=owner, turn=turn_id, decision="allowed"))

    async def state(self, owner: str, turn_id: str) -> TurnState:
        """Return a turn and its blocks. Blocks that storage refused come from memory. Raises NotFound."""
        turn = await self._turn(owner, turn_id)
        blocks = tuple(await self.store.read(AllBlocks(turn_id=turn_id)))
        executor = self.registry.executor(turn_id)
        if executor is None and has_executor(turn.status):  # the turn has ended meanwhile, or waits
            turn = await self._turn(owner, turn_id)
            blocks = tuple(await self.store.read(AllBlocks(turn_id=turn_id)))
        if turn.status == "waiting":
            return TurnState(turn, blocks, None, (), tuple(await self.approvals.pending(turn_id)))
        if executor is None and self._remote.is_elsewhere(turn):
            return TurnState(turn, blocks, await self.mirrors.open_block(turn_id))
        if executor is None or turn.status in TERMINAL_STATUSES:
            return TurnState(turn, blocks, None, await self._attempts(turn))
        if executor.unsaved is not None:
            stored = {row.block.sequence for row in blocks}
            unsaved = (row for row in executor.unsaved.blocks if row.block.sequence not in stored)
            return TurnState(executor.turn, (*blocks, *unsaved), None, executor.unsaved.attempts)
        if turn.status == "pending" and executor.writer.marked:  # the write is not committed yet
            turn = msgspec.structs.replace(turn, status="streaming")
        open_block = executor.log.open_block
        return TurnState(turn, blocks, open_block.sequence if open_block is not None else None)

    async def _turn(self, owner: str, turn_id: str) -> TurnRecord:
        """Return a turn's row.

        First end a turn that a dead process left unfinished. Raises NotFound, StoreError.
        """
        turn = await self.store.read(GetTurn(owner=owner, turn_id=turn_id))
        if not self._is_lost(turn):
            return turn
        await self.recovery.end(turn)
        return await self.store.read(GetTurn(owner=owner, turn_id=turn_id))

    def _is_lost(self, turn: TurnRecord) -> bool:
        """Return True if a dead process left the turn unfinished."""
        is_here = has_executor(turn.status) and not self._remote.is_elsewhere(turn)
        return is_here and self.registry.get(turn.id) is None

    async def _attempts(self, turn: TurnRecord) -> tuple[CallAttempt, ...]:
        if turn.role == "user":
            return ()
        return tuple(await self.store.read(AttemptsOfTurn(turn_id=turn.id)))

    async def ended(self, turn_id: str) -> None:
        """Wait until a turn that is written in this process has ended."""
        if (executor := self.registry.executor(turn_id)) is not None:
            await executor.ended.wait()

    async def _once(
        self, owner: str, request: TurnRequest, start: Callable[[str, TurnRequest], Awaitable[StartedTurn]]
    ) -> StartedTurn:
        """Start a turn, or return the turns of an earlier request with the same idempotency key."""
        key = request.idempotency_key
        is_new = request.is_first_use and self.is_stored(store=request.store)
        if key is None or is_new:
            return await start(owner, request)
        first = msgspec.structs.replace(request, is_first_use=request.is_claimed)
        return await self._replayed(owner, request, key) or await start(owner, first)

    async def _replayed(self, owner: str, request: TurnRequest, key: str) -> StartedTurn | None:
        """Return the turns of an earlier request with the same idempotency key, or None.

        Raises Conflict if the earlier request was different.
        """
        if not self.is_stored(store=request.store):
            return self._transient.replayed(owner, request)
        found = await self.store.read(FindIdempotent(owner=owner, chat_id=request.chat_id, key=key))
        if found is None:
            return None
        fingerprint, user_turn_id, assistant_turn_id = found
        if fingerprint != request.fingerprint:
            raise idempotency_conflict()
        return await read_started(
            self.store, user_turn_id, assistant_turn_id, count=len(request.alternatives)
        )

    async def _require_chat(self, owner: str, request: TurnRequest) -> None:
        """Raise NotFound unless the owner has the chat, the request creates it, or the turn needs none."""
        if not request.chat_id and not self.is_stored(store=request.store):
            return
        if request.opening is None or request.opening.new_chat is None:
            await self.chats.require(owner, request.chat_id)

    async def _path(self, owner: str, request: TurnRequest) -> Path:
        path: Path = []
        if request.prev_turn_id is not None:
            self._transient.require_stored(request.prev_turn_id)
            path = await read_history(self.store, request.prev_turn_id, owner=owner)
            turn, _ = path[-1]
            if self._is_lost(turn):
                await self.recovery.end(turn)
                path = await read_history(self.store, turn.id, owner=owner)
            if turn.chat_id != request.chat_id:
                raise NotFound("prev_turn_id does not name a turn of this chat: list its turns")
        for imported in () if request.opening is None else request.opening.imported:
            path.append((imported.turn, tuple(row.block for row in imported.blocks)))
        return path

    async def _start(
        self,
        owner: str,
        request: TurnRequest,
        source: MakeSource,
        *,
        with_user_turn: bool,
        alternatives: Sequence[tuple[TurnRequest, MakeSource]] = (),
    ) -> StartedTurn:
        if not self.is_stored(store=request.store):
            if self._audit is not None:
                return await self._transient.start_audited(owner, request, source, self._audit)
            return self._transient.start(owner, request, source)
        user, user_blocks = user_turn(owner, request) if with_user_turn else (None, ())
        assistant = self._models.new_turn(owner, request, user)
        executor = self._models.executor(assistant)
        turns = [(self._models.new_turn(owner, asked, user), make) for asked, make in alternatives]
        operation = StartTurns(
            turn_id=assistant.id,
            owner=owner,
            user_turn=user,
            user_blocks=user_blocks,
            user_entries=await entries_of_question(request),
            assistant_turn=assistant,
            idempotency_key=request.idempotency_key,
            request_hash=request.fingerprint,
            client_ids=client_ids_of(request, user, assistant),
            opening=request.opening,
            alternatives=tuple(turn for turn, _ in turns),
        )
        if turns:
            self.registry.admit(1 + len(turns))  # then none of the reservations below fails
        read = source(assistant)
        self.registry.reserve(executor, read)
        launch = partial(self.registry.launch, executor, read)
        # Make the write first, so that the database works while the request to the model is made.
        writing = self.store.write(operation)
        key = request.idempotency_key
        is_early = key is None or (request.is_first_use and not self.registry.publishes)
        if is_early and self._audit is None:
            starting = executor.begin_with(writing)
            launch()
        else:  # the model is called only after the write shows that this is not a repetition, and its record
            starting = executor.begin_with(writing, launch)
        for number, (turn, make) in enumerate(turns):
            other, its_source = self._models.executor(turn), make(turn)
            self.registry.reserve(other, its_source)
            launch_other = partial(self.registry.launch, other, its_source)
            other.begin_with(alternative_of(starting, number), launch_other)
        if key is not None:
            self.keys.hold(owner, key, starting)
        # Shielded: a caller that disconnects during the write has started the turn all the same.
        started = await asyncio.shield(starting)
        if started.replayed:
            user_turn_id = started.user_turn.id if started.user_turn is not None else None
            count = 1 + len(turns) if turns else 0
            return await read_started(self.store, user_turn_id, started.assistant_turn.id, count=count)
        return StartedTurn(
            started.user_turn, user_blocks, started.assistant_turn, alternatives=started.alternatives
        )
