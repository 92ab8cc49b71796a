"""Which hosts are reached without a proxy: NO_PROXY, as other programs read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from turnstream.errors import ConfigurationError


def proxy_of(url: URL) -> URL | None:
    """Return the proxy that the environment, or the system, names for `url`. Raises ConfigurationError for one that we
    cannot speak to."""
    proxies: Mapping[str, str] = getproxies()
    found = proxies.get(url.scheme)
    if (
        not found
        or bypasses(url, proxies.get("no", ""))
        or ("no" not in proxies and proxy_bypass(url.host or ""))
    ):
        return None
    proxy = URL(found if "://" in found else f"http://{found}")
    if proxy.scheme != "http" or not proxy.host:
        raise ConfigurationError(
            f"the environment names a {proxy.scheme}:// proxy for {url.scheme}:// hosts: only http:// proxies are "
            "supported"
        )
    return proxy


def bypasses(url: URL, no_proxy: str) -> bool:
    """Return True if `no_proxy` names the host of `url`.

    Its entries are separated by commas or blanks: a host, which stands for its subdomains too (`example.org`,
    `.example.org`, `*.example.org`), an address or a network (`10.0.0.0/8`, `::1`), each with a port if only that port is
    meant (`localhost:8080`, `[::1]:8080`), or `*` for all.
    """
    host = (url.host or "").lower().rstrip(".")
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        name, port = _split_port(entry)
        if name and (port is None or port == url.port) and _names(name, host):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*):([0-9]{1,5})", entry, re.ASCII)
    name, port = (found[1], int(found[2])) if found is not None else (entry, None)
    return name.removeprefix("[").removesuffix("]"), port


def _names(name: str, host: str) -> bool:
    if name == "*":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        domain = name.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ip_network(name, strict=False)
    except ValueError:
        return False
