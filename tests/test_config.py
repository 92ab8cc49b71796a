from __future__ import annotations

from pathlib import Path

import pytest

from turnstream.access import check_binding, is_loopback, secrets_of, server_key
from turnstream.config import ProviderSettings, ServerSettings, Settings, load_settings
from turnstream.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path | None = None, environ: dict[str, str] | None = None, **flags: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, environ=environ or {}, flags=flags)
    return caught.value.message


def test_without_any_source_the_defaults_hold():
    settings = load_settings(environ={})
    assert settings == Settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8089)
    assert settings.server.max_body_bytes == 20 * 1024 * 1024
    assert settings.store.url == "sqlite:///turnstream.sqlite"
    assert settings.engine.ring_bytes == 64 * 1024
    assert settings.providers == {}


def test_each_source_wins_over_the_one_before(tmp_path: Path):
    file = write(tmp_path / "own.toml", "[server]\nhost = '127.0.0.2'\nport = 1001\ndrain_seconds = 3\n")
    settings = load_settings(
        file,
        environ={"TURNSTREAM_SERVER__PORT": "1002", "TURNSTREAM_SERVER__DRAIN_SECONDS": "4"},
        flags={"server.drain_seconds": 5, "server.host": None},
    )
    assert settings.server == ServerSettings(host="127.0.0.2", port=1002, drain_seconds=5)


def test_the_file_is_found_by_path_then_variable_then_working_directory(tmp_path: Path):
    here = write(tmp_path / "turnstream.toml", "[server]\nport = 1\n")
    named = write(tmp_path / "named.toml", "[server]\nport = 2\n")
    given = write(tmp_path / "given.toml", "[server]\nport = 3\n")
    assert load_settings(environ={}).server.port == 1
    assert load_settings(environ={"TURNSTREAM_CONFIG": str(named)}).server.port == 2
    assert load_settings(str(given), environ={"TURNSTREAM_CONFIG": str(named)}).server.port == 3
    here.unlink()
    assert load_settings(environ={}).server.port == 8089


def test_a_provider_is_described_in_full(tmp_path: Path):
    file = write(
        tmp_path / "turnstream.toml",
        """
        [providers.corner]
        wire = "openai-chat"
        base_url = "http://localhost:8000/v1"
        api_key_env = "CORNER_KEY"
        models = ["small", "large"]
        headers = { "X-Team" = "blue" }
        [providers.corner.timeouts]
        idle = 7
        """,
    )
    corner = load_settings(file, environ={"TURNSTREAM_PROVIDERS__CORNER__MODELS": "huge, tiny"}).providers[
        "corner"
    ]
    assert corner.models == ("huge", "tiny")
    assert corner.headers == {"X-Team": "blue"}
    assert (corner.wire, corner.api_key_env) == ("openai-chat", "CORNER_KEY")
    assert (corner.timeouts.idle, corner.timeouts.connect) == (7.0, 10.0)


@pytest.mark.parametrize(
    "name", ["TURNSTREAM_PORT", "TURNSTREAM_SERVER_PORT", "TURNSTREAM_API_KEY", "TURNSTREAM_CORPUS", "PORT"]
)
def test_a_variable_without_a_double_underscore_is_no_setting(name: str):
    assert load_settings(environ={name: "tcp://10.0.0.1:80"}) == Settings()


def test_an_empty_variable_counts_as_unset():
    assert load_settings(environ={"TURNSTREAM_SERVER__PORT": "", "TURNSTREAM_CONFIG": ""}) == Settings()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[servr]\nport = 1", ["servr", "did you mean server?"]),
        ("[server]\nprot = 1", ["server.prot", "did you mean port?"]),
        ("[providers.x]\nbase-url = 'http://h'", ["providers.x.base-url", "did you mean base_url?"]),
        ("[providers.x.timeouts]\nfirst = 1", ["providers.x.timeouts.first", "did you mean first_token?"]),
        ("[store]\nzzz = 1", ["store.zzz", "here are: outage, url, writers"]),
        ("[server]\nport = 70000", ["server.port", "less than or equal to 65535"]),
        ("[server]\nport = 'many'", ["server.port", "valid integer"]),
        ("server = 3", ["server: "]),
        ("[engine]\nheartbeat = 60", ["engine.heartbeat", "15"]),
        ("[engine]\njournal_interval = inf", ["engine.journal_interval", "finite"]),
        ("[engine]\ndefault_model = 'gpt'", ["engine.default_model", "pattern"]),
        ("[providers.x]\nbase_url = 'h/v1'", ["providers.x.base_url", "pattern"]),
        ("[providers.'X/Y']\nwire = 'anthropic'", ["providers.X/Y", "pattern"]),
        ("[server\nport = 1", ["not valid TOML"]),
    ],
)
def test_a_mistake_in_the_file_names_file_key_and_remedy(tmp_path: Path, text: str, parts: list[str]):
    file = write(tmp_path / "bad.toml", text)
    message = refusal(file)
    for part in [str(file), *parts]:
        assert part in message


