"""A simulated provider for load: Anthropic's stream, encoded before the run, paced or unpaced.

    python -m benchmarks.upstream

The model's name says what to answer: `load:rate=50;batch=1;events=1000;block=0;hold=0`.

- `rate`: writes per second. 0: unpaced.
- `batch`: deltas per write.
- `events`: deltas in all. 0: until stopped.
- `block`: deltas per text block. 0: all in one.
- `pause`: seconds from the first delta of an unpaced answer to the rest.
- `hold`: 1 to fall silent instead of an end.

SIGUSR1 ends all answers at once.

The text of each delta is `MARK`, the time of its write in microseconds of the monotonic clock, and a space.
So the load counts events by their marks, even if they were merged on the way, and knows their age.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import msgspec
import uvloop

from benchmarks.processes import LOAD_CORE, pin

MARK = b"~"
STAMP_LENGTH = 13
UNPACED_WRITE = 64 * 1024
TICK = 0.001
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_MESSAGE_START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_load","type":"message",'
    b'"role":"assistant","content":[],"model":"load","stop_reason":null,"stop_sequence":null,'
    b'"usage":{"input_tokens":10,"output_tokens":1}}}\n\n'
)
_MESSAGE_STOP = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
    b'"usage":{"output_tokens":100}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)


class Load(msgspec.Struct, frozen=True):
    """Answer to send. The module's docstring lists the kinds."""

    rate: float = 0.0
    batch: int = 1
    events: int = 0
    block: int = 0
    pause: float = 0.0
    hold: bool = False

    @property
    def model(self) -> str:
        """The model name that asks for it."""
        options = msgspec.structs.asdict(self) | {"hold": int(self.hold)}
        return "load:" + ";".join(f"{name}={value}" for name, value in options.items())


def parse_load(model: str) -> Load:
    options = dict(option.split("=") for option in model.partition(":")[2].split(";") if option)
    return msgspec.convert(options, Load, strict=False)


def stamp() -> bytes:
    return b"%013d" % (time.monotonic_ns() // 1000)


def age(text: bytes, now: int) -> int:
    """Return the microseconds from a stamp to `now`, on the same clock."""
    return now - int(text)


def block_start(index: int) -> bytes:
    return (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,'
        b'"content_block":{"type":"text","text":""}}\n\n' % index
    )


def block_stop(index: int) -> bytes:
    return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % index


def delta(index: int, text: bytes) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
        b'"delta":{"type":"text_delta","text":"%b%b "}}\n\n' % (index, MARK, text)
    )


def chunk(data: bytes) -> bytes:
    """Return one chunk of HTTP's chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Upstream(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, pacers: Pacers) -> None:
        self._pacers = pacers
        self._request = bytearray()
        self._paused = False
        self._load = Load()
        self._left = 0
        self._index = 0
        self._in_block = 0
        self._answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def connection_lost(self, _error: Exception | None) -> None:
        self._leave()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._answering and not self._load.rate:
            self._write_unpaced()

    def data_received(self, data: bytes) -> None:
        self._request += data
        head, separator, body = bytes(self._request).partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if len(body) < length:
            return
        self._request.clear()
        self._begin(parse_load(msgspec.json.decode(body)["model"]))

    def _begin(self, load: Load) -> None:
        self._load = load
        self._left = load.events or 1 << 62
        self._index = self._in_block = 0
        self._answering = True
        prelude = _MESSAGE_START + block_start(0)
        if load.pause:
            prelude += self._deltas(1, stamp())
        self._transport.write(_HEAD + chunk(prelude))
        self._pacers.answering.add(self)
        if load.pause:
            asyncio.get_running_loop().call_later(load.pause, self._write_unpaced)
        elif load.rate:
            self._pacers.pacer(load.rate).add(self)
        else:
            self._write_unpaced()

    def tick(self) -> None:
        """Write the next deltas of a paced answer."""
        self._transport.write(chunk(self._deltas(min(self._load.batch, self._left), stamp())))
        if not self._left:
            self._done()

    def _write_unpaced(self) -> None:
        size = UNPACED_WRITE // len(delta(0, stamp()))
        while self._left and not self._paused:
            self._transport.write(chunk(self._deltas(min(size, self._left), stamp())))
        if not self._left:
            self._done()

    def _deltas(self, count: int, text: bytes) -> bytes:
        self._left -= count
        block = self._load.block
        if not block:
            return delta(self._index, text) * count
        frames: list[bytes] = []
        while count:
            fitting = min(count, block - self._in_block)
            frames.append(delta(self._index, text) * fitting)
            self._in_block += fitting
            count -= fitting
            if self._in_block == block:
                frames.append(block_stop(self._index) + block_start(self._index + 1))
                self._index += 1
                self._in_block = 0
        return b"".join(frames)

    def _done(self) -> None:
        if self._load.hold:
            self._pacers.leave(self)
        else:
            self.end()

    def end(self) -> None:
        """End the answer now."""
        if self._answering:
            self._leave()
            self._transport.write(chunk(block_stop(self._index) + _MESSAGE_STOP) + b"0\r\n\r\n")

    def _leave(self) -> None:
        self._answering = False
        self._pacers.leave(self)
        self._pacers.answering.discard(self)


class Pacer:
    """Writes the answers of one rate with one timer. The writes are spread evenly over the interval."""

    def __init__(self, rate: float) -> None:
        self._loop = asyncio.get_running_loop()
        count = max(1, round(1 / rate / TICK))
        self._slots: list[dict[Upstream, None]] = [{} for _ in range(count)]
        self._step = 1 / rate / count
        self._next = 0
        self._slot = 0
        self._due = self._loop.time()
        self._tick()

    def add(self, upstream: Upstream) -> None:
        self._slots[self._next % len(self._slots)][upstream] = None
        self._next += 1

    def discard(self, upstream: Upstream) -> None:
        for slot in self._slots:
            slot.pop(upstream, None)

    def _tick(self) -> None:
        now = self._loop.time()
        while self._due <= now:
            for upstream in list(self._slots[self._slot]):
                upstream.tick()
            self._slot = (self._slot + 1) % len(self._slots)
            self._due += self._step
        self._loop.call_later(max(TICK, self._due - now), self._tick)  # uvloop would spin for less


class Pacers:
    """Holds all running answers."""

    def __init__(self) -> None:
        self.answering: set[Upstream] = set()
        self._by_rate: dict[float, Pacer] = {}

    def pacer(self, rate: float) -> Pacer:
        if rate not in self._by_rate:
            self._by_rate[rate] = Pacer(rate)
        return self._by_rate[rate]

    def leave(self, upstream: Upstream) -> None:
        for pacer in self._by_rate.values():
            pacer.discard(upstream)

    def end_all(self) -> None:
        for upstream in list(self.answering):
            upstream.end()


async def main() -> None:
    pin(LOAD_CORE)
    loop = asyncio.get_running_loop()
    pacers = Pacers()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, pacers.end_all)
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(lambda: Upstream(pacers), "127.0.0.1", 0, backlog=4096)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    await stopped.wait()


if __name__ == "__main__":
    uvloop.run(main())
