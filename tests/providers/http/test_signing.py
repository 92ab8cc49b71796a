"""Signed requests: AWS Signature Version 4 like botocore's client, with no secret in any message."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import subprocess
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import botocore.auth
import botocore.session
import pytest

from turnstream.access import secrets_of
from turnstream.config import ProviderSettings, Settings, Timeouts
from turnstream.core.blocks import Block, Message
from turnstream.core.usage import Usage
from turnstream.errors import AuthenticationFailed, ConfigurationError, ProviderError
from turnstream.providers.catalog import BUILT_IN, Catalog
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.providers.pricing import Pricing
from turnstream.providers.signing import AwsSigner
from turnstream.simulator.registration import SIMULATOR
from turnstream.simulator.server import SimulatorServer
from turnstream.wires import WIRES, usable_wires
from turnstream.wires.base import ModelRequest

DEADLINE = 20
SECRET = "secret-5f0b9d2c41aa"
TOKEN = "token-77e3c0d1b2aa"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
WIRE = WIRES["bedrock"]
MODELS = [
    "us.amazon.nova-2-lite-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc def",
]


def asking(model: str) -> ModelRequest:
    return ModelRequest(model, (Message("user", (Block(0, "text", "hi é"),)),))


@pytest.fixture(autouse=True)
def _no_other_credentials(monkeypatch, tmp_path):
    """botocore finds only the test's credentials, and asks no other host."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


class Captured(Exception):
    pass


def sent_by_botocore(model: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The request that botocore's own client would send, at a time that stands still."""
    now = datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: now)  # noqa: ARG005
    session = botocore.session.Session()
    session.set_credentials(KEYS["AWS_ACCESS_KEY_ID"], SECRET, TOKEN)
    client = session.create_client(
        "bedrock-runtime", region_name="eu-west-1", endpoint_url="http://a.example:8"
    )

    def capture(request: Any, **_: Any) -> None:
        raise Captured(request)

    client.meta.events.register("before-send.bedrock-runtime.ConverseStream", capture)
    try:
        client.converse_stream(modelId=model, messages=[{"role": "user", "content": [{"text": "hi é"}]}])
    except Captured as captured:
        return captured.args[0]
    pytest.fail("botocore sent nothing")


@pytest.mark.requirement("E1")
@pytest.mark.parametrize("model", MODELS)
async def test_the_signature_is_botocores_own(monkeypatch, model):
    theirs = sent_by_botocore(model, monkeypatch)
    post = WIRE.encode_request(asking(model))
    url = f"http://a.example:8{post.path}"
    assert url == theirs.url
    assert json.loads(post.body) == json.loads(theirs.body)
    signer = AwsSigner("eu-west-1", KEYS)
    await signer.prepare()
    ours = signer.sign("POST", url, {**post.headers, "user-agent": "any"}, theirs.body)
    assert set(ours) == {"Authorization", "X-Amz-Date", "X-Amz-Security-Token"}
    assert {name: value.encode() for name, value in ours.items()} == {
        name: theirs.headers[name] for name in ours
    }


