"""HTML pages: the index at `/` and the API reference at `/docs`.

The reference is Swagger UI, which a browser loads from another host. A plain list is shown until it has
loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request

from turnstream.errors import Unauthorized
from turnstream.providers.catalog import ListedModel
from turnstream.server.context import ServerContext

_PLACE = '<div id="swagger-ui">'
_HEAD = """
<style>
#plain { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
#plain dt { margin-top: 1rem; font: bold 1rem monospace }
#plain dd { margin-left: 2rem }
</style>
"""


_INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">\
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>turnstream</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem }}
code, pre {{ font: 14px/1.5 ui-monospace, monospace }} \
pre {{ overflow-x: auto; padding: .75rem; border: 1px solid #8884 }}
li small {{ opacity: .7 }}
</style></head><body>
<h1>turnstream {version}</h1>
<p>The server runs. Programs use its API under <code>{api}</code>; this page is for people.</p>
<ul>
<li><a href="{root}/docs">Reference of the API</a>, \
and its <a href="{root}/openapi.json">OpenAPI document</a></li>
<li><a href="{root}/healthz">Health</a></li>
</ul>
<h2>Ask something</h2>
<pre>turnstream ask --url {url} "Why is the sky blue?"</pre>
<h2>Models</h2>
{models}
</body></html>
"""


def index_page(
    *, version: str, url: str, root: str, prefix: str, models: Sequence[ListedModel] | None
) -> str:
    """Return the HTML of the page at `/`.

    Args:
        version: Turnstream's version.
        url: The server's address as the browser requested it.
        root: The path under which a proxy mounts the server, or "".
        prefix: The prefix of the API's paths.
        models: The models that turns may name. None: the caller may not see them.
    """
    if models is None:
        listed = (
            "<p>Send the server's key, or open this page on the server's own machine, to see the models.</p>"
        )
    else:
        ready = [model for model in models if model.ready]
        lines = (
            f"<li><code>{escape(model.id)}</code>{' <small>default</small>' if model.default else ''}</li>"
            for model in sorted(ready, key=lambda model: not model.default)
        )
        missing = len(models) - len(ready)
        more = (
            f"<p>{missing} more need a key: <code>turnstream models</code> names it.</p>" if missing else ""
        )
        listed = f"<ul>{''.join(lines)}</ul>{more}"
    return _INDEX.format(
        version=escape(version),
        api=escape(root + prefix),
        root=escape(root),
        url=escape(url),
        models=listed,
    )


def reference_page(openapi: Mapping[str, Any], *, openapi_url: str) -> str:
    """Return the HTML of the routes in `openapi`. `openapi_url`: the address of that document."""
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
            yield (
                f"<dt>{escape(method.upper())} {escape(path)}</dt><dd>{escape(route.get('summary', ''))}</dd>"
            )
            for place in ("query", "header"):
                given = [item["name"] for item in route.get("parameters", ()) if item["in"] == place]
                if given:
                    yield f"<dd>{place}: {escape(', '.join(given))}</dd>"
            if body := _body_fields(openapi, route):
                yield f"<dd>body: {escape(', '.join(body))}</dd>"


def _body_fields(openapi: Mapping[str, Any], route: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields in a route's JSON body. Names of optional fields end with `?`."""
    schema = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for choice in (schema, *schema.get("anyOf", ())):
        if "$ref" in choice:
            schema = openapi["components"]["schemas"][choice["$ref"].rpartition("/")[2]]
    required = schema.get("required", ())
    return [name if name in required else f"{name}?" for name in schema.get("properties", ())]


async def server_index(context: ServerContext, version: str, prefix: str, request: Request) -> str:
    """Return the page at `/`. Only callers that may use the API see the models."""
    try:
        await context.principal(request)
        models = context.commands.models()
    except Unauthorized:
        models = None
    return index_page(
        version=version,
        url=str(request.base_url).rstrip("/"),
        root=request.scope.get("root_path", ""),
        prefix=prefix,
        models=models,
    )
