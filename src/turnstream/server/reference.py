"""The page at /docs: Swagger UI, which a browser loads from afar, in the place of a plain list that needs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi.openapi.docs import get_swagger_ui_html

_PLACE = '<div id="swagger-ui">'
_HEAD = """
<style>
#plain { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
#plain dt { margin-top: 1rem; font: bold 1rem monospace }
#plain dd { margin-left: 2rem }
</style>
"""


def reference_page(openapi: Mapping[str, Any], *, openapi_url: str) -> str:
    """HTML of the routes in `openapi`, a document found at `openapi_url`. Swagger UI replaces the list, if it loads."""
    title = f"{openapi['info']['title']} {openapi['info']['version']}"
    page = bytes(get_swagger_ui_html(openapi_url=openapi_url, title=title).body).decode()
    lines = [
        _HEAD,
        f'<div id="plain"><h1>{escape(title)}</h1><p>{escape(openapi["info"].get("description", ""))}</p>',
        f'<p>All of it, for programs: <a href="{escape(openapi_url)}">{escape(openapi_url)}</a></p><dl>',
        *_routes(openapi),
        "</dl></div>",
    ]
    return page.replace(_PLACE, _PLACE + "\n".join(lines), 1)


def _routes(openapi: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in openapi["paths"].items():
        for method, route in methods.items():
            yield f"<dt>{escape(method.upper())} {escape(path)}</dt><dd>{escape(route.get('summary', ''))}</dd>"
            for place in ("query", "header"):
                given = [item["name"] for item in route.get("parameters", ()) if item["in"] == place]
                if given:
                    yield f"<dd>{place}: {escape(', '.join(given))}</dd>"
            if body := _body_fields(openapi, route):
                yield f"<dd>body: {escape(', '.join(body))}</dd>"


def _body_fields(openapi: Mapping[str, Any], route: Mapping[str, Any]) -> list[str]:
    """The names in a route's JSON body; those that may be left out end in ?."""
    schema = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for choice in (schema, *schema.get("anyOf", ())):
        if "$ref" in choice:
            schema = openapi["components"]["schemas"][choice["$ref"].rpartition("/")[2]]
    required = schema.get("required", ())
    return [name if name in required else f"{name}?" for name in schema.get("properties", ())]
