"""Capabilities of models: the table, and the user's settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from turnstream.config import CapabilitySettings, load_settings
from turnstream.errors import ConfigurationError, InvalidRequest
from turnstream.providers.capabilities import Capabilities, capabilities_of
from turnstream.providers.catalog import BUILT_IN, Catalog


@pytest.mark.requirement("F1")
@pytest.mark.parametrize(
    ("wire", "model", "prefill", "thinking", "context", "output"),
    [
        ("anthropic", "claude-3-haiku-20240307", True, "none", 200_000, 4096),
        ("anthropic", "claude-3-5-sonnet-20240620", True, "none", 200_000, 8192),
        ("anthropic", "claude-3-7-sonnet-20250219", True, "budget", 200_000, 64_000),
        ("anthropic", "claude-opus-4-20250514", True, "budget", 200_000, 32_000),
        ("anthropic", "claude-opus-4-1-20250805", True, "budget", 200_000, 32_000),
        ("anthropic", "claude-sonnet-4-0", True, "budget", 200_000, 64_000),
        ("anthropic", "claude-sonnet-4-5", True, "budget", 200_000, 64_000),
        ("anthropic", "claude-haiku-4-5-20251001", True, "budget", 200_000, 64_000),
        ("anthropic", "claude-sonnet-4-6", False, "effort", 1_000_000, 64_000),
        ("anthropic", "claude-opus-4-6", False, "effort", 1_000_000, 128_000),
        ("anthropic", "claude-opus-4-8", False, "effort", 1_000_000, 128_000),
        ("anthropic", "claude-sonnet-5", False, "effort", 1_000_000, 128_000),
        ("anthropic", "claude-sonnet-5-20270101", False, "effort", 1_000_000, 128_000),
        ("anthropic", "claude-opus-5-5", False, "effort", 1_000_000, 128_000),
        ("anthropic", "claude-of-tomorrow", False, "effort", None, None),
        ("anthropic", "somebody-else", False, "none", None, None),
        ("openai-chat", "anthropic/claude-sonnet-4.5", False, "budget", 200_000, 64_000),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", False, "budget", 200_000, 64_000),
        ("openai-chat", "gpt-4o-mini", False, "none", 128_000, 16_384),
        ("openai-chat", "gpt-4.1-nano", False, "none", 1_047_576, 32_768),
        ("openai-chat", "o3-mini", False, "effort", 200_000, 100_000),
        ("openai-chat", "gpt-5-chat-latest", False, "none", 128_000, 16_384),
        ("openai-chat", "gpt-5.4-mini", False, "effort", 400_000, 128_000),
        ("openai-chat", "gpt-5.4", False, "effort", 1_050_000, 128_000),
        ("openai-chat", "gpt-6.1-sol", False, "effort", 1_050_000, 128_000),
        ("gemini", "gemini-2.5-pro", False, "budget", 1_048_576, 65_536),
        ("openai-chat", "meta-llama/Llama-3.1-8B-Instruct", False, "none", None, None),
        ("ollama", "llama3", True, "none", None, None),
        ("ollama", "qwen3:8b", True, "switch", None, None),
        ("ollama", "gpt-oss:20b", True, "effort", None, None),
    ],
)
def test_the_table(wire, model, prefill, thinking, context, output):
    found = capabilities_of("any", wire, model)
    assert (found.prefill, found.thinking, found.context_tokens, found.max_output_tokens) == (
        prefill,
        thinking,
        context,
        output,
    )


def test_what_is_not_known_is_careful():
    assert capabilities_of("local", "openai-chat", "my-model") == Capabilities()
    assert capabilities_of("new", "no-such-wire", "my-model") == Capabilities()


@pytest.mark.parametrize(
    ("model", "images", "documents"),
    [
        ("gemma3:4b", True, False),
        ("gemma3:1b", False, False),
        ("llava", True, False),
        ("llama3", False, False),
    ],
)
def test_what_ollamas_models_read(model, images, documents):
    found = capabilities_of("ollama", "ollama", model)
    assert (found.images, found.documents, found.structured_output) == (images, documents, True)


def test_each_built_in_model_is_known():
    for name, provider in BUILT_IN.items():
        for model in provider.models:
            found = capabilities_of(name, provider.wire or "", model)
            assert found.context_tokens, model
            assert found.max_output_tokens, model


@pytest.mark.parametrize(
    ("params", "may"),
    [
        ({}, True),
        ({"thinking": None}, True),
        ({"thinking": {"type": "disabled"}}, True),
        ({"thinking": {"budget_tokens": 2000}}, False),
        ({"thinking": {"effort": "low"}}, False),
    ],
)
def test_no_prefill_while_it_thinks(params, may):
    assert capabilities_of("anthropic", "anthropic", "claude-sonnet-4-5").may_prefill(params) is may
    assert not capabilities_of("anthropic", "anthropic", "claude-sonnet-5").may_prefill(params)


class TestTheUsersWord:
    OWN = {
        "groq/*": CapabilitySettings(tools=False, context_tokens=8000),
        "groq/llama*": CapabilitySettings(context_tokens=131_072),
        "*/gpt-4o": CapabilitySettings(prefill=True),
    }

    def test_wins_field_by_field_the_more_exact_one_first(self):
        found = capabilities_of("groq", "openai-chat", "Llama-3", self.OWN)
        assert (found.tools, found.context_tokens) == (False, 131_072)
        assert capabilities_of("groq", "openai-chat", "other", self.OWN).context_tokens == 8000

    def test_leaves_the_rest_as_it_was_known(self):
        found = capabilities_of("openai", "openai-chat", "gpt-4o", self.OWN)
        assert (found.prefill, found.context_tokens) == (True, 128_000)

    def test_comes_from_the_settings(self, tmp_path):
        file = tmp_path / "turnstream.toml"
        file.write_text('[capabilities."ollama/llama*"]\nprefill = false\ncontext_tokens = 8192\n')
        settings = load_settings(file, environ={})
        catalog = Catalog(environ={}, capabilities=settings.capabilities)
        assert catalog.capabilities_of("ollama/llama3") == Capabilities(
            structured_output=True, context_tokens=8192
        )
        with pytest.raises(InvalidRequest, match="no provider"):
            catalog.capabilities_of("nobody/llama3")

    @pytest.mark.parametrize(
        ("toml", "said"),
        [
            ('[capabilities."ollama/x"]\nprefil = true', "did you mean prefill"),
            ('[capabilities."ollama/x"]\nthinking = "much"', "thinking"),
            ("[capabilities.ollama]\nprefill = true", "capabilities.ollama"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path, toml, said):
        file = tmp_path / "turnstream.toml"
        file.write_text(toml)
        with pytest.raises(ConfigurationError, match=said):
            load_settings(file, environ={})


@pytest.mark.skipif(not os.environ.get("TURNSTREAM_CORPUS"), reason="TURNSTREAM_CORPUS is not set")
def test_models_of_the_recordings_that_were_given_tools_have_them():
    folder = Path(os.environ["TURNSTREAM_CORPUS"])
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    for entry in index:
        if not (file := entry["request"].get("file")):
            continue
        body = json.loads((folder / file).read_bytes())
        if body.get("tools") and isinstance(model := body.get("model"), str):
            assert capabilities_of(entry["provider"], entry["wire"], model).tools, model
