"""HTTP providers."""

from __future__ import annotations

from turnstream.providers.http_call import HttpCall
from turnstream.providers.request_sender import RequestSender
from turnstream.wires.base import ModelRequest


class HttpProvider(RequestSender):
    """A provider behind a wire and a URL. See `providers.base.Provider`."""

    def __repr__(self) -> str:
        return (
            f"HttpProvider({self.name!r}, wire={self.wire.name!r}, base_url={self.addresses.base.geturl()!r})"
        )

    @property
    def can_resume(self) -> bool:
        """True if the wire reads stored answers. See `providers.base.StoresAnswers`."""
        return self.wire.encode_resume is not None

    def resume(self, request: ModelRequest, answer_id: str) -> HttpCall:
        """Return the call that reads a stored answer from its beginning. See `stream`."""
        return HttpCall(self, request, answer_id)

    def cancel(self, answer_id: str) -> None:
        """Stop a stored answer in a task of this provider. See `providers.base.StoresAnswers`."""
        if self.wire.encode_cancel is not None:
            self.send_in_background(self.wire.encode_cancel(answer_id), f"answer {answer_id} is cancelled")

    def stream(self, request: ModelRequest) -> HttpCall:
        """Return the call. See `Provider.stream`.

        Entering raises ProviderError if no answer begins: the wire's error for the status, ConnectionFailed,
        or ProviderTimeout. Iterating raises ProviderTimeout (`first_token_timeout`, `idle_timeout`,
        `total_timeout`), MalformedEvent, EventTooLarge, and StreamIncomplete if the body breaks off. A
        StreamError, the provider's own report, is not raised: it is the last event. After the model's end
        marker, a failure of the connection is ignored.
        """
        return HttpCall(self, request)
