"""The message that comes out of a stream: whole, or as far as it came."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, TypeVar, cast

from turnstream.core.blocks import Block, Message
from turnstream.core.usage import CallAttempt, Usage
from turnstream.model_loop.accounts import ModelCall
from turnstream.providers.base import CalledModel
from turnstream.providers.pricing import Cost, Pricing, total

Output = TypeVar("Output")

OUTPUT_TOOL = "give_answer"
"""The tool whose arguments are the answer, of a type that was asked for, where a model takes no schema."""
_REPR_LENGTH = 60
"""Characters of the text that a message's `repr` shows."""
_NONE_USED = Usage()
_NO_VALUE: Any = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that the model asked for.

    `arguments` is None where they cannot be read: `error` says why, and `arguments_json` holds the model's own text.
    """

    id: str
    name: str
    arguments: dict[str, Any] | None
    arguments_json: str = ""
    error: str | None = None

    @classmethod
    def of(cls, block: Block) -> ToolCall:
        """The call that a `tool_use` block is."""
        content = block.content or {}
        arguments = content.get("input")
        return cls(
            str(content.get("tool_use_id") or ""),
            str(content.get("tool_name") or ""),
            cast("dict[str, Any]", arguments) if isinstance(arguments, dict) and not block.partial else None,
            str(content.get("input_json") or ""),
            "the call was cut off" if block.partial else content.get("input_error"),
        )

    def result(self, content: str, *, is_error: bool = False) -> Message:
        """What the tool answered, for the `messages` of the next call."""
        answer = {"tool_use_id": self.id, "tool_name": self.name, "content": content, "is_error": is_error}
        return Message("user", (Block(0, "tool_result", None, answer),))


@dataclass(frozen=True, slots=True)
class MessageStep:
    """One model call of a message, or what there is of it. `message_id` and `model` are the provider's own; `raw_usage`: the
    usage in the provider's words."""

    number: int
    called: CalledModel | None
    model: str | None = None
    message_id: str | None = None
    stop_reason: str | None = None
    usage: Usage = _NONE_USED
    raw_usage: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class MessageAttempt:
    """One call that was tried for a step; `number` counts a step's from 1.

    `outcome`: `complete`, `cancelled`, or the code of the error that it ended with. `duration`: seconds. A call that was
    refused, or never answered, has used nothing.
    """

    step: int
    number: int
    called: CalledModel
    outcome: str
    duration: float
    usage: Usage = _NONE_USED
    estimated: bool = False
    raw_usage: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, attempt: CallAttempt, call: ModelCall) -> MessageAttempt:
        """Return what an account says of a call, with its usage in the provider's own words."""
        assert call.model is not None
        return cls(
            attempt.step,
            attempt.number,
            call.model,
            attempt.outcome,
            attempt.duration,
            attempt.usage,
            attempt.estimated,
            call.raw_usage,
        )


@dataclass(frozen=True, slots=True, repr=False)
class ModelMessage(Generic[Output]):
    """What a model said, over all the calls and tools that it took.

    `id`: the stream's own, unique. `model` and `provider`: who answered last, in their own words. `blocks`: everything in
    order, the results of tools among it. `usage`: of all calls, those that failed included. `steps`: the calls that the message
    is made of; `attempts`: all calls that were tried, once it has ended. `complete` False: it broke off, and has no stop reason. `output`: the value, where
    a type was asked for. Give the message to the `messages` of the next call to go on from it.
    """

    id: str
    model: str = ""
    provider: str = ""
    blocks: tuple[Block, ...] = ()
    complete: bool = False
    stop_reason: str | None = None
    usage: Usage = _NONE_USED
    steps: tuple[MessageStep, ...] = ()
    attempts: tuple[MessageAttempt, ...] = ()
    output: Output = _NO_VALUE
    pricing: Pricing | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= _REPR_LENGTH else f"{self.text[:_REPR_LENGTH]}…"
        end = self.stop_reason if self.complete else "broke off"
        return f"<{type(self).__name__} of {self.provider}/{self.model}, {len(self.blocks)} blocks, {end}: {text!r}>"

    def _repr_markdown_(self) -> str:
        """Return the text, for a notebook to render."""
        return self.text

    @property
    def text(self) -> str:
        """The texts of the text blocks, joined."""
        return "".join(block.text_content or "" for block in self.blocks if block.block_type == "text")

    @property
    def thinking(self) -> str:
        """The texts of the thinking blocks, joined."""
        return "".join(block.text_content or "" for block in self.blocks if block.block_type == "thinking")

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Calls that have no result yet: they are the caller's to run.

        A result answers the first call before it that has its id and no result: vendors repeat ids from step to step.
        """
        waiting: dict[int, Block] = {}
        places: dict[str, deque[int]] = {}
        for place, block in enumerate(self.blocks):
            content = block.content or {}
            if content.get("provider_executed"):
                continue
            same = places.setdefault(str(content.get("tool_use_id") or ""), deque())
            if block.block_type == "tool_use":
                waiting[place] = block
                same.append(place)
            elif block.block_type == "tool_result" and same:
                del waiting[same.popleft()]
        calls = [ToolCall.of(block) for block in waiting.values()]
        return tuple(call for call in calls if call.name != OUTPUT_TOOL)

    @property
    def outputs(self) -> tuple[Block, ...]:
        """The calls whose arguments are the answer of a type, where it was asked for by a tool."""
        calls = self._of_type("tool_use")
        return tuple(block for block in calls if (block.content or {}).get("tool_name") == OUTPUT_TOOL)

    @property
    def cost(self) -> Decimal | None:
        """US dollars for all calls; None where a price is not known.

        The list of prices is read when this is first asked for, of a model without a price in the settings: that takes
        about 0.1 s once, and nothing for those who never ask.
        """
        pricing = self.pricing
        if pricing is None:
            return None
        found = total([_cost_of(call, pricing) for call in self.attempts or self.steps])
        return found.amount if found is not None else None

    @property
    def cost_estimated(self) -> bool:
        """Whether the usage, and so the cost, is in part an estimate: of calls that broke off."""
        return any(attempt.estimated for attempt in self.attempts)

    def as_message(self) -> Message:
        """Role and blocks alone, as they can be kept: `msgspec.json.encode(message.as_message())`."""
        return Message("assistant", self.blocks)

    def _of_type(self, block_type: str) -> Sequence[Block]:
        return [
            block
            for block in self.blocks
            if block.block_type == block_type and not (block.content or {}).get("provider_executed")
        ]


def _cost_of(call: MessageStep | MessageAttempt, pricing: Pricing) -> Cost | None:
    called = call.called
    if called is None:
        return None
    return pricing.cost(called.provider, called.model, called.wire, call.usage, raw=call.raw_usage)
