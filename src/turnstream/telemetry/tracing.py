"""Traces and metrics for OpenTelemetry, by its conventions for generative AI.

    invoke_agent            a turn, in the trace of the request that started it
    ├─ chat MODEL           a model call, with its own start and end: written after the turn's end
    └─ execute_tool TOOL    a call of a tool, current while the tool runs

OpenTelemetry is imported when a `Tracing` is made. Its SDK, if the process has configured one, takes all
spans and measurements. Nothing here is called per event of a stream.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from json import dumps
from typing import TYPE_CHECKING, Any, NamedTuple

from turnstream.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

SCOPE = "turnstream"
TOKEN_BOUNDS = [4**power for power in range(14)]
SECOND_BOUNDS = [0.01 * 2**power for power in range(14)]
FIRST_CHUNK_BOUNDS = [
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
]
PROVIDERS = {
    "gemini": "gcp.gemini",
    "bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "xai": "x_ai",
    "vertex": "gcp.vertex_ai",
}
"""The conventions' names of providers whose names differ."""
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_call",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}
"""The conventions' names of stop reasons that differ."""

Message = dict[str, Any]
_of_request: ContextVar[Context | None] = ContextVar("turnstream_trace", default=None)


class TracedCall(NamedTuple):
    """A model call that has ended.

    Attributes:
        provider, model: The model that was called.
        started_at: Microseconds since the epoch.
        duration: Seconds.
        error: Code of the error that ended the call, or None.
        input_tokens: Tokens of the input, those from a cache included. None if the count is not known.
        first_output: Seconds from the start to the first output, or None.
    """

    provider: str
    model: str
    started_at: int
    duration: float
    error: str | None = None
    response_id: str | None = None
    response_model: str | None = None
    stop_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    first_output: float | None = None


class Tracing:
    """Makes the spans and the measurements.

    Args:
        records_content: True to put texts into the spans.

    Raises ConfigurationError if OpenTelemetry is not installed.
    """

    def __init__(self, *, records_content: bool = False) -> None:
        try:
            from opentelemetry import metrics, trace  # noqa: PLC0415 - see above
        except ImportError as error:
            raise ConfigurationError(
                "[telemetry] opentelemetry needs the extra: pip install 'turnstream[otel]'"
            ) from error
        self.records_content = records_content
        self._tracer = trace.get_tracer(SCOPE)
        meter = metrics.get_meter(SCOPE)
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Tokens of the input and of the output of model calls",
            explicit_bucket_boundaries_advisory=TOKEN_BOUNDS,
        )
        self._durations = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="Time that model calls take",
            explicit_bucket_boundaries_advisory=SECOND_BOUNDS,
        )
        self._first_chunks = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            description="From a model call to its first output",
            explicit_bucket_boundaries_advisory=FIRST_CHUNK_BOUNDS,
        )

    def note_request(self, headers: Mapping[str, str]) -> None:
        """Keep the trace context of a request for the turns that it starts."""
        from opentelemetry import propagate  # noqa: PLC0415 - see above
        from opentelemetry.context import Context  # noqa: PLC0415 - see above

        _of_request.set(propagate.extract(headers, context=Context()))

    def begin_turn(self, turn_id: str, chat_id: str, model: str | None) -> TurnSpan:
        """Begin the span of a turn, and make it current in the turn's task, which calls this.

        Its parent is the current span, such as the one of a host application's instrumentation. If there is
        none, the parent is the span that the request named.
        """
        from opentelemetry import context, trace  # noqa: PLC0415 - see above

        has_parent = trace.get_current_span().get_span_context().is_valid
        provider, _, name = (model or "").partition("/")
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.conversation.id": chat_id,
            "turnstream.turn.id": turn_id,
        }
        if model is not None:
            attributes["gen_ai.provider.name"] = PROVIDERS.get(provider, provider)
            attributes["gen_ai.request.model"] = name
        span = self._tracer.start_span(
            "invoke_agent", context=None if has_parent else _of_request.get(), attributes=attributes
        )
        context.attach(trace.set_span_in_context(span))  # the task has a context of its own
        return TurnSpan(self, span)

    @contextmanager
    def tool(self, name: str, call_id: str) -> Generator[ToolSpan]:
        """Return the span of a tool's call. It is current inside the context manager."""
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call_id,
            "gen_ai.tool.type": "function",
        }
        with self._tracer.start_as_current_span(f"execute_tool {name}", attributes=attributes) as span:
            yield ToolSpan(span, records_content=self.records_content)

    def note_call(self, call: TracedCall, parent: Span) -> None:
        """Write the span and the measurements of a model call."""
        from opentelemetry import trace  # noqa: PLC0415 - see above

        common: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDERS.get(call.provider, call.provider),
            "gen_ai.request.model": call.model,
        }
        if call.response_model is not None:
            common["gen_ai.response.model"] = call.response_model
        failed = {} if call.error is None else {"error.type": call.error}
        begun = call.started_at * 1000
        span = self._tracer.start_span(
            f"chat {call.model}",
            context=trace.set_span_in_context(parent),
            kind=trace.SpanKind.CLIENT,
            attributes=_known({**common, **failed, **_details(call)}),
            start_time=begun,
        )
        if call.error is not None:
            span.set_status(trace.StatusCode.ERROR, call.error)
        span.end(begun + round(call.duration * 1e9))
        self._durations.record(call.duration, {**common, **failed})
        if call.first_output is not None:
            self._first_chunks.record(call.first_output, common)
        for kind, count in (("input", call.input_tokens), ("output", call.output_tokens)):
            if count is not None:
                self._tokens.record(count, {**common, "gen_ai.token.type": kind})


