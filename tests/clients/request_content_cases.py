"""The first rows of `request_cases`: texts, images and documents."""

from __future__ import annotations

from tests.clients.request_builders import (
    PDF,
    PNG,
    Case,
    asked,
    block,
    everywhere,
    said,
    user,
)

CONTENT_CASES = (
    Case("text", asked(), everywhere({}, {}, {})),
    Case("a stream", asked(stream=True), everywhere({}, {"stream_options": {"include_usage": True}}, {})),
    Case(
        "system and earlier turns",
        asked(user("a"), said("b"), user("c"), system="Be brief."),
        everywhere(
            {
                "system": "Be brief.",
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b"},
                    {"role": "user", "content": "c"},
                ],
            },
            *[
                {
                    "messages": [
                        {"role": "system", "content": "Be brief."},
                        {"role": "user", "content": "a"},
                        {"role": "assistant", "content": "b"},
                        {"role": "user", "content": "c"},
                    ]
                }
            ]
            * 2,
        ),
    ),
    Case(
        "an image",
        asked(user("What is it?", block("image", media_type="image/png", data=PNG))),
        everywhere(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What is it?"},
                            {
                                "type": "image",
                                "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                            },
                        ],
                    }
                ]
            },
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What is it?"},
                            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                        ],
                    }
                ]
            },
            {"messages": [{"role": "user", "content": "What is it?", "images": [PNG]}]},
        ),
    ),
    Case(
        "an image by address",
        asked(user(block("image", url="https://example.org/a.png"), "?")),
        everywhere(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                            {"type": "text", "text": "?"},
                        ],
                    }
                ]
            },
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                            {"type": "text", "text": "?"},
                        ],
                    }
                ]
            },
        ),
    ),
    Case(
        "a document",
        asked(user(block("document", media_type="application/pdf", data=PDF, title="a.pdf"), "?")),
        everywhere(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "document",
                                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                                "title": "a.pdf",
                            },
                            {"type": "text", "text": "?"},
                        ],
                    }
                ]
            },
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "file",
                                "file": {
                                    "filename": "a.pdf",
                                    "file_data": f"data:application/pdf;base64,{PDF}",
                                },
                            },
                            {"type": "text", "text": "?"},
                        ],
                    }
                ]
            },
        ),
    ),
    Case(
        "documents by text and address",
        asked(user(block("document", text="So."), block("document", url="https://example.org/a.pdf"), "?")),
        {
            "anthropic": {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "document",
                                "source": {"type": "text", "media_type": "text/plain", "data": "So."},
                            },
                            {
                                "type": "document",
                                "source": {"type": "url", "url": "https://example.org/a.pdf"},
                            },
                            {"type": "text", "text": "?"},
                        ],
                    }
                ]
            }
        },
    ),
)
