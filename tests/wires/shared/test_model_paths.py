"""Names of models in paths reach the provider's models, and nothing else."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.blocks import Block, Message
from turnstream.errors import InvalidRequest
from turnstream.providers.endpoints import call_url
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest
from turnstream.wires.shared.model_paths import WIRES_WITH_MODEL_PATHS

pytestmark = pytest.mark.fault(32)

HELLO = (Message("user", (Block(0, "text", "hello"),)),)
BASES = {"gemini": "https://host/gate/v1beta", "bedrock": "https://host/gate"}
ROOTS = {"gemini": "/gate/v1beta/", "bedrock": "/gate/model/"}
GOOD = {
    "gemini": [
        "gemini-3-pro",
        "models/gemini-3-pro",
        "tunedModels/mine-1",
        "projects/p/locations/l/publishers/google/models/gemini@002",
        "modèle",
        "a..b",
        "...",
        "a?b#c",
        "100%",
    ],
    "bedrock": [
        "anthropic.claude-v4:0",
        "us.amazon.nova-pro-v1:0",
        "arn:aws:bedrock:us-east-1:1:inference-profile/us.x-v1:0",
        "arn:aws:sagemaker:eu-west-1:1:endpoint/x",
    ],
}


def path_of(wire: str, model: str, *, stream: bool = True) -> str:
    request = WIRES[wire].encode_request(ModelRequest(model, HELLO, stream=stream))
    return urlsplit(call_url(urlsplit(BASES[wire]), request.path)).path


@pytest.mark.parametrize(
    ("wire", "model"), [(wire, model) for wire, names in GOOD.items() for model in names]
)
def test_real_names_are_reached(wire: str, model: str) -> None:
    for stream in (True, False):
        assert model in unquote(path_of(wire, model, stream=stream))
        assert path_of(wire, model, stream=stream).startswith(ROOTS[wire])


@given(st.sampled_from(sorted(WIRES_WITH_MODEL_PATHS)), st.text("ab./\\%2eEfF?#:;@ \n\u2024．", min_size=1))
def test_no_name_leaves_the_models(wire: str, model: str) -> None:
    try:
        path = path_of(wire, model)
    except InvalidRequest:
        return
    for _ in range(3):
        assert path.startswith(ROOTS[wire])
        assert not {"", ".", ".."} & set(path.removeprefix(ROOTS[wire]).split("/"))
        path = unquote(path)