def test_a_mistake_in_the_environment_or_a_flag_names_its_source(tmp_path: Path):
    file = write(tmp_path / "good.toml", "[server]\nport = 1\n")
    assert "environment variable TURNSTREAM_SERVER__PROT: server.prot" in refusal(
        file, {"TURNSTREAM_SERVER__PROT": "2"}
    )
    assert "environment variable TURNSTREAM_SERVR__PORT: servr" in refusal(
        file, {"TURNSTREAM_SERVR__PORT": "2"}
    )
    assert "flag server.port: server.port" in refusal(file, {}, **{"server.port": -1})


def test_every_mistake_is_told_at_once(tmp_path: Path):
    message = refusal(write(tmp_path / "bad.toml", "[server]\nport = -1\nhots = 'h'\n"))
    assert len(message.splitlines()) == 2


def test_a_key_written_where_its_variable_belongs_is_not_repeated(tmp_path: Path):
    secret = "sk-live-0123456789"
    for line in (f"api_key = '{secret}'", f"api_key_env = '{secret}'", f"timeouts = '{secret}'"):
        message = refusal(write(tmp_path / "leak.toml", f"[providers.x]\n{line}\n"))
        assert secret not in message
    assert "did you mean api_key_env?" in refusal(
        write(tmp_path / "leak.toml", "[providers.x]\napi_key = 'k'\n")
    )


def test_a_missing_file_is_refused_with_the_name_of_what_asked_for_it(tmp_path: Path):
    assert "the argument names" in refusal(tmp_path / "none.toml")
    assert "TURNSTREAM_CONFIG names" in refusal(environ={"TURNSTREAM_CONFIG": str(tmp_path)})


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LOCALHOST.", "::ffff:127.0.0.1"]
)
def test_loopback_needs_no_key(host: str):
    assert is_loopback(host)
    check_binding(ServerSettings(host=host), environ={})


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.2", "example.org", "localhost.example.org", "::ffff:10.0.0.1"]
)
def test_anything_else_is_refused_without_a_key(host: str):
    assert not is_loopback(host)
    server = ServerSettings(host=host, api_key_env="MY_SERVER_KEY")
    for environ in ({}, {"MY_SERVER_KEY": "  "}, {"TURNSTREAM_API_KEY": "another"}):
        with pytest.raises(ConfigurationError, match="set MY_SERVER_KEY") as caught:
            check_binding(server, environ=environ)
        assert "127.0.0.1" in caught.value.message
    check_binding(server, environ={"MY_SERVER_KEY": "s3cret"})
    assert server_key(server, environ={"MY_SERVER_KEY": "s3cret\n"}) == "s3cret"


@pytest.mark.requirement("K3")
def test_all_keys_are_known_to_the_log_and_none_is_printed():
    headers = {"X-Api-Key": "in-a-header", "X-Team": "blue"}
    settings = Settings(
        providers={
            "a": ProviderSettings(api_key_env="A_KEY", headers=headers),
            "b": ProviderSettings(api_key_env="B_KEY"),
        }
    )
    environ = {
        "A_KEY": "key-of-a",
        "TURNSTREAM_API_KEY": "key-of-server",
        "BUILT_IN_API_KEY": "other",
        "X": "x",
    }
    assert secrets_of(settings, environ) == {"key-of-a", "key-of-server", "other", "in-a-header"}
    assert "in-a-header" not in repr(settings)
