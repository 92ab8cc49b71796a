"""Where a provider is called: base URLs as people write them, and the headers that go with every call."""

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
"""Addresses that are kept: models may be part of them, and callers name models."""
_VERSION_SEGMENT = re.compile(r"v[0-9]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How a provider is reached.

    `base_url`: absolute, without credentials; it may end in a slash, or with the beginning of the wire's own path.
    `headers` are sent with every call. `trust_env`: take proxies from the environment. `event_limit`: bytes that one
    event may have. `on_malformed`: whether an event that is none of its wire fails the call or is skipped with a
    notice. `think_tags`: patterns of models whose text has its thinking between tags. `context_overflow`:
    regular expressions for its words for a conversation that is too long. `signer`: what signs
    each request, where a key is not all. Keys are not in its repr.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    trust_env: bool = False
    event_limit: int = DEFAULT_EVENT_LIMIT
    on_malformed: Literal["fail", "skip"] = "fail"
    think_tags: tuple[str, ...] = ()
    context_overflow: tuple[str, ...] = ()
    signer: Signer | None = field(default=None, repr=False)

    def has_think_tags(self, model: str) -> bool:
        """Whether the text of `model` (the provider's own name) may hold `<think>` tags."""
        return any(fnmatchcase(model, pattern) for pattern in self.think_tags)


BASE_URL_VARIABLES = {
    "openai": "OPENAI_BASE_URL",
    "anthropic": "ANTHROPIC_BASE_URL",
    "ollama": "OLLAMA_HOST",
}
"""Variables that the providers' own clients read, by the provider's name."""
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
    """Check a base URL. Raises ConfigurationError."""
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
    """The URL of `path` below `base`. Both may have a query: the path's is added to that of the base.

    What both have is not repeated: `https://host/v1` and `/v1/messages` meet at `v1` (others at `api`), and a base URL
    that already is the whole address stays as it is. A base that ends with a version of its own, or with a publisher of
    Vertex AI (`…/v1/projects/P/locations/L/publishers/google`), keeps it: the path's version is left out.
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
    """The URLs of one provider's calls.

    A base URL may lack the version that its server wants, or have one that it does not. `other` is the address without
    that difference; after the first answer `settle` decides for one of the two.
    """

    def __init__(self, base: SplitResult) -> None:
        self._base = base
        self._settled = False
        self._urls: dict[str, URL] = {}

    @property
    def base(self) -> SplitResult:
        """The base URL in use."""
        return self._base

    def of(self, path: str) -> URL:
        """Return the URL of a wire's `path`."""
        url = self._urls.get(path)
        if url is None:
            if len(self._urls) >= _MAX_URLS:
                self._urls.clear()
            # A wire's own quoting stays as it is: a signature is made over it.
            url = self._urls[path] = URL(call_url(self._base, path), encoded="%" in path)
        return url

    def other(self, path: str) -> tuple[SplitResult, URL] | None:
        """Return the other base URL and the URL of `path` below it, or None if there is only one address."""
        base = None if self._settled else other_base(self._base, path)
        return None if base is None else (base, URL(call_url(base, path), encoded="%" in path))

    def settle(self, base: SplitResult | None = None) -> None:
        """Decide for `base`, or for the base URL in use if it is None."""
        self._settled = True
        if base is not None:
            self._base = base
            self._urls.clear()


def other_base(base: SplitResult, path: str) -> SplitResult | None:
    """Return `base` with `/v1` added, or without its version, if `path` could be meant to be below that.

    Return None for a path with a version of its own, and for a base URL that is the whole address.
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
    """The headers of every call, the key's among them. Raises ConfigurationError for what no header can carry."""
    headers = {
        "Accept": wire.content_type,
        # A compressed stream costs both sides more than it saves, and servers hold it back to fill a block.
        "Accept-Encoding": "identity",
        "User-Agent": "turnstream",
        **endpoint.headers,
    }
    if endpoint.api_key is not None:
        if not (endpoint.api_key.isascii() and endpoint.api_key.isprintable()):
            raise ConfigurationError(f"{name}: its key holds characters that no header can carry")
        headers |= wire.auth_headers(endpoint.api_key)
    for header, value in headers.items():
        if not (header.isascii() and header.isprintable() and value.isprintable()):
            raise ConfigurationError(f"{name}: header {header!r} holds characters that no header can carry")
    return headers
