"""Watchers of one turn in three protocols, over any number of connections, with a check of their end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from tests.dialects.response_fold import ResponseFold
from tests.dialects.ui_fold import UiMessageFold
from tests.faults.watching import GONE, WATCH_SECONDS, Api, Frame, Watcher
from turnstream.core.blocks import Block
from turnstream.dialects.ai_sdk.chunk_writer import Major
from turnstream.dialects.openai_responses.ids import response_id

PROTOCOLS = ("native", "ai_sdk", "openai_responses")
"""Protocols that a node must serve for these watchers."""
RETRACTED = "retracted"
"""Code of the error that ends a stream if its protocol cannot retract shown text."""


@dataclass
class NativeWitness(Watcher):
    """A native watcher that remembers the complete blocks which were not retracted.

    Attributes:
        acknowledged: These blocks.
        truncated: Complete blocks that a notice took back. A reset must have retracted them meanwhile.
    """

    acknowledged: dict[int, Block] = field(default_factory=dict, repr=False)
    truncated: dict[int, Block] = field(default_factory=dict, repr=False)

    def take(self, frame: Frame) -> None:
        super().take(frame)
        match frame.name:
            case "block_stop":
                index = frame.data["block_index"]
                self.acknowledged[index] = self.stopped[index]
            case "block_reset":
                first = frame.data["block_index"]
                self.acknowledged = {n: block for n, block in self.acknowledged.items() if n < first}
            case "notice" if frame.data["code"] == "truncated":
                kept = frame.data.get("block_index") or 0
                self.truncated |= {n: block for n, block in self.acknowledged.items() if n >= kept}
                self.acknowledged = {n: block for n, block in self.acknowledged.items() if n < kept}
            case _:
                pass


class Witness(ABC):
    """A watcher in the protocol `name`. It ends with the stored text, or with an explicit error."""

    name: str

    def __init__(self, turn_id: str, chat_id: str) -> None:
        self.turn_id, self.chat_id = turn_id, chat_id
        self.connections = 0

    @property
    @abstractmethod
    def ended(self) -> bool:
        """True if the stream has shown its end."""

    @property
    @abstractmethod
    def error(self) -> str | None:
        """Code of the error with which the stream ended, or None."""

    @abstractmethod
    async def watch(self, api: Api) -> None:
        """Watch over one connection, until it ends."""

    @abstractmethod
    async def check(self, api: Api, turn: dict[str, Any], blocks: list[Block]) -> None:
        """Fail unless the end agrees with the stored turn and its blocks."""

    async def _read(self, api: Api, path: str, fold: UiMessageFold | ResponseFold, **params: str) -> None:
        """Give the whole frames of one connection to `fold`. A broken frame at its end is dropped."""
        self.connections += 1
        rest = b""
        try:
            async with asyncio.timeout(WATCH_SECONDS), api.get(api.url + path, params=params) as response:
                if response.status == 503:  # a node with late heartbeats shows nothing
                    return
                if response.status == 500:  # a node that cannot read its database says so
                    assert "database_error" in await response.text(), self.name
                    return
                assert response.status == 200, (self.name, response.status, await response.text())
                async for data in response.content.iter_any():
                    *frames, rest = (rest + data).split(b"\n\n")
                    for frame in frames:
                        if not frame.startswith(b":"):  # a heartbeat
                            fold.receive(frame + b"\n\n")
        except GONE:
            return


class UiWitness(Witness):
    """A page of the AI SDK. It resumes the stream of its chat from the start of the message."""

    name = "ai_sdk"

    def __init__(self, turn_id: str, chat_id: str, major: Major) -> None:
        super().__init__(turn_id, chat_id)
        self._major: Major = major
        self._fold = UiMessageFold(major)

    @property
    def ended(self) -> bool:
        """True after the last chunk and `[DONE]`."""
        return self._fold.done

    @property
    def error(self) -> str | None:
        """Code of the error, from the message's metadata."""
        return self._fold.metadata["errorCode"] if self._fold.ending == "error" else None

    async def watch(self, api: Api) -> None:
        """Read the whole message again."""
        self._fold = UiMessageFold(self._major)
        path = {5: "", 6: "/ai-sdk/v6", 7: "/ai-sdk/v7"}[self._major]
        await self._read(api, f"/api{path}/chat/{self.chat_id}/stream", self._fold)

    async def check(self, api: Api, turn: dict[str, Any], blocks: list[Block]) -> None:
        """Compare the parts of the message with the stored blocks."""
        del api
        fold = self._fold
        assert fold.metadata["turnId"] == turn["id"]
        if fold.ending == "error":
            assert fold.error
            if self.error == RETRACTED:
                return
        assert self.error == (turn["error"] or {}).get("code")
        assert (fold.ending == "abort") == (turn["status"] == "cancelled")
        assert fold.texts("text") == _texts(blocks, "text")
        assert fold.texts("reasoning") == _texts(blocks, "thinking")
        calls = [part["id"] for part in fold.parts if part["type"] == "tool"]
        assert calls == _calls(blocks)


class ResponseWitness(Witness):
    """A client of OpenAI Responses. It resumes after the last event that it has."""

    name = "openai_responses"

    def __init__(self, turn_id: str, chat_id: str) -> None:
        super().__init__(turn_id, chat_id)
        self._fold = ResponseFold()
        self._path = f"/api/v1/responses/{response_id(turn_id)}"

    @property
    def ended(self) -> bool:
        """True after the last event."""
        return self._fold.end is not None

    @property
    def error(self) -> str | None:
        """Code of the error, from the last event."""
        if self._fold.error is not None:
            return self._fold.error["code"]
        if self._fold.end != "response.failed":
            return None
        assert self._fold.response is not None
        if self._fold.response["status"] == "cancelled":
            return None
        return self._fold.response["error"]["code"]

    async def watch(self, api: Api) -> None:
        """Read the rest of the events."""
        after = {} if self._fold.last < 0 else {"starting_after": str(self._fold.last)}
        await self._read(api, self._path, self._fold, stream="true", **after)

    async def check(self, api: Api, turn: dict[str, Any], blocks: list[Block]) -> None:
        """Compare the shown deltas and the last event with the stored blocks."""
        fold = self._fold
        if self.error == RETRACTED:
            return
        assert (self.error is not None) == (turn["status"] == "error"), (fold.end, fold.error, turn)
        status, stored = await api.call("GET", self._path)
        assert status == 200, stored
        assert fold.response is not None
        assert fold.response["output"] == stored["output"]
        if self.error is not None:  # deltas may have shown text that was lost, and that the last event lacks
            return
        shown = [text for (stem, *_), text in sorted(fold.texts.items()) if stem == "output_text"]
        expected = [text for text in _texts(blocks, "text") if text]
        if turn["status"] == "cancelled":  # the same, if another node has stopped the turn
            shown = [text[: len(stored)] for text, stored in zip(shown, expected, strict=False)]
        assert shown == expected, f"{shown} was shown, not {expected}"


def _texts(blocks: list[Block], block_type: str) -> list[str]:
    return [block.text_content or "" for block in blocks if block.block_type == block_type]


def _calls(blocks: list[Block]) -> list[str]:
    return [(block.content or {})["tool_use_id"] for block in blocks if block.block_type == "tool_use"]
