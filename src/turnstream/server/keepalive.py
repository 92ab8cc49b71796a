"""One task that looks after all open event streams and large answers: heartbeats for quiet streams, an end for what is
stalled."""

from __future__ import annotations

import asyncio
from typing import Protocol


class ServedBody(Protocol):
    """A body being sent; times are of the event loop's clock."""

    sending_since: float | None
    """Since when its socket has taken nothing, as far as is known; None while nothing is being sent."""

    def took_some(self) -> bool:
        """Return True if the socket has taken bytes since the last call."""
        ...

    def drop(self) -> None: ...


class ServedStream(ServedBody, Protocol):
    """An event stream being served."""

    idle_since: float | None
    """Since when it waits for news; None while it sends."""

    @property
    def lag(self) -> int: ...

    def nudge(self) -> None: ...


class KeepAlive:
    """`heartbeat`: seconds after which a quiet stream sends a comment, at the latest. `stall_timeout`: seconds after
    which a stream or an answer whose socket takes nothing is cut."""

    def __init__(self, *, heartbeat: float = 15.0, stall_timeout: float = 30.0) -> None:
        self.streams: set[ServedStream] = set()
        self.answers: set[ServedBody] = set()
        """Large JSON answers under way."""
        self.dropped = 0
        """Streams and answers that were cut since the start."""
        self._heartbeat = heartbeat
        self._stall_timeout = stall_timeout

    async def run(self) -> None:
        """Look at all streams a few times per heartbeat, until cancelled."""
        interval = min(self._heartbeat, self._stall_timeout) / 4
        while True:
            await asyncio.sleep(interval)
            self.look(asyncio.get_running_loop().time(), interval)

    def look(self, now: float, interval: float) -> None:
        for stream in list(self.streams):
            if stream.sending_since is not None:
                self._look_for_stall(stream, now)
            elif stream.idle_since is not None and now - stream.idle_since >= self._heartbeat - 2 * interval:
                stream.nudge()
        for answer in list(self.answers):
            self._look_for_stall(answer, now)

    def _look_for_stall(self, body: ServedBody, now: float) -> None:
        if body.sending_since is None:
            return
        if body.took_some():  # slow, but steady
            body.sending_since = now
        elif now - body.sending_since >= self._stall_timeout:
            self.dropped += 1
            body.drop()
