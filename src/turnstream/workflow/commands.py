"""The commands of workflows: start, resume, state and cancel. A run's id is the id of its turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from turnstream.core.blocks import Block
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.core.turn_events import Data, TurnEvent
from turnstream.errors import Conflict, InvalidRequest, NotFound
from turnstream.store.base import Store, TurnRecord
from turnstream.store.queries import StoredEvents
from turnstream.turns.commands import Commands, StartedTurn
from turnstream.turns.histories import read_history
from turnstream.turns.new_turns import TurnRequest, TurnState
from turnstream.workflow.events import EVENT, STATE, WorkflowEvent
from turnstream.workflow.source import WorkflowSource
from turnstream.workflow.stage import RunContext
from turnstream.workflow.staged_workflow import Workflow
from turnstream.workflow.state import WorkflowState

_decode = msgspec.json.Decoder(TurnEvent).decode


class WorkflowReport(NamedTuple):
    """A run as it is now.

    Attributes:
        state: The state at the end of its last stage.
        events: The events of its stages that are stored.
    """

    turn: TurnRecord
    state: WorkflowState
    events: Sequence[WorkflowEvent]

    @property
    def needs_input(self) -> bool:
        """True if the run ended with a question to the user."""
        return self.turn.status == "complete" and self.state.question is not None


class WorkflowCommands:
    """Starts the runs of one workflow, and finds them again. Every command takes the owner."""

    def __init__(self, commands: Commands, workflow: Workflow) -> None:
        self._commands = commands
        self.workflow = workflow

    async def start(
        self, owner: str, query: str, request: TurnRequest, context: Mapping[str, Any] | None = None
    ) -> StartedTurn:
        """Start a run that answers `query`. The query is the user's turn. Raises the errors of `send`.

        Args:
            request: The chat, and the turn that the query follows. It has no blocks.
            context: See `Workflow.new_state`. Without a `chat_history`, the turns before the query are read.
        """
        state = self.workflow.new_state(query, context)
        if not state.query.strip():
            raise InvalidRequest("the query is empty: send a question")
        if not state.chat_history and request.prev_turn_id is not None:
            path = await read_history(self._commands.store, request.prev_turn_id)
            state.chat_history = [
                {"role": turn.role, "content": text} for turn, blocks in path if (text := text_of(blocks))
            ]
        asked = msgspec.structs.replace(request, blocks=(Block(0, "text", query),))
        return await self._commands.start(owner, asked, partial(self._source, state))

    async def resume(self, owner: str, turn_id: str, user_input: str | None = None) -> StartedTurn:
        """Continue a run as a new turn: after a failure, a stop or a crash, or with the user's answer.

        The stages that have ended do not run again, unless the run ended with a question. A second call with
        the same answer returns the turn of the first. A run that runs, or is complete, is returned as it is.

        Raises NotFound, StoreError, and InvalidRequest if a question has no answer.
        """
        report = await self.report(owner, turn_id)
        turn, state = report.turn, report.state
        if (turn.status == "complete" and not report.needs_input) or turn.status not in TERMINAL_STATUSES:
            return StartedTurn(None, (), turn, replayed=True)
        if report.needs_input and not user_input:
            raise InvalidRequest("the workflow has asked a question: give user_input")
        state.answered(user_input)
        request = TurnRequest(
            chat_id=turn.chat_id,
            blocks=(Block(0, "text", user_input),) if user_input else (),
            prev_turn_id=turn.id if user_input else turn.prev_turn_id,
            metadata=turn.metadata,
            idempotency_key=f"resume-{turn_id}",
            fingerprint=sha256((user_input or "").encode("utf-8", "surrogatepass")).hexdigest(),
        )
        return await self._commands.start(owner, request, partial(self._source, state))

    async def report(self, owner: str, turn_id: str) -> WorkflowReport:
        """Return a run as it is now.

        Raises StoreError, and NotFound if the turn is not a run of a workflow.
        """
        turn = (await self._commands.state(owner, turn_id)).turn
        found = await _stored_data(self._commands.store, turn_id)
        states = [data for name, data in found if name == STATE]
        if not states:
            raise NotFound("no such workflow")
        return WorkflowReport(turn, self._state(states[-1]), _events(found))

    async def cancel(self, owner: str, turn_id: str) -> TurnState:
        """Stop a run, and return its turn. A run that has ended stays as it is. Raises NotFound."""
        return await self._commands.interrupt(owner, turn_id)

    async def wait(self, owner: str, turn_id: str) -> WorkflowReport:
        """Wait until a run has ended, and return it. Raises NotFound, StoreError."""
        await self._commands.ended(turn_id)
        return await self.report(owner, turn_id)

    def _state(self, data: Any) -> WorkflowState:
        try:
            return msgspec.convert(data, self.workflow.state_type)
        except msgspec.ValidationError as error:
            raise Conflict(
                f"the state of this run belongs to another workflow ({error}): start a new run"
            ) from None

    def _source(self, state: WorkflowState, turn: TurnRecord) -> WorkflowSource:
        return self.workflow.source(state, turn=RunContext(turn.id, turn.owner, turn.metadata))


async def stage_events(store: Store, turn_id: str) -> list[WorkflowEvent]:
    """Return the stored events of a run's stages, in order. Raises StoreError."""
    return _events(await _stored_data(store, turn_id))


async def _stored_data(store: Store, turn_id: str) -> list[tuple[str, Any]]:
    """Return the names and the values of a turn's `data` events."""
    events = map(_decode, await store.read(StoredEvents(turn_id=turn_id)))
    return [(event.name, event.data) for event in events if isinstance(event, Data)]


def _events(found: Sequence[tuple[str, Any]]) -> list[WorkflowEvent]:
    return [msgspec.convert(data, WorkflowEvent) for name, data in found if name == EVENT]


def text_of(blocks: Sequence[Block]) -> str:
    """Return the text of a turn."""
    return "".join(block.text_content or "" for block in blocks if block.block_type == "text")
