"""Access to the server, and its secrets: loopback addresses, the server's key, the keys that logs mask."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from turnstream.errors import ConfigurationError
from turnstream.stored_keys import key_variables

if TYPE_CHECKING:
    from turnstream.config import ServerSettings, Settings

_SECRET_HEADER = re.compile(r"auth|cookie|key|secret|token", re.IGNORECASE)
_AWS_SECRETS = frozenset({"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"})


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach a server bound to `host`.

    Names other than localhost are not resolved.
    """
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def server_key(server: ServerSettings, environ: Mapping[str, str] | None = None) -> str | None:
    """Return the key that clients must send, or None if there is none.

    Raises ConfigurationError if no header can carry the key.
    """
    environ = os.environ if environ is None else environ
    key = environ.get(server.api_key_env, "").strip() or None
    if key is not None:
        check_key(key, server.api_key_env)
    return key


def check_key(key: str, name: str) -> None:
    """Raise ConfigurationError unless every client can send `key` in a header.

    Such a key is printable ASCII without spaces at its ends. `name` is its name in the error.
    """
    if not key.isascii() or not key.isprintable() or key != key.strip() or not key:
        raise ConfigurationError(
            f"{name} holds characters that clients cannot send in a header: use letters, digits and "
            "punctuation of ASCII, such as `openssl rand -hex 32` prints"
        )


def check_binding(server: ServerSettings, environ: Mapping[str, str] | None = None) -> None:
    """Raise ConfigurationError, with the remedy, if a server beyond loopback would have no key."""
    if is_loopback(server.host) or server_key(server, environ) is not None:
        return
    raise ConfigurationError(
        f"refusing to listen on {server.host or 'every address'} without a key, since anyone who reaches it "
        f"could use your models: set {server.api_key_env} to a secret that clients send as "
        "`Authorization: Bearer …`, or listen on 127.0.0.1"
    )


def secrets_of(settings: Settings, environ: Mapping[str, str] | None = None) -> frozenset[str]:
    """Return all keys that this process knows, so that logs can mask them.

    These are the keys that the settings name, every variable that ends in `_API_KEY`, AWS's secrets, and the
    headers whose name suggests a key.
    """
    environ = key_variables(environ)
    providers = settings.providers.values()
    names = {name for name in environ if name.endswith("_API_KEY")} | _AWS_SECRETS
    names.update((settings.server.api_key_env, *(provider.api_key_env or "" for provider in providers)))
    keys = {environ.get(name, "").strip() for name in names}
    headers = (header for provider in providers for header in provider.headers.items())
    keys.update(value for name, value in headers if _SECRET_HEADER.search(name))
    return frozenset(keys - {""})
