"""The message of a stream, complete or cut off."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, TypeVar, cast

from turnstream.core.blocks import Block, Message, beginning, call_id, is_client_call, is_provider_executed
from turnstream.core.message_facts import MessageFacts
from turnstream.core.usage import CallAttempt, Usage
from turnstream.model_loop.model_call import ModelCall
from turnstream.providers.base import CalledModel
from turnstream.providers.pricing import Cost, Pricing, total

Output = TypeVar("Output")

OUTPUT_TOOL = "give_answer"
"""Name of the tool that takes a typed answer as its arguments, for models that take no JSON Schema."""
_NONE_USED = Usage()
_NO_VALUE: Any = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call by the model.

    Attributes:
        arguments: The arguments. None if they cannot be read.
        arguments_json: The arguments as the model wrote them.
        error: The reason if `arguments` is None.
    """

    id: str
    name: str
    arguments: dict[str, Any] | None
    arguments_json: str = ""
    error: str | None = None

    @classmethod
    def of(cls, block: Block) -> ToolCall:
        """Return the call of a `tool_use` block."""
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
        """Return the tool's result as a message, for the `messages` of the next call."""
        answer = {"tool_use_id": self.id, "tool_name": self.name, "content": content, "is_error": is_error}
        return Message("user", (Block(0, "tool_result", None, answer),))


@dataclass(frozen=True, slots=True)
class MessageStep:
    """The model call of one step of a message.

    Attributes:
        called: The model that was called. None for a source that calls no model.
        model: The model's name in the provider's answer.
        message_id: The provider's id of the answer.
        raw_usage: Usage as the provider sent it.
    """

    number: int
    called: CalledModel | None
    model: str | None = None
    message_id: str | None = None
    stop_reason: str | None = None
    usage: Usage = _NONE_USED
    raw_usage: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, number: int, called: CalledModel | None, facts: MessageFacts) -> MessageStep:
        """Return the step whose model call brought `facts`."""
        reason = facts.stop.stop_reason if facts.stop is not None else None
        return cls(number, called, facts.model, facts.message_id, reason, facts.usage, facts.raw_usage)


@dataclass(frozen=True, slots=True)
class MessageAttempt:
    """One attempt at a step's model call. A call that was refused or never answered has no usage.

    Attributes:
        number: Number of the attempt within its step, from 1.
        outcome: `complete`, `cancelled`, or an error code.
        duration: Seconds.
        estimated: True if the usage is an estimate.
        raw_usage: Usage as the provider sent it.
        first_output: Seconds from the call to its first output. None without output, or if it is not known.
    """

    step: int
    number: int
    called: CalledModel
    outcome: str
    duration: float
    usage: Usage = _NONE_USED
    estimated: bool = False
    raw_usage: Mapping[str, Any] | None = None
    first_output: float | None = None

    @classmethod
    def of(cls, attempt: CallAttempt, call: ModelCall) -> MessageAttempt:
        """Return an attempt from its record and its model call, which has the raw usage."""
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
            attempt.first_output,
        )


@dataclass(frozen=True, slots=True, repr=False)
class ModelMessage(Generic[Output]):
    """A model's answer, over all its calls and tools.

    To continue the conversation, give the message to the `messages` of the next call.

    Attributes:
        id: Unique id of the stream.
        model: Name of the last model that answered, as its provider reports it.
        provider: Name of that model's provider.
        blocks: All blocks in order, including the results of tools.
        complete: False if the answer was cut off. Then there is no `stop_reason`.
        usage: Usage of all calls, failed ones included.
        steps: Model calls that the message consists of.
        attempts: All calls that were made. Empty until the stream has ended.
        output: Value of the requested type, if one was requested.
        user_replacement: Text that replaces the user's message, because the provider redacted it. None: it
            did not.
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
    user_replacement: str | None = None
    pricing: Pricing | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        end = self.stop_reason if self.complete else "broke off"
        return (
            f"<{type(self).__name__} of {self.provider}/{self.model}, {len(self.blocks)} blocks, "
            f"{end}: {beginning(self.text)!r}>"
        )

    def _repr_markdown_(self) -> str | None:
        """Return the text, for a notebook to render. None without text: the notebook shows the `repr`."""
        return self.text or None

    @property
    def text(self) -> str:
        """Texts of the text blocks, joined."""
        return "".join(block.text_content or "" for block in self.blocks if block.block_type == "text")

    @property
    def thinking(self) -> str:
        """Texts of the thinking blocks, joined."""
        return "".join(block.text_content or "" for block in self.blocks if block.block_type == "thinking")

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Tool calls without a result, for the caller to run.

        A result belongs to the first earlier call that has its id and no result: providers reuse ids.
        """
        waiting: dict[int, Block] = {}
        places: dict[str, deque[int]] = {}
        for place, block in enumerate(self.blocks):
            if is_provider_executed(block):
                continue
            same = places.setdefault(call_id(block), deque())
            if block.block_type == "tool_use":
                waiting[place] = block
                same.append(place)
            elif block.block_type == "tool_result" and same:
                del waiting[same.popleft()]
        calls = [ToolCall.of(block) for block in waiting.values()]
        return tuple(call for call in calls if call.name != OUTPUT_TOOL)

    @property
    def outputs(self) -> tuple[Block, ...]:
        """Calls whose arguments are the typed answer, if the answer was requested as a tool call."""
        calls = filter(is_client_call, self.blocks)
        return tuple(block for block in calls if (block.content or {}).get("tool_name") == OUTPUT_TOOL)

    @property
    def cost(self) -> Decimal | None:
        """Cost of all calls, in US dollars. None if a price is not known.

        The price list is read at the first access, for a model without a price in the settings. That takes
        about 0.1 s, once.
        """
        pricing = self.pricing
        if pricing is None:
            return None
        found = total([_cost_of(call, pricing) for call in self.attempts or self.steps])
        return found.amount if found is not None else None

    @property
    def cost_estimated(self) -> bool:
        """True if a part of the usage, and so of the cost, is an estimate for a call that failed."""
        return any(attempt.estimated for attempt in self.attempts)

    def as_message(self) -> Message:
        """Return role and blocks, in a form to store: `msgspec.json.encode(message.as_message())`."""
        return Message("assistant", self.blocks)


def _cost_of(call: MessageStep | MessageAttempt, pricing: Pricing) -> Cost | None:
    called = call.called
    if called is None:
        return None
    return pricing.cost(called.provider, called.model, called.wire, call.usage, raw=call.raw_usage)
