"""One task that looks after all open event streams: heartbeats for quiet ones, an end for stalled ones (A2, C4)."""

from __future__ import annotations

import asyncio
from typing import Protocol


class OpenStream(Protocol):
    """A stream being served; times are of the event loop's clock."""

    idle_since: float | None
    """Since when it waits for news; None while it sends."""
    sending_since: float | None
    """Since when its socket has taken nothing, as far as is known; None while it waits."""

    @property
    def lag(self) -> int: ...

    def took_some(self) -> bool:
        """Return True if the socket has taken bytes since the last call."""
        ...

    def nudge(self) -> None: ...

    def drop(self) -> None: ...


class KeepAlive:
    """`heartbeat`: seconds after which a quiet stream sends a comment, at the latest. `stall_timeout`: seconds after
    which a stream whose socket takes nothing is cut."""

    def __init__(self, *, heartbeat: float = 15.0, stall_timeout: float = 30.0) -> None:
        self.streams: set[OpenStream] = set()
        self.dropped = 0
        """Streams that were cut since the start."""
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
                if stream.took_some():  # slow, but steady
                    stream.sending_since = now
                elif now - stream.sending_since >= self._stall_timeout:
                    self.dropped += 1
                    stream.drop()
            elif stream.idle_since is not None and now - stream.idle_since >= self._heartbeat - 2 * interval:
                stream.nudge()
