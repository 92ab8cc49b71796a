"""Signed requests without a key: AWS Signature Version 4, made by botocore.

botocore finds credentials itself (environment, profile, single sign-on, container, instance). This may read
files, run programs and call other hosts, and importing botocore takes a while. So a thread does both, and
repeats the search only for credentials that expire. Signing is computation, and runs on the event loop.
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
"""Variables that locate credentials."""
_SIGNED = frozenset({"content-type"})
"""Headers to sign besides the host and those of AWS. A proxy may change any other header."""


class Signer(Protocol):
    """A seam: signs a provider's requests."""

    async def prepare(self) -> None:
        """Get ready to sign. May take as long as the network does. Raises AuthenticationFailed."""
        ...

    def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers that sign a request, to be sent with `headers`.

        Does not block. Call `prepare` first.
        """
        ...

    @property
    def secrets(self) -> tuple[str, ...]:
        """Secrets to mask in texts."""
        ...


class _Keys(NamedTuple):
    """Keys with the names that botocore reads."""

    access_key: str
    secret_key: str
    token: str | None


class AwsSigner:
    """Signs for one service in one region. Keys in `environ` come first, then botocore's search.

    Raises ConfigurationError if botocore is not installed.
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
        """Import the library and get valid keys. Runs in a thread."""
        _keep_secrets_out_of_the_log()
        if self._expire:
            self._keys = self._current_keys()
        if self._new_auth is None:
            self._new_request = botocore_module("botocore.awsrequest").AWSRequest
            self._new_auth = botocore_module("botocore.auth").SigV4Auth

    def _current_keys(self) -> _Keys:
        """Return the current keys. The credentials are looked up once. Raises AuthenticationFailed."""
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
            # The library's text may quote a credential program or another host.
            raise AuthenticationFailed(
                f"no credentials ({type(error).__name__}): set {ACCESS_KEY} and {SECRET_KEY}, or AWS_PROFILE",
                retryable=False,
            ) from None
        return _Keys(keys.access_key, keys.secret_key, keys.token)


def has_credentials(environ: Mapping[str, str]) -> bool:
    """Return True if the environment holds AWS credentials, or locates them. Opens nothing."""
    return _keys_of(environ) is not None or any(environ.get(name, "").strip() for name in _SOURCES)


def _keep_secrets_out_of_the_log() -> None:
    """Raise the level of botocore's log, unless the host application has set it.

    At debug level botocore logs the requests that it signs and the answers that bring credentials.
    """
    logger = logging.getLogger("botocore")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def _keys_of(environ: Mapping[str, str]) -> _Keys | None:
    access, secret, token = (
        environ.get(name, "").strip() for name in (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN)
    )
    return _Keys(access, secret, token or None) if access and secret else None