def signature_of(method: str, path: str, headers: dict[str, str], body: bytes, region: str) -> str:
    """Version 4 as AWS describes it, written out once more."""
    given = headers["authorization"]
    names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    canonical = "\n".join(
        [
            method,
            quote(path, safe="/~"),
            "",
            *(f"{name}:{headers[name]}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    day = headers["x-amz-date"][:8]
    scope = f"{day}/{region}/bedrock/aws4_request"
    to_sign = "\n".join(
        ["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = f"AWS4{SECRET}".encode()
    for part in (day, region, "bedrock", "aws4_request", to_sign):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


@pytest.mark.parametrize("model", MODELS)
async def test_what_arrives_is_what_was_signed(raw_server, model):
    raw_server.answer = lambda exchange: exchange.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    provider = HttpProvider("test", WIRE, Endpoint(raw_server.url, signer=AwsSigner("eu-west-1", KEYS)))
    with pytest.raises(ProviderError):
        async with asyncio.timeout(DEADLINE), provider.stream(asking(model)):
            pass
    await provider.close()
    (exchange,) = raw_server.exchanges
    first, *lines = exchange.head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert headers["x-amz-security-token"] == TOKEN
    expected = signature_of(method, path, headers, exchange.body, "eu-west-1")
    assert headers["authorization"].endswith(f"Signature={expected}")


@pytest.mark.requirement("K3")
async def test_no_secret_reaches_an_error_or_the_log(raw_server, caplog):
    caplog.set_level(logging.DEBUG)

    async def repeat(exchange):
        words = json.dumps(
            {"__type": "InvalidSignatureException", "message": f"you sent {SECRET} {exchange.head}"}
        )
        head = f"HTTP/1.1 403 No\r\nContent-Length: {len(words)}\r\n\r\n"
        await exchange.send(head.encode() + words.encode())

    raw_server.answer = repeat
    signer = AwsSigner("eu-west-1", KEYS)
    endpoint = Endpoint(raw_server.url, signer=signer)
    provider = HttpProvider("test", WIRE, endpoint)
    with pytest.raises(AuthenticationFailed) as caught:
        async with asyncio.timeout(DEADLINE), provider.stream(asking("m")):
            pass
    await provider.close()
    error = caught.value
    assert "you sent" in (error.detail or "")
    shown = "".join(
        [*traceback.format_exception(error), str(vars(error)), repr(endpoint), repr(signer), caplog.text]
    )
    assert not any(secret in shown for secret in (SECRET, TOKEN))
    assert {SECRET, TOKEN} <= secrets_of(Settings(), KEYS)


async def test_an_api_key_takes_the_place_of_a_signature(raw_server):
    raw_server.answer = lambda exchange: exchange.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    provider = HttpProvider("test", WIRE, Endpoint(raw_server.url, "bedrock-api-key-1"))
    with pytest.raises(ProviderError):
        async with asyncio.timeout(DEADLINE), provider.stream(asking("m")):
            pass
    await provider.close()
    assert "authorization: bearer bedrock-api-key-1" in raw_server.exchanges[0].head.lower()


class TestCredentials:
    async def test_of_a_profile(self, monkeypatch, tmp_path):
        (tmp_path / "credentials").write_text(
            f"[mine]\naws_access_key_id = AKIAMINE\naws_secret_access_key = {SECRET}\n"
        )
        monkeypatch.setenv("AWS_PROFILE", "mine")
        signer = AwsSigner("eu-west-1", {})
        async with asyncio.timeout(DEADLINE):
            await signer.prepare()
        assert "Credential=AKIAMINE/" in signer.sign("POST", "http://a/b", {}, b"")["Authorization"]
        assert signer.secrets == (SECRET,)

    async def test_that_take_long_hold_up_nothing_else_and_are_renewed(self, monkeypatch, tmp_path):
        """A program brings them, once a line is written into a pipe: the event loop goes on until then."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        program = f'sh -c "read -r line < {pipe}; echo $line"'
        (tmp_path / "config").write_text(f"[profile slow]\ncredential_process = {program}\n")
        monkeypatch.setenv("AWS_PROFILE", "slow")
        signer = AwsSigner("eu-west-1", {})
        descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)

        async def prepared_with(*access_keys: str) -> str:
            preparing = asyncio.create_task(signer.prepare())
            for key in access_keys:
                told = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": SECRET, "Expiration": soon()}
                os.write(descriptor, json.dumps(told).encode() + b"\n")
                await asyncio.sleep(0)
            await preparing
            return signer.sign("POST", "http://a/b", {}, b"")["Authorization"].partition("/")[0]

        try:
            async with asyncio.timeout(DEADLINE):
                first = await prepared_with("AKIAONE", "AKIATWO")
                second = await prepared_with("AKIATHREE")
        finally:
            os.write(descriptor, b"\n" * 4)  # for a program that still waits
            os.close(descriptor)
        assert first != second

    async def test_that_are_nowhere(self, raw_server):
        provider = HttpProvider("test", WIRE, Endpoint(raw_server.url, signer=AwsSigner("eu-west-1", {})))
        with pytest.raises(AuthenticationFailed, match="AWS_ACCESS_KEY_ID") as caught:
            async with asyncio.timeout(DEADLINE), provider.stream(asking("m")):
                pass
        assert not caught.value.retryable
        assert not raw_server.exchanges
        await provider.close()

    @pytest.mark.parametrize("program", [f"echo {SECRET}", "false", "/no/such/program", "echo {}"])
    async def test_that_could_not_be_had(self, monkeypatch, tmp_path, program):
        (tmp_path / "config").write_text(f"[profile bad]\ncredential_process = {program}\n")
        monkeypatch.setenv("AWS_PROFILE", "bad")
        with pytest.raises(AuthenticationFailed) as caught:
            await AwsSigner("eu-west-1", {}).prepare()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


def soon() -> str:
    """A time at which credentials are due for renewal already."""
    return datetime.fromtimestamp(datetime.now(UTC).timestamp() + 60, UTC).isoformat()


class TestCatalog:
    @pytest.mark.parametrize(
        ("environ", "ready"),
        [
            ({}, False),
            (KEYS, False),
            ({"AWS_REGION": "eu-west-1"}, False),
            ({**KEYS, "AWS_REGION": "eu-west-1"}, True),
            ({"AWS_PROFILE": "mine", "AWS_DEFAULT_REGION": "eu-west-1"}, True),
            ({"AWS_BEARER_TOKEN_BEDROCK": "key", "AWS_REGION": "eu-west-1"}, True),
        ],
    )
    def test_ready_when_credentials_and_a_region_are_seen(self, environ, ready):
        assert Catalog(environ=environ).is_ready("bedrock") is ready

    async def test_the_address_is_made_of_the_region(self):
        settings = {"bedrock": ProviderSettings(region="ap-northeast-1")}
        catalog = Catalog(settings, environ={**KEYS, "AWS_REGION": "eu-west-1"})
        provider, model = catalog.resolve("bedrock/us.amazon.nova-2-lite-v1:0")
        assert isinstance(provider, HttpProvider)
        assert model == "us.amazon.nova-2-lite-v1:0"
        assert provider.endpoint.base_url == "https://bedrock-runtime.ap-northeast-1.amazonaws.com"
        assert isinstance(provider.endpoint.signer, AwsSigner)
        assert provider.endpoint.signer.region == "ap-northeast-1"

    async def test_its_models_have_prices(self):
        settings = {
            "mine": ProviderSettings(
                wire="bedrock", base_url="https://bedrock-runtime.{region}.amazonaws.com"
            )
        }
        pricing = Pricing(base_urls=Catalog(settings, environ={}).base_urls)
        for provider in ("bedrock", "mine"):
            for model in BUILT_IN["bedrock"].models:
                cost = pricing.cost(provider, model, "bedrock", Usage(1_000_000, 0))
                assert cost is not None
                assert cost.amount

    async def test_an_api_key_is_preferred(self):
        environ = {**KEYS, "AWS_REGION": "eu-west-1", "AWS_BEARER_TOKEN_BEDROCK": "key"}
        provider, _ = Catalog(environ=environ).resolve("bedrock/m")
        assert isinstance(provider, HttpProvider)
        assert (provider.endpoint.api_key, provider.endpoint.signer) == ("key", None)

    def test_without_a_region_the_remedy_is_named(self):
        with pytest.raises(ConfigurationError, match="AWS_REGION"):
            Catalog(environ=KEYS).resolve("bedrock/m")

    async def test_a_signed_call_to_the_simulator(self):
        async with SimulatorServer() as server, asyncio.timeout(DEADLINE):
            settings = {"aws": ProviderSettings(wire="bedrock", base_url=server.url, region="eu-west-1")}
            catalog = Catalog(settings, environ=KEYS)
            provider, model = catalog.resolve("aws/echo:pace=0")
            assert isinstance(provider, HttpProvider)
            provider.timeouts = Timeouts()
            async with provider.stream(asking(model)) as batches:
                events = [event async for batch in batches for event in batch]
            (logged,) = server.log.newest()
            await catalog.close()
        assert len(events) > 3
        assert logged.headers["authorization"] == logged.headers["x-amz-security-token"] == "***"
        assert logged.path == "/model/echo:pace=0/converse-stream"


class TestWithoutBotocore:
    @pytest.fixture(autouse=True)
    def _missing(self, monkeypatch):
        for name in [name for name in sys.modules if name.partition(".")[0] == "botocore"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "botocore", None)

    def test_the_remedy_is_named(self):
        for use in (WIRE.decoder, lambda: AwsSigner("eu-west-1", KEYS)):
            with pytest.raises(ConfigurationError, match=r"pip install 'turnstream\[bedrock\]'"):
                use()

    def test_all_else_works(self):
        assert WIRE not in list(usable_wires())
        assert len(list(usable_wires())) == len(WIRES) - 1
        assert not Catalog(environ={**KEYS, "AWS_REGION": "eu-west-1"}).is_ready("bedrock")
        assert Catalog(in_process=SIMULATOR, environ={}).default_model == "sim/demo"


def test_nothing_imports_botocore_before_it_is_used():
    code = (
        "import sys, turnstream, turnstream.wires, turnstream.engine, turnstream.cli.main;"
        "print([name for name in sys.modules if name.startswith('botocore')])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert told.stdout.strip() == "[]"
