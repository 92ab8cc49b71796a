"""Reads the trace of a guardrail: the input or the output that it blocked.

A guardrail that blocks answers with its configured message. The message comes as text, after the text that
was already sent, and nothing marks it. But the trace, which comes last, has the model's own output
(`modelOutput`): the text that does not come from the model is the message. A guardrail that masks sends text
that is masked already, so nothing is withdrawn.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Literal, TypeAlias

from turnstream.core.stream_events import RedactContent
from turnstream.wires.shared.endings import blocked_message, withdrawn_answer
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object

Side: TypeAlias = Literal["user", "assistant"]

MOST_PIECES = 500
"""Last pieces of text in which the message is searched. It has at most 500 characters."""


class SentText:
    """The text that was sent so far: its length, and its last pieces."""

    __slots__ = ("is_alone", "last", "length")

    def __init__(self) -> None:
        self.length = 0
        self.last: deque[str] = deque(maxlen=MOST_PIECES)
        self.is_alone = True
        """False once the answer has content other than text."""

    def add(self, text: str) -> None:
        """Add a piece of text."""
        if text:
            self.length += len(text)
            self.last.append(text)

    def message_after(self, output: str) -> str:
        """Return the text after `output`, which the model wrote, as far as it was sent."""
        place = self.length
        message: list[str] = []
        for piece in reversed(self.last):
            place -= len(piece)
            if piece == output[place : place + len(piece)]:
                break
            message.append(piece)
        return "".join(reversed(message))


def redactions_of(trace: Any, sent: SentText) -> list[RedactContent]:
    """Return the events for what the guardrail of a `trace` object blocked. Empty without such a trace.

    Args:
        trace: The field `trace` of the answer's metadata.
        sent: The text of the answer.
    """
    guardrail = trace.get("guardrail") if is_object(trace) else None
    if not is_object(guardrail):
        return []
    if is_blocked(guardrail.get("inputAssessment")):  # the model was not called: all text is the message
        return [blocked_message("".join(sent.last))]
    if not is_blocked(guardrail.get("outputAssessments")):
        return []
    output = guardrail.get("modelOutput")
    if not is_list(output):
        return [withdrawn_answer()]
    message = sent.message_after("".join(text for text in output if isinstance(text, str)))
    if message and len(message) == sent.length and sent.is_alone:
        return []  # nothing but the message was sent
    return [withdrawn_answer(message)]


def is_blocked(assessments: Any) -> bool:
    """Return True if a policy in `assessments` blocked what it detected. Masking does not block."""
    waiting: list[Any] = [assessments]
    while waiting:
        value = waiting.pop()
        if is_object(value):
            if value.get("action") == "BLOCKED" and value.get("detected") is not False:
                return True
            waiting += value.values()
        elif is_list(value):
            waiting += value
    return False


def blocking_trace(side: Side, output: str) -> JsonObject:
    """Return the trace of a guardrail that blocked one side. `output`: text of the model."""
    topic = {"name": "simulated", "type": "DENY", "action": "BLOCKED", "detected": True}
    assessment = {"topicPolicy": {"topics": [topic]}}
    found: JsonObject = {"actionReason": "Guardrail blocked."}
    if side == "user":
        found["inputAssessment"] = {"simulated": assessment}
    else:
        found |= {"modelOutput": [output], "outputAssessments": {"simulated": [assessment]}}
    return {"guardrail": found}
