"""Plays actions on a socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from typing import assert_never

from aiohttp import web

from turnstream.simulator.actions import Action, CutConnection, Hang, Refuse, ResetConnection, Send, Stall

_WRITES_PER_TURN = 16
"""Writes without a pause after which other requests may run."""
_NO_LINGER = struct.pack("ii", 1, 0)


async def perform(
    actions: Iterator[Action],
    request: web.Request,
    response: web.StreamResponse,
    sent: Callable[[int], None],
) -> bool:
    """Play the actions. Return True if the body is complete.

    Delays count from the start, so a paced answer keeps its rate. `sent` gets the size of each write in
    bytes. Raises ConnectionError if the client has disconnected.
    """
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number, action in enumerate(actions):
        match action:
            case Send(delay, data):
                due += delay
                if delay and (wait := due - loop.time()) > 0:
                    await asyncio.sleep(wait)
                elif number % _WRITES_PER_TURN == 0:
                    await asyncio.sleep(0)
                await response.write(data)
                sent(len(data))
            case Stall(ping, every):
                await _stall(response, ping, every)
            case CutConnection():
                _cut(request)
                return False
            case ResetConnection():
                reset(request)
                return False
            case Refuse() | Hang():
                raise AssertionError("Refuse and Hang can only be the first action")
            case _:
                assert_never(action)
    return True


def reset(request: web.Request) -> None:
    """Reset the connection. Without lingering, the kernel sends RST instead of FIN."""
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


async def _stall(response: web.StreamResponse, ping: bytes, every: float) -> None:
    while every:
        await asyncio.sleep(every)
        await response.write(ping)
    await asyncio.get_running_loop().create_future()


def _cut(request: web.Request) -> None:
    """Close the connection. Written bytes still arrive, but the body has no end."""
    if request.transport is not None:
        request.transport.close()
