"""`turnstream keys`: keys of providers in a file that only the user can read. The environment wins."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.cli.programs import Ended, run
from turnstream.access import secrets_of
from turnstream.config import Settings
from turnstream.providers.catalog import Catalog
from turnstream.stored_keys import KeyVariables, key_variables, store_keys, stored_keys

pytestmark = pytest.mark.requirement("L10")
KEY = "sk-test-0123456789-abcd"


async def keys(*arguments: str, cwd: Path, given: str | None = None, **environ: str) -> Ended:
    data = None if given is None else given.encode()
    return await run("keys", *arguments, cwd=cwd, given=data, environ=environ)


async def test_a_key_is_stored_listed_used_and_removed(tmp_path: Path) -> None:
    assert (await keys("set", "anthropic", cwd=tmp_path, given=f"{KEY}\n")).code == 0
    file = tmp_path / "config" / "turnstream" / "keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    listed = await keys("list", cwd=tmp_path)
    assert listed.output == "ANTHROPIC_API_KEY  …abcd\n"
    models = await run("models", cwd=tmp_path)
    assert "ANTHROPIC_API_KEY, stored" in models.output
    assert KEY not in models.output
    overridden = await run(
        "models", "--json", cwd=tmp_path, environ={"ANTHROPIC_API_KEY": "sk-of-the-environment"}
    )
    places = {place["name"]: place for place in json.loads(overridden.output)["providers"]}
    assert places["anthropic"]["key_is_set"] is True
    assert places["anthropic"]["key_is_stored"] is False
    assert (await keys("remove", "ANTHROPIC_API_KEY", cwd=tmp_path)).code == 0
    assert (await keys("list", cwd=tmp_path)).output == ""
    assert (await keys("remove", "anthropic", cwd=tmp_path)).code == 1


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (("set", "nobody"), KEY, "is not a provider with a key"),
        (("set", "ollama"), KEY, "is not a provider with a key"),
        (("set", "openai"), "\n", "the key is empty"),
        (("set",), "", "the provider is missing"),
        (("set", "openai"), "a\x00b", "OPENAI_API_KEY"),
    ],
)
async def test_a_wrong_key_is_named(
    arguments: tuple[str, ...], given: str, message: str, tmp_path: Path
) -> None:
    ended = await keys(*arguments, cwd=tmp_path, given=given)
    assert ended.code == 2
    assert message in ended.errors
    assert not (tmp_path / "config").exists()


def test_stored_keys_are_masked_in_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    store_keys({"ANTHROPIC_API_KEY": KEY})
    assert KEY in secrets_of(Settings())
    (place,) = (place for place in Catalog().places if place.name == "anthropic")
    assert (place.key_is_set, place.key_is_stored) == (True, True)
    assert KEY not in repr(place)


def test_the_environment_wins_unless_it_is_empty() -> None:
    variables = KeyVariables({"A": "1", "B": " ", "C": "3"}, {"A": "x", "B": "y", "D": "z"})
    assert dict(variables) == {"A": "1", "B": "y", "C": "3", "D": "z"}
    assert [name for name in variables if variables.is_stored(name)] == ["B", "D"]
    assert len(variables) == 4


def test_a_file_that_others_can_read_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    store_keys({"A": KEY})
    assert stored_keys() == {"A": KEY}
    (tmp_path / "turnstream" / "keys.json").chmod(0o644)
    assert stored_keys() == {}
    assert "chmod 600" in caplog.text
    assert dict(key_variables({"B": "1"})) == {"B": "1"}, "an environment that is given is used alone"
