"""A tool call's arguments: JSON text that a model wrote, parsed once it is complete, and its digest."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, cast

import msgspec

from turnstream.core.admission import TOO_DEEP, encodes_deeper, plain_json
from turnstream.core.blocks import Block, Content


def finish_tool_use(content: Content, input_json: str) -> Content:
    """Return the content of a stopped tool_use block.

    `input` is an object, or None with the reason in `input_error`. `input_json` is the provider's text,
    unchanged. Without text, `input` is the one from the block's start. If `free_text` names a key, the text
    is not JSON, and `input` is `{key: text}`.
    """
    given: Any = content.get("input")
    finished: Content = {
        "tool_use_id": "",
        "tool_name": "",
        **content,
        "input": cast(Content, given) if isinstance(given, dict) else {},
        "input_json": input_json,
    }
    if not input_json.strip():
        return finished
    if isinstance(key := content.get("free_text"), str):
        return {**finished, "input": {key: input_json}}
    try:
        value: Any = msgspec.json.decode(input_json)
    except RecursionError:
        return {**finished, "input": None, "input_error": TOO_DEEP}
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        return {**finished, "input": None, "input_error": f"not valid JSON: {error}"}
    if not isinstance(value, dict):
        return {**finished, "input": None, "input_error": "the arguments are not a JSON object"}
    if encodes_deeper(input_json, cast(Content, value)):
        return {**finished, "input": None, "input_error": TOO_DEEP}
    return {**finished, "input": value}


def input_digest(arguments: Any) -> str:
    """Return the SHA-256 (64 hexadecimal digits) of a call's arguments, which are any JSON value.

    The order of the keys does not matter. Arguments that were stored and read again have the same digest.
    """
    return sha256(msgspec.json.encode(plain_json(arguments), order="deterministic")).hexdigest()


def call_digest(call: Block) -> str:
    """Return the digest of the arguments of a tool_use block."""
    return input_digest((call.content or {}).get("input"))
