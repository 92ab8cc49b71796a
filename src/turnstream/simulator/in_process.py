"""The simulated provider without a socket. A wire's encoder makes the bytes, and its decoder reads them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import chain

from turnstream.config import Timeouts
from turnstream.core.origin import Origin
from turnstream.core.stream_events import MessageStop, StreamError, StreamEvent
from turnstream.errors import ConnectionFailed, ProviderError, ProviderTimeout, StreamIncomplete
from turnstream.providers.base import Patience
from turnstream.providers.clocks import WaitClocks, is_output
from turnstream.providers.conversations import request_for, run_work, with_origin
from turnstream.simulator.actions import Action, CutConnection, Hang, Refuse, ResetConnection, Send, Stall
from turnstream.simulator.fault_names import REDACTING_WIRES
from turnstream.simulator.options import parse_model_name
from turnstream.simulator.outages import Outages
from turnstream.simulator.playback import PlayContext, play
from turnstream.simulator.whole_answer import play_whole
from turnstream.wires import WIRES
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Decoder, ModelRequest, Wire, rest_of
from turnstream.wires.shared.failure_words import reclassified
from turnstream.wires.shared.plain_answer import PlainAnswerDecoder

_WRITES_PER_TURN = 16
"""Writes without a pause after which other tasks may run."""


class SimulatedProvider:
    """Answers from scripts. See `providers.base.Provider`, and `simulator.options` for the names of models.

    Only the socket is missing: the wire encodes and decodes both request and answer, and a fault raises the
    error that an HTTP provider would raise.
    """

    def __init__(self, name: str = "sim", wire: Wire | None = None, timeouts: Timeouts | None = None) -> None:
        self.name = name
        self.wire = wire or WIRES["anthropic"]
        self.timeouts = timeouts or Timeouts()
        self.outages = Outages()

    def stream(self, request: ModelRequest) -> _SimulatedCall:
        """Return the call. See `Provider.stream`."""
        return _SimulatedCall(self, request)

    async def close(self) -> None:
        """Do nothing, as nothing is open."""


def _wire_for(model: str, wire: Wire) -> Wire:
    """Return the wire of a model: `wire`, or the first that can express the model's fault."""
    try:
        fault = parse_model_name(model).options.fault
    except ProviderError:
        return wire  # the provider refuses the request
    wires = REDACTING_WIRES.get(fault, (wire.name,))
    return wire if wire.name in wires else WIRES[wires[0]]


class _SimulatedCall:
    _actions: Iterator[Action]

    def __init__(self, provider: SimulatedProvider, request: ModelRequest) -> None:
        self._provider = provider
        self._request = request
        wire = self._wire = _wire_for(request.model, provider.wire)
        self._origin = Origin(wire.name, provider.name, request.model)
        self._decoder: Decoder = (
            wire.decoder() if request.stream else PlainAnswerDecoder(wire, DEFAULT_EVENT_LIMIT)
        )
        self._clocks = WaitClocks(provider.timeouts)
        self._silent = 0.0
        self._unpaced = 0
        self._stopped = False
        self._is_over = False
        self._broken: ProviderError | None = None

    def wait_with(self, patience: Patience) -> None:
        """Choose the clocks. See `providers.base.AdjustableClocks`."""
        self._clocks = WaitClocks(self._provider.timeouts, patience)

    async def __aenter__(self) -> AsyncIterator[Sequence[StreamEvent]]:
        provider = self._provider
        wire = self._wire
        self._due = asyncio.get_running_loop().time()
        first = await run_work(self._request.messages, self._first_action)
        match first:
            case Refuse(status, headers, body):
                raise reclassified(wire.decode_error(status, headers, body))
            case ResetConnection():
                raise ConnectionFailed(
                    f"{provider.name}: the connection was lost before an answer", retryable=True
                )
            case Hang():
                await self._wait(math.inf)
            case None:
                pass
            case _:
                self._actions = chain((first,), self._actions)
        return self

    def _first_action(self) -> Action | None:
        wire = self._wire
        post = wire.encode_request(request_for(self._request, self._origin))
        asked = wire.decode_request(post.path, post.body)
        player = play if self._request.stream else play_whole
        self._actions = player(asked, wire, PlayContext(outages=self._provider.outages))
        return next(self._actions, None)

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True

    def __aiter__(self) -> _SimulatedCall:
        return self

    async def __anext__(self) -> Sequence[StreamEvent]:
        try:
            while not self._is_over:
                if events := await self._step(next(self._actions, None)):
                    return self._inspect_batch(events)
        except (ProviderTimeout, StreamIncomplete) as error:
            failure = error
        except BaseException:
            self._is_over = True
            raise
        else:
            if self._broken is not None:
                raise self._broken
            raise StopAsyncIteration
        return self._whole_answer(failure)

    async def _step(self, action: Action | None) -> list[StreamEvent]:
        match action:
            case Send(delay, data):
                await self._wait(delay)
                return self._decoder.feed(data)
            case Stall(ping, every):
                await self._wait(every or math.inf)
                self._actions = iter((action,))
                return self._decoder.feed(ping)
            case CutConnection() | ResetConnection():
                raise StreamIncomplete(f"{self._provider.name}: the answer broke off")
            case None:
                self._is_over = True
                return self._decoder.close()
            case Refuse() | Hang():
                raise AssertionError("Refuse and Hang can only be the first action")

    async def _wait(self, delay: float) -> None:
        """Wait `delay` seconds, as a provider does while it makes the next data. Raises ProviderTimeout.

        Delays count from the start, so a slow consumer does not wait.
        """
        self._due += delay
        wait = self._due - asyncio.get_running_loop().time()
        if wait <= 0:
            self._unpaced += 1
            if self._unpaced % _WRITES_PER_TURN == 0:
                await asyncio.sleep(0)
            return
        if not self._stopped and self._decoder.finish is not None:
            self._clocks.finish_seen(self._provider.timeouts.grace)
        patience = self._clocks.patience() - self._silent
        if wait > patience:
            await asyncio.sleep(patience)
            raise self._clocks.timeout_error()
        await asyncio.sleep(wait)
        self._silent += wait

    def _inspect_batch(self, events: list[StreamEvent]) -> list[StreamEvent]:
        clocks, has_output = self._clocks, is_output(events)
        clocks.waited += self._silent
        clocks.quiet = 0.0 if has_output else clocks.quiet + self._silent
        self._silent = 0.0
        if not clocks.output:
            events = with_origin(events, self._origin)
            if has_output:
                clocks.output_began()
        for event in events:
            if type(event) is MessageStop:
                self._stopped = True
            elif type(event) is StreamError:
                self._is_over = True
        return events

    def _whole_answer(self, failure: ProviderError) -> list[StreamEvent]:
        """Return the last events. An answer that is complete is valid, even if its connection failed."""
        self._is_over = True
        if isinstance(failure, ProviderTimeout) and self._decoder.finish is not None:
            events = self._decoder.end()
        else:
            events, incomplete = rest_of(self._decoder)
            if incomplete is not None:
                self._broken = failure
                events += failure.held if isinstance(failure, StreamIncomplete) else ()
        if events:
            return self._inspect_batch(events)
        if self._stopped:
            raise StopAsyncIteration
        raise failure
