"""Output items in OpenAI's shape and in ours.

    message                 a text block for each part; a refusal is one that `provider_metadata.refusal` marks
    reasoning               a thinking block for each part, summary or full text; one without text where there is none
    function_call           tool_use
    custom_tool_call        tool_use whose arguments are free text: its input is `{"input": text}`
    mcp_call,
    code_interpreter_call,
    file_search_call        tool_use and tool_result, both `provider_executed`: input and output stand apart in them
    image_generation_call   image, where there is one
    everything else         a provider block, the item as it came

The rest stays raw because it cannot be told apart into what was asked and what came of it (a web search shows no result),
or because the caller has to act on it in the provider's own words (computer, shell and patch calls, approvals).
What our blocks have no word for is kept in `provider_metadata.responses`, the item's `type` and `id` among it: so a block
of this wire is known by it, and goes back as the item that it was. Blocks with the same `id` are of one item.
"""

from __future__ import annotations

import re
from typing import Any

from turnstream.core.blocks import Block, Content
from turnstream.wires.shared.json_values import JsonObject, is_blank, is_list, is_object

KEY = "responses"
"""Under this name `provider_metadata` holds what is of this wire."""
KEEPING = ("background", "previous_response_id", "conversation")
"""Params with which the provider has to keep the response."""
ENCRYPTED = "reasoning.encrypted_content"
"""Part of a response that holds reasoning which the provider does not keep."""
SUMMARY = "auto"
"""Summary of the reasoning that is asked for unless the caller says otherwise."""

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
"""Items whose blocks are always marked; the others only where there is more to keep than the type."""
_WITH_STATUS = frozenset(
    {
        "image_generation_call", "code_interpreter_call", "file_search_call", "web_search_call",
        "computer_call", "local_shell_call", "apply_patch_call",
    }
)  # fmt: skip
"""Items that the API takes back only with their status."""
_NOT_COMPLETED = frozenset({"failed", "incomplete"})
_RAW_TYPE = re.compile(r"\w+_(?:call|output|request|response|tools|reference)|program|compaction")
_XAI_SEARCH = "xs_call_"
"""Begin of the ids of calls that xAI runs itself, though it sends them as custom tools."""


def metadata_of(item: JsonObject, *, exact: bool = False) -> Content:
    """`{"provider_metadata": …}` with what an item has beside what its blocks show, or nothing.

    `exact`: of an item that a caller sent, where even a status and an empty field are kept.
    """
    kind = str(item.get("type"))
    hidden = _SHOWN.get(kind, frozenset[str]()) | {"type"}
    rest = {
        key: value
        for key, value in item.items()
        if key not in hidden
        and (exact or (not is_blank(value) and (key != "status" or _tells_more(kind, value))))
    }
    return {"provider_metadata": {KEY: {"type": kind, **rest}}} if rest or kind in _MARKED else {}


def _tells_more(kind: str, status: Any) -> bool:
    """Return True for a status that has to go back, and that a whole item does not have by itself."""
    return kind in _WITH_STATUS and status in _NOT_COMPLETED


def status_of(kind: str) -> JsonObject:
    """Return the status with which an item goes back whose own is not known, or nothing if the API asks for none."""
    return {"status": "completed"} if kind in _WITH_STATUS else {}


def own_metadata(content: Content | None) -> JsonObject:
    """Return what this wire has kept on a block; empty on a block of another."""
    metadata = (content or {}).get("provider_metadata")
    found = metadata.get(KEY) if is_object(metadata) else None
    return found if is_object(found) else {}


def is_refusal(content: Content | None) -> bool:
    metadata = (content or {}).get("provider_metadata")
    return is_object(metadata) and metadata.get("refusal") is True


def call_content(item: JsonObject, identity: str, *, exact: bool = False) -> Content:
    """The content of the tool_use block that a call begins with. `identity` stands where it has no id."""
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
    """The content of the tool_result block with which a call that the provider ran ends; None where it has none."""
    failed = not is_blank(item.get("error"))
    value: Any
    match item.get("type"):
        case "mcp_call":
            value = item.get("error") if failed else item.get("output")
        case "code_interpreter_call":
            value = item.get("outputs") or []  # null where nobody asked to include them: it ran all the same
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
    """The content of the image block that an `image_generation_call` becomes; None where it holds no image."""
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
    """A tool_use block as the call that it was; `result`: of a call that the provider ran."""
    kept = own_metadata(content)
    kind = kept.get("type", "custom_tool_call" if content.get("free_text") else "function_call")
    identity, name = content.get("tool_use_id", ""), content.get("tool_name", "")
    match kind:
        case "custom_tool_call":
            return {"type": kind, "call_id": identity, "name": name, "input": arguments, **kept}
        case "mcp_call":
            failed = result is not None and bool(result.get("is_error"))
            said = result.get("content") if result is not None else None
            outcome = {"output": None, "error": said} if failed else {"output": said, "error": None}
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
    """A call's arguments as the model wrote them."""
    text = (block.content or {}).get("input_json")
    return text if isinstance(text, str) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
