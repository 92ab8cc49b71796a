"""The deployments of `examples/many_nodes`: they are valid YAML, and their commands and paths exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import PROJECT
from turnstream.cli.main import build_parser
from turnstream.engine import Engine

FOLDER = PROJECT / "examples/many_nodes"


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes.yaml"])
def test_the_served_command_exists(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert all(yaml.safe_load_all(text))
    words = re.findall(r"--[a-z][a-z-]*(?:[= ][^\s\"]+)?", text[text.index("serve") :])
    flags = [word for word in words if not word.startswith("--username")]
    assert len(flags) == 4
    arguments = build_parser().parse_args(
        ["serve", *(part for flag in flags for part in re.split("[= ]", flag))]
    )
    assert arguments.database_url.startswith("postgresql://")
    assert arguments.drain_seconds == 300


def test_the_probes_exist(tmp_path: Path) -> None:
    routes = {
        getattr(route, "path", "") for route in Engine(f"sqlite:///{tmp_path / 'a'}").application().routes
    }
    named = {
        path for file in FOLDER.iterdir() for path in re.findall(r"/(?:ready|health)z", file.read_text())
    }
    assert named == {"/readyz", "/healthz"}
    assert named <= routes
