"""The built page: its files, headers and encodings; and the plain page without a build."""

from __future__ import annotations

import gzip
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from tests.server.live import Client, read_head, serving
from turnstream.config import ServerSettings
from turnstream.engine import Engine
from turnstream.server.page.built_page import BuiltPage
from turnstream.server.page.routes import add_page

SCRIPT = b"export const answer = 42;\n" * 20


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "built"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_bytes(b"<!doctype html><title>built</title>")
    (folder / "assets" / "main-1a2b.js").write_bytes(SCRIPT)
    (folder / "assets" / "main-1a2b.js.gz").write_bytes(gzip.compress(SCRIPT))
    (folder / "assets" / "main-1a2b.js.br").write_bytes(b"brotli")
    (folder / "assets" / "plain-3c4d.css").write_bytes(b"a{}")
    (folder / "assets" / "secret.pem").write_bytes(b"not a file of the page")
    return folder


@pytest.fixture
async def client(tmp_path: Path, built: Path) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    application = FastAPI()
    add_page(application, engine._context, "0", "/api", folder=built)  # pyright: ignore[reportPrivateUsage]
    async with serving(application) as port:
        yield Client(port, prefix="")


@pytest.mark.parametrize("path", ["/", "/assets/main-1a2b.js", "/assets/plain-3c4d.css"])
async def test_each_file_has_the_policy_of_the_page(client: Client, path: str) -> None:
    headers = (await client.call("GET", path)).headers
    policy = headers["content-security-policy"]
    assert "'unsafe-inline'" not in policy
    for rule in (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    ):
        assert rule in policy.split("; ")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-dns-prefetch-control"] == "off"


async def test_the_index_is_asked_for_again_and_assets_never(client: Client) -> None:
    index = await client.call("GET", "/")
    assert index.body == b"<!doctype html><title>built</title>"
    assert index.headers["cache-control"] == "no-cache"
    again = await client.call("GET", "/", headers={"If-None-Match": index.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    asset = await client.call("GET", "/assets/main-1a2b.js")
    assert "immutable" in asset.headers["cache-control"]
    assert asset.headers["content-type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br", "br"),
        ("gzip", "gzip"),
        ("br;q=0, GZIP;q=0.5", "gzip"),
        ("identity", None),
        ("", None),
    ],
)
async def test_a_compressed_copy_is_sent_where_the_browser_takes_it(
    client: Client, accepted: str, coding: str | None
) -> None:
    answer = await client.call("GET", "/assets/main-1a2b.js", headers={"Accept-Encoding": accepted})
    assert answer.headers.get("content-encoding") == coding
    assert answer.headers["vary"] == "Accept-Encoding"
    if coding == "gzip":
        assert gzip.decompress(answer.body) == SCRIPT
    else:
        assert answer.body == (b"brotli" if coding == "br" else SCRIPT)
    whole = await client.call("GET", "/assets/plain-3c4d.css", headers={"Accept-Encoding": accepted})
    assert (whole.headers.get("content-encoding"), whole.body) == (None, b"a{}")


@pytest.mark.parametrize(
    "path", ["/assets/secret.pem", "/assets/missing.js", "/assets/..%2Findex.html", "/assets/main-1a2b.js.gz"]
)
async def test_nothing_but_the_files_of_the_page_is_served(client: Client, path: str) -> None:
    assert (await client.call("GET", path)).status == 404


def test_a_missing_build_is_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert BuiltPage.load(tmp_path) is None
    assert "make page" in caplog.text


async def test_the_plain_page_is_shown_without_the_chat(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", server=ServerSettings(page=False))
    async with serving(engine.application()) as port:
        client = Client(port, prefix="")
        answer = await client.call("GET", "/")
        assert b"Reference of the API" in answer.body
        assert b"sim/echo" in answer.body
        reader, writer = await client.open("HEAD", "/")
        assert (await read_head(reader))[0] == 200
        writer.close()
        assert (await client.call("GET", "/assets/main.js")).status == 404
