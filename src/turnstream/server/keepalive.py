"""One task for all open event streams and large answers.

It sends heartbeats on quiet streams and cuts stalled clients.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class ServedBody(Protocol):
    """A body that is being sent. Times are readings of the event loop's clock."""

    sending_since: float | None
    """Time since which the socket has accepted no bytes, as far as is known.

    None while nothing is being sent.
    """

    def has_progressed(self) -> bool:
        """Return True if the client has received bytes since the last call."""
        ...

    def drop(self) -> None: ...


class ServedStream(ServedBody, Protocol):
    """An event stream that is being served."""

    idle_since: float | None
    """Time since which the stream has waited for events. None while it sends."""

    @property
    def lag(self) -> int: ...

    def nudge(self) -> None: ...

    def drain(self) -> None: ...


class KeepAlive:
    """Sends heartbeats and cuts stalled clients.

    Args:
        heartbeat: Seconds after which a quiet stream has sent a comment, at the latest.
        stall_timeout: Seconds after which a stream or an answer is cut if its client receives nothing.
    """

    def __init__(self, *, heartbeat: float = 15.0, stall_timeout: float = 30.0) -> None:
        self.streams: set[ServedStream] = set()
        self.answers: set[ServedBody] = set()
        """Large JSON answers that are being sent."""
        self.dropped = 0
        """Streams and answers that have been cut since the start."""
        self._heartbeat = heartbeat
        self._stall_timeout = stall_timeout

    async def run(self) -> None:
        """Check all streams and answers until cancelled.

        The interval is a quarter of the heartbeat or of the stall timeout, whichever is shorter.
        """
        interval = min(self._heartbeat, self._stall_timeout) / 4
        while True:
            await asyncio.sleep(interval)
            self.check(asyncio.get_running_loop().time(), interval)

    def drain(self, grace: float) -> None:
        """Cut the streams whose clients reconnect, because the server stops. Other streams stay open.

        Args:
            grace: Seconds that turns may continue. At 0 all streams stay open for the ends of their turns.
        """
        for stream in list(self.streams) if grace > 0 else ():
            stream.drain()

    def check(self, now: float, interval: float) -> None:
        for stream in list(self.streams):
            if stream.sending_since is not None:
                self._check_for_stall(stream, now)
            elif stream.idle_since is not None and now - stream.idle_since >= self._heartbeat - 2 * interval:
                stream.nudge()
        for answer in list(self.answers):
            self._check_for_stall(answer, now)

    def _check_for_stall(self, body: ServedBody, now: float) -> None:
        if body.sending_since is None:
            return
        if body.has_progressed():  # slow, but steady
            body.sending_since = now
        elif now - body.sending_since >= self._stall_timeout:
            self.dropped += 1
            body.drop()
