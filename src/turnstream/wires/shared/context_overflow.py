"""Recognizes error messages that say that a conversation exceeds the model's context window.

Few model servers have an error code for it. Each row is a regular expression, searched anywhere without
regard to case, with the vendors that use these words. A new row needs a message in
`tests/wires/test_context_overflow.py`. The setting `context_overflow` in `[providers.NAME]` adds rows for one
provider.
"""

from __future__ import annotations

import re

_ROWS: tuple[tuple[str, str], ...] = (
    ("Anthropic, Fireworks, Ollama", r"\bprompt (?:is )?too long\b"),
    ("Anthropic", r"input length and `?max_tokens`? exceed"),
    ("OpenAI, Azure, DeepSeek, vLLM, OpenRouter, Groq", r"\bmaximum context length\b(?: is| of|:)? ?\d"),
    ("OpenAI's code", r"\b(?:model_)?context_(?:length|window|size)_exceeded\b"),
    ("Mistral", r"too large for model with \d+ maximum context"),
    ("xAI", r"\bmaximum prompt length is \d"),
    ("Groq, Cerebras, vLLM", r"\breduce the length of (?:the|your) (?:input )?(?:messages|prompt)\b"),
    ("llama.cpp's type", r"\bexceed_context_size_error\b"),
    (
        "OpenAI, llama.cpp, SGLang, Together, Cloudflare, LM Studio, gpt4all",
        (
            r"\b(?:exceed\w*|overflow\w*|(?:long|larg|great)er than|too (?:long|large) for)\b"
            r"[^;\n]{0,80}\bcontext (?:window|length|size|limit)\b"
        ),
    ),
    (
        "MiniMax, OpenAI",
        r"\bcontext (?:window|length|size|limit)(?: is| was)? (?:exceed\w*|overflow\w*|too (?:long|small))",
    ),
    ("LM Studio", r"\bcontext length of only \d"),
    (
        "Gemini, Copilot, Nova, OpenAI, watsonx",
        (
            r"\b(?:input|prompt|request)[ _]tokens?(?: count)?\b[^;\n]{0,60}"
            r"\b(?:exceed(?:s|ed)?|only supports up to)\b"
        ),
    ),
    ("Gemini, Vertex AI", r"\btoken count\b[^;\n]{0,60}\b(?:exceeds|only supports up to)\b"),
    ("Kimi", r"\bexceeded model token limit\b"),
    (
        "Bedrock, SGLang, Doubao, Kimi",
        r"\b(?:input|prompt)(?: tokens?)? length\b[^;\n]{0,60}\b(?:exceeds|(?:is )?too long)\b",
    ),
    ("Bedrock, Databricks", r"\binput is too long\b"),
    ("Qwen", r"\brange of input length should be\b"),
    (
        "TGI, Together",
        r"`?\binputs\b`? (?:tokens \+ `?max_new_tokens`? must be|must have less than \d+ tokens)",
    ),
    ("Cohere, Bedrock", r"\btoo many (?:input |prompt |total )?tokens\b"),
    ("Cohere, watsonx", r"\bnumber of (?:input )?tokens\b[^;\n]{0,60}\bcannot exceed\b"),
    (
        "z.ai",
        r"\bprompt exceeds max(?:imum)? length\b|prompt\s?超长|(?:输入|上下文)\S{0,8}(?:超长|超过|超出)",
    ),
    ("GitHub Models", r"\brequest body too large for \S+ model\. max size: \d+ tokens\b"),
    ("vLLM", r"\bprompt \(length \d+\) is longer than\b"),
    ("SambaNova", r"\bmaximum supported sequence length\b"),
    ("LM Studio", r"\btokens to keep from the initial prompt\b"),
    ("OpenAI, a text of the conversation", r"string too long\. expected a string with maximum length \d{5,}"),
)
_OVERFLOW = re.compile("|".join(f"(?:{pattern})" for _, pattern in _ROWS), re.IGNORECASE)
_RATE_WORDS = re.compile(
    r"\bper (?:min|minute|hour|day|month|second)\b|\btp[mdh]\b|\brate.?limit"
    r"|\bquota\b|\bplease wait\b|\bthis month\b",
    re.IGNORECASE,
)
"""Words of rate limits and quotas, which count tokens too. The same request succeeds later."""
_LONGEST = 4000


def means_overflow(*words: str) -> bool:
    """Return True if an error's message, code or type says that the conversation exceeds the context
    window."""
    words_text = " ".join(words)[:_LONGEST]
    return _OVERFLOW.search(words_text) is not None and _RATE_WORDS.search(words_text) is None
