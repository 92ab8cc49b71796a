"""Providers over HTTP."""

from __future__ import annotations

from turnstream.providers.http_call import HttpCall
from turnstream.providers.request_sender import RequestSender
from turnstream.wires.base import ModelRequest


class HttpProvider(RequestSender):
    """A provider behind a wire and a URL; see `providers.base.Provider`."""

    def __repr__(self) -> str:
        return (
            f"HttpProvider({self.name!r}, wire={self.wire.name!r}, base_url={self.addresses.base.geturl()!r})"
        )

    def stream(self, request: ModelRequest) -> HttpCall:
        """Make the call; see `Provider.stream`.

        Entering raises ProviderError where no answer begins: what the wire makes of the status, ConnectionFailed, or
        ProviderTimeout. Iterating raises ProviderTimeout (`first_token_timeout`, `idle_timeout`, `total_timeout`),
        MalformedEvent, EventTooLarge, and StreamIncomplete for a body that breaks off. A StreamError, the provider's
        own report, is not raised: it is the last event. Once the model's end marker is there, nothing that happens to
        the connection makes the answer a failure.
        """
        return HttpCall(self, request)
