"""Converts output items into the content of blocks, and back.

    message                 a text block for each part; a refusal is marked by `provider_metadata.refusal`
    reasoning               a thinking block for each part, summary or full text; or one empty block
    function_call           tool_use
    custom_tool_call        tool_use with free text as arguments: its input is `{"input": text}`
    mcp_call,
    code_interpreter_call,
    file_search_call        tool_use and tool_result, both `provider_executed`: input and output are separate
    image_generation_call   image, if it holds one
    everything else         a provider block with the unchanged item

Other items stay raw because their input and output cannot be separated (a web search shows no result), or
because the caller must act on them in the provider's format (computer, shell and patch calls, approvals).
Fields without a place in a block are kept in `provider_metadata.responses`, with the item's `type` and
`id`. This marks a block of this wire, so that it goes back as the same item. Blocks with the same `id` belong
to one item.
"""

from __future__ import annotations

import re
from typing import Any

from turnstream.core.blocks import Block, Content
from turnstream.wires.shared.json_values import JsonObject, is_blank, is_list, is_object

KEY = "responses"
"""Key of this wire in `provider_metadata`."""
KEEPING = ("background", "previous_response_id", "conversation")
"""Params that require the provider to store the response."""
ENCRYPTED = "reasoning.encrypted_content"
"""Value of `include` that requests encrypted reasoning, for a provider that does not store it."""
SUMMARY = "auto"
"""Default of the reasoning summary."""

_SHOWN: dict[str, frozenset[str]] = {
    "message": frozenset({"content", "role"}),
    "reasoning": frozenset({"summary", "content"}),
    "function_call": frozenset({"call_id", "name", "arguments"}),
    "custom_tool_call": frozenset({"call_id", "name", "input"}),
    "mcp_call": frozenset({"name", "arguments", "output", "error"}),
    "code_interpreter_call": frozenset({"code", "outputs"}),
    "file_search_call": frozenset({"queries", "results"}),
    "image_generation_call": frozenset({"result"}),
}
"""Fields of an item that its blocks show."""
_MARKED = frozenset(_SHOWN) - {"message", "function_call"}
"""Items whose blocks are always marked. Blocks of other items are marked only if more than the type
is kept."""
_WITH_STATUS = frozenset(
    {
        "image_generation_call", "code_interpreter_call", "file_search_call", "web_search_call",
        "computer_call", "local_shell_call", "apply_patch_call",
    }
)  # fmt: skip
"""Items that the API accepts only with their status."""
_NOT_COMPLETED = frozenset({"failed", "incomplete"})
_RAW_TYPE = re.compile(r"\w+_(?:call|output|request|response|tools|reference)|program|compaction")
_XAI_SEARCH = "xs_call_"
"""Prefix of the ids of calls that xAI runs itself but sends as custom tools."""


def metadata_of(item: JsonObject, *, exact: bool = False) -> Content:
    """Return `{"provider_metadata": …}` with the fields of an item that its blocks do not show, or nothing.

    `exact` is True for an item that a caller sent: a status and empty fields are kept too.
    """
    kind = str(item.get("type"))
    hidden = _SHOWN.get(kind, frozenset[str]()) | {"type"}
    rest = {
        key: value
        for key, value in item.items()
        if key not in hidden
        and (exact or (not is_blank(value) and (key != "status" or _must_return_status(kind, value))))
    }
    return {"provider_metadata": {KEY: {"type": kind, **rest}}} if rest or kind in _MARKED else {}


def _must_return_status(kind: str, status: Any) -> bool:
    """Return True for a status that must go back, and that a whole item does not have by default."""
    return kind in _WITH_STATUS and status in _NOT_COMPLETED


def status_of(kind: str) -> JsonObject:
    """Return the status of an item whose own is unknown, or nothing if the API does not require one."""
    return {"status": "completed"} if kind in _WITH_STATUS else {}


def own_metadata(content: Content | None) -> JsonObject:
    """Return the metadata of this wire on a block. Empty on a block of another wire."""
    metadata = (content or {}).get("provider_metadata")
    found = metadata.get(KEY) if is_object(metadata) else None
    return found if is_object(found) else {}


def is_refusal(content: Content | None) -> bool:
    metadata = (content or {}).get("provider_metadata")
    return is_object(metadata) and metadata.get("refusal") is True


