"""NO_PROXY is read like other programs read it, with ports. The store of addresses is bounded."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from yarl import URL

from turnstream.providers.connecting import proxy_of
from turnstream.providers.endpoints import _MAX_URLS, Addresses

pytestmark = pytest.mark.fault(49)

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def _proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("HTTPS_PROXY", PROXY)


@pytest.mark.requirement("R5")
@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("localhost:8080", "http://localhost:8080/v1", True),
        ("localhost:8080", "http://localhost:8081/v1", False),
        ("localhost:8080", "http://localhost/v1", False),
        ("models.example:443", "https://models.example/v1", True),
        ("models.example:443", "https://eu.models.example/v1", True),
        ("models.example:443", "https://models.example:8443/v1", False),
        ("models.example:80", "https://models.example/v1", False),
        (".models.example:443", "https://eu.models.example/v1", True),
        ("127.0.0.1:11434", "http://127.0.0.1:11434/", True),
        ("127.0.0.1:11434", "http://127.0.0.1:8000/", False),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]:8081/", False),
        ("::1", "http://[::1]:8081/", True),
        ("[::1]", "http://[::1]/", True),
        ("a, b:1 ,localhost:8080", "http://localhost:8080/", True),
        ("LocalHost:8080", "http://LOCALHOST:8080/", True),
        ("models.example", "https://models.example:8443/", True),
        ("models.example", "https://eu.models.example/", True),
        ("*.models.example", "https://eu.models.example/", True),
        ("models.example", "https://othermodels.example/", False),
        ("10.0.0.0/8", "http://10.1.2.3:8000/", True),
        ("10.0.0.0/8", "http://11.1.2.3:8000/", False),
        ("fd00::/8", "http://[fd00::7]/", True),
        ("10.0.0.0/8:99", "http://10.1.2.3:99/", True),
        ("*", "https://models.example/", True),
        ("", "https://models.example/", False),
        (",:,:80,[", "http://models.example/", False),
        ("localhost:99999", "http://localhost:8080/", False),
    ],
)
def test_which_hosts_are_reached_directly(
    no_proxy: str, url: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_of(URL(url)) == (None if direct else URL(PROXY))


@pytest.mark.requirement("R5")
def test_without_no_proxy_all_go_through_the_proxy() -> None:
    assert proxy_of(URL("https://models.example/")) == URL(PROXY)


@pytest.mark.parametrize("suffix", ["", "/v1"])
def test_addresses_of_many_models_are_kept_within_a_bound(suffix: str) -> None:
    """A caller may name any model, and some wires have it in the path."""
    addresses = Addresses(urlsplit(f"http://127.0.0.1:1{suffix}"))
    for number in range(4 * _MAX_URLS):
        path = f"/models/m{number}:generate"
        assert str(addresses.of(path)).endswith(path)
        assert len(addresses._urls) <= _MAX_URLS
    assert str(addresses.of("/models/m0:generate")).endswith("/models/m0:generate")