class TurnSpan:
    """The span of a running turn."""

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span

    @property
    def records_content(self) -> bool:
        """True if `note_messages` should be called."""
        return self._tracing.records_content

    def note_messages(self, given: Sequence[Message], answer: Message) -> None:
        """Put the conversation into the span."""
        self._span.set_attribute("gen_ai.input.messages", dumps(given))
        self._span.set_attribute("gen_ai.output.messages", dumps([answer]))

    def end(self, status: str, error: str | None, calls: Sequence[TracedCall]) -> None:
        """End the span.

        Args:
            status: Status of the turn.
            error: Code of the error that ended the turn, or None.
            calls: The turn's model calls in this task.
        """
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - see above

        for call in calls:
            self._tracing.note_call(call, self._span)
        self._span.set_attribute("turnstream.turn.status", status)
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end()


class ToolSpan:
    """The span of a running tool."""

    def __init__(self, span: Span, *, records_content: bool) -> None:
        self._span = span
        self._records_content = records_content

    def note_arguments(self, arguments: object) -> None:
        """Put the arguments into the span, if it records content."""
        if self._records_content:
            self._span.set_attribute("gen_ai.tool.call.arguments", dumps(arguments))

    def note_result(self, text: str, *, is_error: bool) -> None:
        """Put the result into the span, if it records content, and mark a failed call."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - see above

        if self._records_content:
            self._span.set_attribute("gen_ai.tool.call.result", text)
        if is_error:
            self._span.set_attribute("error.type", "tool_error")
            self._span.set_status(StatusCode.ERROR, "tool_error")


def _details(call: TracedCall) -> dict[str, Any]:
    reason = call.stop_reason
    return {
        "gen_ai.request.stream": True,
        "gen_ai.response.id": call.response_id,
        "gen_ai.response.finish_reasons": None if reason is None else [FINISH_REASONS.get(reason, reason)],
        "gen_ai.response.time_to_first_chunk": call.first_output,
        "gen_ai.usage.input_tokens": call.input_tokens,
        "gen_ai.usage.output_tokens": call.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": call.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": call.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": call.reasoning_tokens,
    }


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
