"""Tests of the application, against a simulated provider."""

from __future__ import annotations

import openai
import pytest
from assistant import answer
from conftest import simulate

RECORDING = """\
data: {"id":"1","object":"chat.completion.chunk","created":0,"model":"m","choices":[{"index":0,"delta":{"content":"As it "}}]}

data: {"id":"1","object":"chat.completion.chunk","created":0,"model":"m","choices":[{"index":0,"delta":{"content":"was."},"finish_reason":"stop"}]}

data: [DONE]

"""


def test_the_answer_is_shown_whole(provider):
    assert "".join(answer("Say this", model="echo:pace=0")) == "Say this"


def test_what_is_sent(provider, requests_sent):
    list(answer("Say this", model="echo:pace=0"))
    (request,) = requests_sent()
    assert request["body"]["messages"] == [{"role": "user", "content": "Say this"}]
    assert request["headers"]["authorization"] == "***"


def test_a_rate_limit(provider):
    with pytest.raises(openai.RateLimitError) as caught:
        list(answer("Hello", model="demo:fault=error-before,status=429,retry-after=2"))
    assert caught.value.response.headers["Retry-After"] == "2"


def test_a_connection_that_breaks(provider):
    shown = answer("Hello", model="demo:pace=0.01,fault=cut,after=9")
    assert next(shown) == "Hello! "
    with pytest.raises(openai.APIConnectionError):
        list(shown)


def test_a_recorded_answer(provider, tmp_path, monkeypatch):
    recording = tmp_path / "answer.sse"
    recording.write_text(RECORDING)
    with simulate("--replay", str(recording), "--rate", "100", "--chunk", "7") as url:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        assert list(answer("Anything", model="gpt-5")) == ["As it ", "was."]
