"""Addresses of providers: base URLs as operators write them, and the headers of every call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

from yarl import URL

from turnstream.errors import ConfigurationError
from turnstream.providers.signing import Signer
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Wire

_MAX_URLS = 256
"""URLs to cache. Callers name models, and models may be part of a URL."""
_VERSION_SEGMENT = re.compile(r"v[0-9]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address and settings of a provider. Its repr leaves out the keys."""

    base_url: str
    """Absolute URL without credentials.

    It may end with a slash, or with the beginning of the wire's own path.
    """
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Headers of every call."""
    trust_env: bool = False
    """True to take proxies from the environment."""
    event_limit: int = DEFAULT_EVENT_LIMIT
    """Bytes that one event may have."""
    on_malformed: Literal["fail", "skip"] = "fail"
    """Reaction to an event that does not fit the wire: fail the call, or skip the event with a notice."""
    think_tags: tuple[str, ...] = ()
    """Patterns of models that mark thinking in their text with tags."""
    context_overflow: tuple[str, ...] = ()
    """Regular expressions for the provider's messages about too long a conversation."""
    signer: Signer | None = field(default=None, repr=False)
    """Signer of each request, or None if a key is enough."""

    def has_think_tags(self, model: str) -> bool:
        """Return True if the text of `model` (its name at the provider) may hold `<think>` tags."""
        return any(fnmatchcase(model, pattern) for pattern in self.think_tags)


BASE_URL_VARIABLES = {
    "openai": "OPENAI_BASE_URL",
    "anthropic": "ANTHROPIC_BASE_URL",
    "ollama": "OLLAMA_HOST",
}
"""Variables that the providers' own clients read, by provider."""
_OLLAMA_PORT = 11434


def base_url_of(variable: str, environ: Mapping[str, str]) -> str | None:
    """Return the base URL that one of BASE_URL_VARIABLES holds, or None if it is not set.

    OLLAMA_HOST may leave out the scheme, the host and the port, as Ollama's own clients allow.
    """
    value = environ.get(variable, "").strip()
    if not value or variable != "OLLAMA_HOST":
        return value or None
    if "://" in value:
        return value
    host, separator, port = value.partition("/")[0].rpartition(":")
    if not separator or (value.count(":") > 1 and not value.startswith("[")) or not port.isdecimal():
        host, port = value.partition("/")[0].rstrip(":"), str(_OLLAMA_PORT)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    path = value.partition("/")[2]
    return f"http://{host or '127.0.0.1'}:{port}" + (f"/{path}" if path else "")


def split_base_url(name: str, base_url: str) -> SplitResult:
    """Return the parts of a base URL. Raises ConfigurationError if it cannot be used."""
    try:
        parts = urlsplit(base_url.strip())
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    else:
        if usable and "@" in parts.netloc:
            raise ConfigurationError(f"{name}: base_url holds credentials; put the key into the environment")
        if usable:
            return parts._replace(fragment="")
    raise ConfigurationError(f"{name}: base_url must be like https://host/v1")


def call_url(base: SplitResult, path: str) -> str:
    """Return the URL of `path` below `base`. If both have a query, the path's is added.

    A part that both share is not repeated: `https://host/v1` and `/v1/messages` overlap in `v1`. (Other
    addresses overlap in `api`.) A base URL that already is the whole address does not change. If the base
    ends with a version, or with a publisher of Vertex AI (`…/v1/projects/P/locations/L/publishers/google`),
    the path's version is left out.
    """
    path, _, query = path.partition("?")
    segments = [segment for segment in base.path.split("/") if segment]
    wanted = [segment for segment in path.split("/") if segment]
    versioned = bool(wanted) and _VERSION_SEGMENT.fullmatch(wanted[0]) is not None
    for shared in range(min(len(segments), len(wanted)), 0, -1):
        if segments[-shared:] == wanted[:shared] and (
            shared == len(wanted) or wanted[0] == "api" or versioned
        ):
            wanted = wanted[shared:]
            break
    else:
        if (
            versioned
            and segments
            and (_VERSION_SEGMENT.fullmatch(segments[-1]) or "publishers" in segments[-2:-1])
        ):
            wanted = wanted[1:]
    given = base.query.split("&") if base.query else []
    added = [field for field in query.split("&") if field and field not in given]
    whole = base._replace(path="/" + "/".join(segments + wanted), query="&".join([*given, *added]))
    return urlunsplit(whole)


class Addresses:
    """Holds the URLs of one provider's calls.

    A base URL may lack the version that its server expects, or have one that the server does not expect.
    `other` returns the other of the two addresses. After the first answer, `settle` chooses one of them.
    """

    def __init__(self, base: SplitResult) -> None:
        self._base = base
        self._settled = False
        self._urls: dict[str, URL] = {}

    @property
    def base(self) -> SplitResult:
        """Base URL in use."""
        return self._base

    def of(self, path: str) -> URL:
        """Return the URL of a wire's `path`."""
        url = self._urls.get(path)
        if url is None:
            if len(self._urls) >= _MAX_URLS:
                self._urls.clear()
            # Quoting by the wire stays: a signature is made over it.
            url = self._urls[path] = URL(call_url(self._base, path), encoded="%" in path)
        return url

    def other(self, path: str) -> tuple[SplitResult, URL] | None:
        """Return the other base URL and the URL of `path` below it, or None if there is only one address."""
        base = None if self._settled else other_base(self._base, path)
        return None if base is None else (base, URL(call_url(base, path), encoded="%" in path))

    def settle(self, base: SplitResult | None = None) -> None:
        """Choose `base`. None: the base URL in use."""
        self._settled = True
        if base is not None:
            self._base = base
            self._urls.clear()


def other_base(base: SplitResult, path: str) -> SplitResult | None:
    """Return `base` with `/v1` added, or without its version, if the API may have `path` there.

    Return None if `path` has a version of its own, or if the base URL is the whole address.
    """
    segments = [segment for segment in base.path.split("/") if segment]
    wanted = [segment for segment in path.partition("?")[0].split("/") if segment]
    if _VERSION_SEGMENT.fullmatch(wanted[0]) or segments[-len(wanted) :] == wanted:
        return None
    if segments and _VERSION_SEGMENT.fullmatch(segments[-1]):
        del segments[-1]
    elif wanted[0] == "api" or any(_VERSION_SEGMENT.fullmatch(segment) for segment in segments):
        return None
    else:
        segments.append("v1")
    return base._replace(path="/" + "/".join(segments))


def call_headers(name: str, wire: Wire, endpoint: Endpoint) -> dict[str, str]:
    """Return the headers of every call, with the key.

    Raises ConfigurationError if a header cannot carry a value.
    """
    headers = {
        "Accept": wire.content_type,
        # A compressed stream costs both sides more than it saves, and servers delay it to fill a block.
        "Accept-Encoding": "identity",
        "User-Agent": "turnstream",
        **endpoint.headers,
    }
    if endpoint.api_key is not None:
        if not (endpoint.api_key.isascii() and endpoint.api_key.isprintable()):
            raise ConfigurationError(
                f"{name}: its key holds characters that no header can carry: set its variable again"
            )
        headers |= wire.auth_headers(endpoint.api_key)
    for header, value in headers.items():
        if not (header.isascii() and header.isprintable() and value.isprintable()):
            raise ConfigurationError(
                f"{name}: header {header!r} holds characters that no header can carry: leave them out"
            )
    return headers
