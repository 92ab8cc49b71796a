"""The application under test: asks a model, and shows what it says as it comes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import openai


def answer(question: str, model: str = "gpt-5") -> Iterator[str]:
    client = openai.OpenAI(base_url=os.environ.get("OPENAI_BASE_URL"), max_retries=0)
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], stream=True
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content
