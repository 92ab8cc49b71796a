"""The one task that writes a turn: a driver reads the turn's source into its writer, and then the turn ends.

    driver ─► writer: a block is finished: store it ─► append its block_stop ─► …
       └─► the outcome ─► one transaction, then the terminal event

No delta is awaited. An interrupt reaches the executor only while it waits for its source. A write that has
begun is always completed, so the turn's last blocks and its status are decided together, here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from turnstream.errors import StaleGeneration, TurnstreamError
from turnstream.model_loop.accounts import TurnAccount
from turnstream.model_loop.driver import LoopDriver
from turnstream.model_loop.position import LoopPosition
from turnstream.model_loop.source_shutdown import SourceKilled, close_in_time
from turnstream.model_loop.sources import PendingApproval, TurnSource
from turnstream.model_loop.traced_calls import traced_calls, traced_message
from turnstream.nodes.lease import Lease
from turnstream.store.base import OutcomeRecord, Store, TurnRecord
from turnstream.store.journal.items import TurnItems
from turnstream.store.journal.pages import JournalPart, JournalSegment
from turnstream.telemetry.tracing import Tracing, TurnSpan
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.publishing import LogPublisher
from turnstream.turns.ending import STOPPED, add_cancelled
from turnstream.turns.finishing import Rest
from turnstream.turns.histories import read_history
from turnstream.turns.interruption import TaskStopped
from turnstream.turns.turn_task import TurnTask
from turnstream.wires.base import StoredAnswer

logger = logging.getLogger(__name__)


class Executor(TurnTask):
    """Runs one turn. `run` is the body of its only task. All methods are called from the same event loop."""

    def __init__(  # noqa: PLR0913 - the position of a turn that continues comes by name
        self,
        turn: TurnRecord,
        log: TurnLog,
        store: Store,
        account: TurnAccount | None = None,
        *,
        position: LoopPosition | None = None,
        lease: Lease | None = None,
        debug: bool = False,
    ) -> None:
        super().__init__(turn, log, store, lease=lease, debug=debug)
        self._store = store
        self._driver = LoopDriver(self.writer, account or TurnAccount(), position)
        self._driver.on_account = self.writer.save_account
        self._named: str | None = None
        """Id of the stored answer that the journal names."""
        self._rest: Rest | None = None
        """Blocks that were not stored when the end was decided."""
        self.tracing: Tracing | None = None
        """Makes the turn's span. None: it has none."""
        self.takeover_part: JournalPart | None = None
        """Part of the journal with which the turn's generation begins. None: it took no turn over."""

    @property
    def answer_headers(self) -> Mapping[str, str]:
        """Headers of the last answer of a provider."""
        return self._driver.answer_headers

    def journal_part(self, *, whole: bool = False) -> JournalPart | None:
        """Return what the journal needs of the turn since the last call, or None.

        Args:
            whole: Return all that the store does not have, even what is being stored. Then the store may
                still fail.
        """
        journal = self.writer.journal
        if not self.writer.committed.is_set():
            return self.takeover_part if whole else None
        if whole:
            self._named = None
            return self._with_answer(journal.whole_part(self.log))
        is_settled = not self.writer.busy and self.outcome is None
        return self._with_answer(journal.next_part(self.log, is_settled=is_settled))

    def _with_answer(self, part: JournalPart | None) -> JournalPart | None:
        """Add the answer that the provider stores to a part, unless an earlier part names it."""
        source = self._source
        identity = None if source is None else source.answer_id
        if identity is None or identity == self._named or not isinstance(self.writer.journal, LogPublisher):
            return part
        if source is None or source.called is None or isinstance(part, JournalSegment):
            return part
        self._named = identity
        items = () if part is None else part.items
        return TurnItems(self.turn.id, items, StoredAnswer(self.step, source.called.name, identity))

    @property
    def step(self) -> int:
        """Number of the current step."""
        return self._driver.step

    @property
    def moves_smoothly(self) -> bool:
        """True if another node can continue the current step, and watchers see nothing withdrawn.

        Either the step has shown nothing and runs no tool, or the provider stores its answer.
        """
        return self._driver.is_silent or self._driver.shows_stored_answer

    async def run(self, source: TurnSource) -> None:
        """Write the turn to its end, or until it waits for approvals.

        Raises only cancellations that come from outside, and exceptions that end the process. The registry
        ends the turn then (`end_lost`).
        """
        if self.tracing is None:
            await self._run(source)
            return
        account, turn = self._driver.account, self.turn
        span, earlier = self.tracing.begin_turn(turn.id, turn.chat_id, turn.model), len(account.calls)
        try:
            await self._run(source)
            if span.records_content and self.outcome is not None:
                await self._note_content(span)
        finally:
            outcome = self.outcome
            status = outcome.status if outcome is not None else "waiting" if self.waiting else "lost"
            error = None if outcome is None else outcome.error_code
            span.end(status, error, traced_calls(account.calls[earlier:]))

    async def _run(self, source: TurnSource) -> None:
        self._decided = await self._outcome(source)
        await self.writer.committed.wait()
        is_over = self.superseded or self.abandoned or self._interruption.detached
        if self._decided is not None and not is_over:
            await self._end(self._decided)

    async def _note_content(self, span: TurnSpan) -> None:
        """Put the conversation into the turn's span."""
        try:
            path = await read_history(self._store, self.turn.id)
        except TurnstreamError as error:
            logger.warning("the texts of turn %s are not traced: %s", self.turn.id, error)
            return
        if not path:
            return  # the chat was deleted
        *given, answer = [traced_message(turn.role, blocks, turn.stop_reason) for turn, blocks in path]
        span.note_messages(given, answer)

    async def _outcome(self, source: TurnSource) -> OutcomeRecord | None:
        """Read the source to its end. Return the turn's outcome, or None if the turn waits for approvals."""
        pending: Sequence[PendingApproval] = ()
        try:
            source.begin(self.notify)
            reason = await self._driver.run(source)
            sequence = self._driver.stop_sequence
            outcome = OutcomeRecord(status="complete", stop_reason=reason, stop_sequence=sequence)
            pending = source.pending
        except TaskStopped:
            outcome = self._stopped()
        except StaleGeneration:
            self.supersede()
            outcome = self._stopped()
        except TurnstreamError as error:
            outcome = self._failed(error)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit, SourceKilled):
            raise
        except BaseException as error:  # an exception of a source ends only its turn
            logger.exception("turn %s failed unexpectedly", self.turn.id)
            outcome = self._failed(error)
        self._decided = None if pending else outcome
        if outcome.status != "complete" and not self.superseded:
            source.give_up()
        await close_in_time(source.close(), self.writer.label)
        return await self._wait_for(pending) if pending else outcome

    async def _wait_for(self, pending: Sequence[PendingApproval]) -> OutcomeRecord | None:
        """Let the turn wait for approvals. Return its outcome if it was stopped meanwhile, or cannot wait."""
        if self._interruption.cause is not None:
            return self._stopped()
        try:
            await self.writer.start_waiting(pending, self._driver.step, self._driver.account)
        except TurnstreamError as error:
            return self._failed(error)
        return None

    def _stopped(self) -> OutcomeRecord:
        return STOPPED[self._interruption.cause or "cancelled"]

    async def _finish(self, outcome: OutcomeRecord) -> None:
        """Decide the end, then store and show it. After this call nothing can change the end."""
        self._finisher.outcome = outcome
        await self._driver.account.ready()
        if self._rest is None:
            self._rest = self._take_rest(outcome)
        await self._finisher.finish(outcome, self._rest)

    def _take_rest(self, outcome: OutcomeRecord) -> Rest:
        """Take the remaining blocks out of the accumulator, and the final account."""
        accumulator, account = self._driver.accumulator, self._driver.account
        events, cuts = accumulator.cut()
        summary = account.end(
            accumulator.usage,
            accumulator.raw_usage,
            cut=[cut.block for cut in cuts],
            complete=outcome.status == "complete",
            outcome=outcome.error_code or outcome.status,
        )
        if self._source is not None and outcome.status != "complete":
            calls = self._source.unanswered()
            add_cancelled(calls, accumulator.next_sequence, outcome, events, cuts)
        report = account.pending_report(summary)
        final_events = () if report is None else (report,)
        return Rest(events, cuts, summary, final_events)
