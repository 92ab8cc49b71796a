"""Redirects of a provider: followed within its origin, with the same method and body; else an error that names the target.

Keys go with every request, so none is ever sent to another origin.
"""

from __future__ import annotations

from yarl import URL

from turnstream.errors import ProviderFailed

MOST_REDIRECTS = 5
"""Requests of one call, the first included, before it is given up."""
_KEEP_THE_METHOD = frozenset({307, 308})
"""Statuses that ask for the same request again. With the others, a POST would become a GET."""
_LONGEST_TARGET = 200


def redirected(name: str, url: URL, status: int, location: str | None) -> URL:
    """Return where a request to `url` is to be sent again. Raises ProviderFailed, which names the target, for any other
    origin and for a status that would change the method."""
    try:
        target = url.join(URL((location or "").strip())).with_fragment(None) if location else None
    except ValueError:
        target = None
    if target is None:
        raise _refused(name, status, "without a target")
    if status not in _KEEP_THE_METHOD:
        raise _refused(name, status, f"to {_shown(target)}, which would change the request's method")
    if target.user or target.password or _origin(target) != _origin(url):
        raise _refused(name, status, f"to another origin, {_shown(target)}")
    return target


def endless(name: str, url: URL, status: int) -> ProviderFailed:
    """Return the error of a call that is redirected too often."""
    return ProviderFailed(
        f"{name}: it redirects again and again, last to {_shown(url)}",
        retryable=False,
        provider_status=status,
    )


def _refused(name: str, status: int, where: str) -> ProviderFailed:
    return ProviderFailed(
        f"{name}: it redirects {where}; if that is right, set base_url to it",
        retryable=False,
        provider_status=status,
    )


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host, url.port


def _shown(target: URL) -> str:
    """Return the target without what may be a secret."""
    plain = target.with_query(None).with_fragment(None)
    if plain.absolute and plain.host:
        plain = plain.with_user(None)
    return str(plain)[:_LONGEST_TARGET]
