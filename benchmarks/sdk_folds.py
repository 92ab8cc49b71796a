"""The official SDKs' own decoding and accumulating. A mock transport of their HTTP client has the bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Fold = Callable[[Sequence[bytes]], object]


def anthropic_fold() -> Fold:
    """Fold the pieces of a body into the final message: `client.messages.stream`."""
    import anthropic

    bodies: list[Sequence[bytes]] = []
    client = anthropic.Anthropic(
        api_key="none", http_client=anthropic.DefaultHttpxClient(transport=_transport(bodies))
    )

    def fold(pieces: Sequence[bytes]) -> object:
        bodies[:] = [pieces]
        with client.messages.stream(
            model="model", max_tokens=1, messages=[{"role": "user", "content": "go"}]
        ) as stream:
            return stream.get_final_message()

    return fold


def openai_fold() -> Fold:
    """Fold the pieces of a body into the final completion: `client.chat.completions.stream`."""
    import openai

    bodies: list[Sequence[bytes]] = []
    client = openai.OpenAI(
        api_key="none", http_client=openai.DefaultHttpxClient(transport=_transport(bodies))
    )

    def fold(pieces: Sequence[bytes]) -> object:
        bodies[:] = [pieces]
        with client.chat.completions.stream(
            model="model", messages=[{"role": "user", "content": "go"}]
        ) as stream:
            return stream.get_final_completion()

    return fold


def responses_fold() -> Fold:
    """Fold the pieces of a body into the final response: `client.responses.stream`."""
    import openai

    bodies: list[Sequence[bytes]] = []
    client = openai.OpenAI(
        api_key="none", http_client=openai.DefaultHttpxClient(transport=_transport(bodies))
    )

    def fold(pieces: Sequence[bytes]) -> object:
        bodies[:] = [pieces]
        with client.responses.stream(model="model", input="go") as stream:
            return stream.get_final_response()

    return fold


def google_fold() -> Fold:
    """Fold the pieces of a body into the message: `client.models.generate_content_stream`, and a loop."""
    import httpx2
    from google import genai

    bodies: list[Sequence[bytes]] = []
    http = httpx2.Client(transport=_transport(bodies))
    client = genai.Client(api_key="none", http_options=genai.types.HttpOptions(httpx_client=http))

    def fold(pieces: Sequence[bytes]) -> object:
        bodies[:] = [pieces]
        texts: list[str] = []
        calls: list[object] = []
        for chunk in client.models.generate_content_stream(model="model", contents="go"):
            for part in chunk.parts or ():
                if part.function_call is not None:
                    calls.append(part.function_call)
                elif part.text:
                    texts.append(part.text)
        return "".join(texts), calls

    return fold


def ollama_fold() -> Fold:
    """Fold the pieces of a body into the message: `Client.chat`, and a loop that joins the deltas."""
    import httpx
    import ollama

    bodies: list[Sequence[bytes]] = []
    client = ollama.Client("http://ollama", transport=_transport(bodies, httpx))

    def fold(pieces: Sequence[bytes]) -> object:
        bodies[:] = [pieces]
        content, thinking = "", ""
        calls: list[object] = []
        for part in client.chat("model", [{"role": "user", "content": "go"}], stream=True):
            if part.message.thinking:
                thinking += part.message.thinking
            if part.message.content:
                content += part.message.content
            if part.message.tool_calls:
                calls.extend(part.message.tool_calls)
        return content, thinking, calls

    return fold


def _transport(bodies: list[Sequence[bytes]], library: Any = None) -> Any:
    """Return a transport that answers with the body in `bodies`. `library`: the HTTP client's own library."""
    if library is None:
        import httpx2 as library

    class Pieces(library.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return iter(bodies[0])

    def answer(_request: Any) -> Any:
        return library.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces())

    return library.MockTransport(answer)


SDK_FOLDS = {
    "anthropic": anthropic_fold,
    "openai-chat": openai_fold,
    "openai-responses": responses_fold,
    "gemini": google_fold,
    "ollama": ollama_fold,
}
