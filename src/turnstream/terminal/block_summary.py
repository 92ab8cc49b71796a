"""One line about a block that is not shown as text."""

from __future__ import annotations

from turnstream.core.blocks import Block

SUMMARY_LENGTH = 300


def summary_of(block: Block) -> str | None:
    """Return one line about a block that is not shown as it grows, or None."""
    content = block.content or {}
    match block.block_type:
        case "tool_result":
            result = str(block.text_content or content.get("content") or "")
            return f"{'✗' if content.get('is_error') else '←'} {result[:SUMMARY_LENGTH]}"
        case "image":
            return f"[image: {content.get('url') or content.get('media_type')}]"
        case "document":
            return (
                "[document: "
                f"{content.get('title') or content.get('url') or content.get('media_type') or 'text'}]"
            )
        case "reference" | "partial_reference":
            what = str(block.text_content or content.get("url") or content.get("title"))
            return f"[reference: {what[:SUMMARY_LENGTH]}]"
        case "thinking" if "redacted" in content:
            return "[thinking that the provider keeps to itself]"
        case "provider":
            return f"[{content.get('type') or 'provider'}]"
        case _:
            return None
