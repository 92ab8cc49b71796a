"""Requests that are signed instead of carrying a key: AWS Signature Version 4, made by botocore.

Where credentials come from is botocore's own chain (environment, profile, single sign-on, container, instance). Asking
it may read files, run programs and call other hosts, and botocore itself takes a while to import: so both are done in a
thread, and again only for credentials that expire. Signing is computation, and takes place on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from turnstream.errors import AuthenticationFailed
from turnstream.wires.shared.botocore_library import botocore_module, require_botocore

ACCESS_KEY = "AWS_ACCESS_KEY_ID"
SECRET_KEY = "AWS_SECRET_ACCESS_KEY"  # noqa: S105  the name of a variable
SESSION_TOKEN = "AWS_SESSION_TOKEN"  # noqa: S105
_SOURCES = (
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Variables that say where credentials are."""
_SIGNED = frozenset({"content-type"})
"""Headers that are signed beside the host and those of AWS: what a proxy on the way may change is not."""


class Signer(Protocol):
    """A seam: how a provider's requests are signed."""

    async def prepare(self) -> None:
        """Have what signing needs; may take as long as the network does. Raises AuthenticationFailed."""
        ...

    def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """The headers that sign a request, to be sent beside `headers`. Blocks on nothing; after `prepare`."""
        ...

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be repeated to anybody."""
        ...


class _Keys(NamedTuple):
    """Named as botocore reads them."""

    access_key: str
    secret_key: str
    token: str | None


class AwsSigner:
    """Signs for one service in one region. Keys in `environ` win; without them botocore looks for credentials.

    Raises ConfigurationError where botocore is not installed.
    """

    def __init__(self, region: str, environ: Mapping[str, str], service: str = "bedrock") -> None:
        require_botocore()
        self.region = region
        self._service = service
        self._new_auth: Any = None
        self._new_request: Any = None
        self._lock = asyncio.Lock()
        self._source: Any = None
        self._keys = _keys_of(environ)
        self._expire = self._keys is None

    def __repr__(self) -> str:
        return f"AwsSigner(region={self.region!r}, service={self._service!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        keys = self._keys
        return () if keys is None else tuple(filter(None, (keys.secret_key, keys.token)))

    async def prepare(self) -> None:
        if self._expire or self._new_auth is None:
            async with self._lock:
                await asyncio.to_thread(self._prepare)

    def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        signed = {name: value for name, value in headers.items() if name.lower() in _SIGNED}
        request = self._new_request(method=method, url=url, data=body, headers=signed)
        self._new_auth(self._keys, self._service, self.region).add_auth(request)
        return {name: value for name, value in request.headers.items() if name not in signed}

    def _prepare(self) -> None:
        """In a thread: import what signs, and have keys that are good."""
        _keep_secrets_out_of_the_log()
        if self._expire:
            self._keys = self._current_keys()
        if self._new_auth is None:
            self._new_request = botocore_module("botocore.awsrequest").AWSRequest
            self._new_auth = botocore_module("botocore.auth").SigV4Auth

    def _current_keys(self) -> _Keys:
        """Look for credentials once, and ask them for keys that are still good."""
        library = botocore_module("botocore.exceptions")
        failures: Any = (
            library.BotoCoreError,
            library.ClientError,
            OSError,
            RuntimeError,
            LookupError,
            ValueError,
        )
        try:
            if self._source is None:
                self._source = botocore_module("botocore.session").Session().get_credentials()
            if self._source is None:
                raise AuthenticationFailed(
                    f"no AWS credentials were found: set {ACCESS_KEY} and {SECRET_KEY}, or AWS_PROFILE",
                    retryable=False,
                )
            keys = self._source.get_frozen_credentials()
        except failures as error:
            # The library's words may hold what a credential program or another host said.
            raise AuthenticationFailed(
                f"AWS credentials could not be had: {type(error).__name__}", retryable=False
            ) from None
        return _Keys(keys.access_key, keys.secret_key, keys.token)


def has_credentials(environ: Mapping[str, str]) -> bool:
    """Whether the environment holds AWS credentials, or says where they are. Nothing is opened."""
    return _keys_of(environ) is not None or any(environ.get(name, "").strip() for name in _SOURCES)


def _keep_secrets_out_of_the_log() -> None:
    """At debug level botocore writes down the requests that it signs and the answers that bring credentials. Somebody
    who asks for just that still gets it."""
    logger = logging.getLogger("botocore")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def _keys_of(environ: Mapping[str, str]) -> _Keys | None:
    access, secret, token = (
        environ.get(name, "").strip() for name in (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN)
    )
    return _Keys(access, secret, token or None) if access and secret else None
