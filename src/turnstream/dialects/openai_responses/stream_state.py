"""The state of a stream of Responses, and the numbers of its events.

The `sequence_number` of an event does not depend on how a text is divided into deltas, so a client resumes at
exactly the character that it has:

    attempt * ATTEMPT_NUMBERS + position

The position counts the events, and each character of a delta. A delta has the number of its last character.
An attempt is a stretch of the answer between retractions of text. The last event of a stream has the first
number of the attempt after its own: it comes after everything, however much of the text a client has.
"""

from __future__ import annotations

import msgspec

from turnstream.core.open_block import TextChain
from turnstream.dialects.provider_shaped.projection import ProjectedBlock
from turnstream.wires.openai_responses.encoder import OpenAIResponsesEncoder

ATTEMPT_NUMBERS = 2**29
"""Numbers of one attempt. Three attempts fit into the 32 bits that some clients have for a number."""


class ResponseState(msgspec.Struct, frozen=True, gc=False, eq=False, kw_only=True):
    """The state of a stream after an event. States after the same event are equal.

    Attributes:
        encoder: The wire's encoder before the deltas in `text`. It is never fed again. None before the turn's
            start.
        block: The block that is being shown, or None.
        head: The bytes of the next delta before its text. None if the encoder must write it.
        text: Deltas that came since `encoder`, or None.
        number: Number of the next event or character.
        last_block: Index of the last block that was shown, or -1.
        seq: Seq of the last event that changed the state.
        sent: Number of the last event that the client has, while the stream repeats such events. Else -1.
        divides: True while deltas are divided into single characters. See `ResponsesEncoder`.
        is_over: Nothing may follow.
    """

    encoder: OpenAIResponsesEncoder | None = None
    block: ProjectedBlock | None = None
    head: bytes | None = None
    text: TextChain | None = None
    number: int = 0
    last_block: int = -1
    seq: int = 0
    sent: int = -1
    divides: bool = False
    is_over: bool = False

    @property
    def _key(self) -> tuple[object, ...]:
        return (self.seq, self.number, self.sent, self.divides, self.is_over, self.last_block)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResponseState) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def end_number(number: int) -> int:
    """Return the number of the last event of a stream whose next number is `number`."""
    return (number // ATTEMPT_NUMBERS + 1) * ATTEMPT_NUMBERS