def call_content(item: JsonObject, identity: str, *, exact: bool = False) -> Content:
    """Return the content of the tool_use block for a call.

    Args:
        item: The call.
        identity: Id of the block if the call has none.
        exact: True to keep a status and empty fields too, for an item that a caller sent.
    """
    kind = item.get("type")
    name = item.get("name")
    content: Content = {
        "tool_use_id": _text(item.get("call_id")) or _text(item.get("id")) or identity,
        "tool_name": name if isinstance(name, str) else "",
    }
    match kind:
        case "custom_tool_call":
            content["free_text"] = "input"
            if content["tool_use_id"].startswith(_XAI_SEARCH):
                content["provider_executed"] = True
        case "mcp_call":
            content["provider_executed"] = True
        case "code_interpreter_call":
            content |= {"tool_name": "code_interpreter", "free_text": "code", "provider_executed": True}
        case "file_search_call":
            content |= {"tool_name": "file_search", "provider_executed": True}
            content["input"] = {"queries": item.get("queries")}
        case _:
            pass
    return content | metadata_of(item, exact=exact)


def result_content(item: JsonObject, identity: str) -> Content | None:
    """Return the content of the tool_result block for a call that the provider ran, or None without
    a result."""
    failed = not is_blank(item.get("error"))
    value: Any
    match item.get("type"):
        case "mcp_call":
            value = item.get("error") if failed else item.get("output")
        case "code_interpreter_call":
            # null unless the request includes them; the call ran all the same
            value = item.get("outputs") or []
        case "file_search_call":
            value = item.get("results")
        case _:
            return None
    if value is None:
        return None
    marked = {"provider_metadata": {KEY: {"type": item["type"], "id": item.get("id")}}}
    return {
        "tool_use_id": identity,
        "content": value,
        "is_error": failed,
        "provider_executed": True,
        **marked,
    }


def image_of(item: JsonObject) -> Content | None:
    """Return the content of the image block for an `image_generation_call`, or None without an image."""
    data = item.get("result")
    if item.get("type") != "image_generation_call" or not isinstance(data, str) or not data:
        return None
    form = item.get("output_format")
    return {
        "media_type": f"image/{form if isinstance(form, str) and form else 'png'}",
        "data": data,
        **metadata_of(item),
    }


def is_raw_item(content: Content | None) -> bool:
    """Return True if a provider block is an item of this wire."""
    kind = (content or {}).get("type")
    if not isinstance(kind, str) or not _RAW_TYPE.fullmatch(kind):
        return False
    return kind != "compaction" or "encrypted_content" in (content or {})


def citations_of(content: Content | None) -> list[Any]:
    found = (content or {}).get("citations")
    return found if is_list(found) else []


def call_item(content: Content, arguments: str, result: Content | None) -> JsonObject:
    """Return the call item of a tool_use block.

    Args:
        content: Content of the block.
        arguments: Arguments of the call as text.
        result: Content of its result if the provider ran the call, or None.
    """
    kept = own_metadata(content)
    kind = kept.get("type", "custom_tool_call" if content.get("free_text") else "function_call")
    identity, name = content.get("tool_use_id", ""), content.get("tool_name", "")
    match kind:
        case "custom_tool_call":
            return {"type": kind, "call_id": identity, "name": name, "input": arguments, **kept}
        case "mcp_call":
            failed = result is not None and bool(result.get("is_error"))
            output = result.get("content") if result is not None else None
            outcome = {"output": None, "error": output} if failed else {"output": output, "error": None}
            return {"type": kind, "id": identity, "name": name, "arguments": arguments, **outcome, **kept}
        case "code_interpreter_call":
            outputs = result.get("content") if result is not None else None
            item: JsonObject = {"type": kind, "id": identity, "code": arguments, "outputs": outputs}
            return {**item, **status_of(kind), **kept}
        case "file_search_call":
            given = content.get("input")
            queries = given.get("queries") if is_object(given) else None
            results = result.get("content") if result is not None else None
            item = {"type": kind, "id": identity, "queries": queries or [], "results": results}
            return {**item, **status_of(kind), **kept}
        case _:
            return {
                "type": "function_call",
                "call_id": identity,
                "name": name,
                "arguments": arguments,
                **kept,
            }


def arguments_of(block: Block) -> str:
    """Return a call's arguments as the model wrote them."""
    text = (block.content or {}).get("input_json")
    return text if isinstance(text, str) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
