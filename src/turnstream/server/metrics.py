"""Metrics of an engine for Prometheus, in its text format or in OpenMetrics.

The engine's parts count in plain numbers. This module reads them at a scrape, so metrics cost nothing if
nothing scrapes them. The Prometheus library is imported at the first scrape, which takes 0.1 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Protocol

from starlette.requests import Request
from starlette.responses import Response

from turnstream.nodes.lease import boot_seconds
from turnstream.nodes.node import OwnNode
from turnstream.server.context import ServerContext
from turnstream.server.keepalive import KeepAlive
from turnstream.telemetry.measures import Histogram, StoreMeasures
from turnstream.turns.journal import JournalKeeper
from turnstream.turns.registry import Registry

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry


class MeasuredStore(Protocol):
    measures: StoreMeasures


class EngineMetrics:
    """The metrics of one engine.

    A host application adds them to its registry with `prometheus_client.REGISTRY.register(engine.metrics)`,
    or serves the result of `render()`.
    """

    def __init__(
        self,
        store: MeasuredStore,
        turns: Registry,
        journal: JournalKeeper,
        keep_alive: KeepAlive,
        node: OwnNode,
    ) -> None:
        self._store = store
        self._node = node
        self._turns = turns
        self._journal = journal
        self._keep_alive = keep_alive

    @cached_property
    def registry(self) -> CollectorRegistry:
        """Registry that contains only these metrics."""
        from prometheus_client.registry import CollectorRegistry  # noqa: PLC0415 - see above

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics as text, and the content type of the text.

        `accept`: an `Accept` header, which selects the format. "" selects Prometheus' text format.
        """
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - see above

        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics. Call it on the engine's event loop: the numbers change there."""
        yield from self._turn_metrics()
        yield from self._watcher_metrics()
        yield from self._store_metrics()
        if self._node.is_shared:
            yield from self._node_metrics()
        yield from self._model_metrics()

    def _turn_metrics(self) -> Iterator[Metric]:
        measures = self._turns.measures
        yield _gauge("active_turns", "Turns that are being written", self._turns.active_count)
        yield _gauge("retained_turns", "Ended turns that are kept in memory", self._turns.retained_turns)
        yield _gauge(
            "retained_bytes", "Bytes that the ended turns in memory take", self._turns.retained_bytes
        )
        yield _labelled("turns", "Turns that have ended", ("status", "code"), measures.ended.items())
        yield _histogram(
            "first_token_seconds",
            "From the request to the first block of the answer, of turns that have ended",
            measures.first_token,
        )
        yield _histogram(
            "event_gap_seconds", "Between two pieces that a model or other source brought", measures.gaps
        )

    def _watcher_metrics(self) -> Iterator[Metric]:
        measures, streams = self._turns.measures, self._keep_alive.streams
        logs = list(self._turns.logs())
        coalesced = measures.coalesced + sum(log.ring.coalesced for log in logs)
        catch_ups = measures.catch_ups + sum(log.catch_ups for log in logs)
        lags = [stream.lag for stream in streams]
        yield _gauge("watchers", "Event streams that are open over HTTP", len(lags))
        yield _gauge(
            "watcher_lag_events", "Events that the slowest open stream is behind", max(lags, default=0)
        )
        yield _gauge("watchers_behind", "Open event streams that are behind", sum(lag > 0 for lag in lags))
        yield _counter("subscriptions", "Watchers that have joined a turn", measures.subscriptions)
        yield _counter("catch_ups", "Times that a watcher was caught up from the store or a block", catch_ups)
        yield _counter("coalesced_events", "Events that were sent merged into another", coalesced)
        yield _counter(
            "stalled_watchers",
            "Streams and answers cut as their connection took nothing",
            self._keep_alive.dropped,
        )

    def _node_metrics(self) -> Iterator[Metric]:
        node, measures = self._node, self._node.measures
        yield _info("node", "The node: its id in logs, its host and its process", node)
        left = max(0.0, node.lease.deadline - boot_seconds())
        yield _gauge("node_lease_seconds", "Time until the node's lease lapses without a heartbeat", left)
        yield _counter("node_lease_lapses", "Times that the node's lease had lapsed", measures.lapses)
        yield _counter("node_recoveries", "Turns of other nodes that were recovered here", measures.recovered)
        yield _histogram(
            "node_feed_lag_seconds",
            "Upper bound of the time from the commit of another node's events to their read here",
            measures.feed_lag,
        )

    def _store_metrics(self) -> Iterator[Metric]:
        measures, journal = self._store.measures, self._journal
        yield _histogram("store_write_seconds", "From asking for a write to its commit", measures.writes)
        yield _histogram("store_read_seconds", "From asking for a read to its answer", measures.reads)
        failures = [(("write",), measures.failed_writes), (("read",), measures.failed_reads)]
        yield _labelled("store_failures", "Reads and writes that storage failed", ("operation",), failures)
        yield _counter("journal_writes", "Writes of the journal, each for all open blocks", journal.writes)
        yield _counter("journal_segments", "Pieces of open blocks that were journalled", journal.segments)
        yield _counter(
            "journal_lost_characters",
            "Text that the journal gave up until storage would take it again",
            journal.given_up,
        )

    def _model_metrics(self) -> Iterator[Metric]:
        models = self._turns.measures.models
        labels = ("provider", "model")
        calls = [(name, model.calls) for name, model in models.items()]
        unpriced = [(name, model.unpriced) for name, model in models.items()]
        cost = [(name, float(model.cost)) for name, model in models.items()]
        tokens = [
            ((*name, kind.removesuffix("_tokens")), count)
            for name, model in models.items()
            for kind, count in model.tokens.items()
        ]
        yield _labelled("model_calls", "Model calls whose usage is known", labels, calls)
        yield _labelled(
            "tokens", "Tokens as the providers count them; kinds may overlap", (*labels, "kind"), tokens
        )
        yield _labelled("cost_dollars", "What model calls have cost, in US dollars", labels, cost)
        yield _labelled("unpriced_calls", "Model calls whose cost is not known", labels, unpriced)


async def metrics_response(metrics: EngineMetrics, request: Request) -> Response:
    """Return the answer to a scrape."""
    await asyncio.to_thread(_load_library)  # the first import would block the event loop
    content, content_type = metrics.render(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


def _load_library() -> None:
    import prometheus_client.exposition  # noqa: PLC0415 - see above

    assert prometheus_client.exposition


def _name(name: str) -> str:
    return f"turnstream_{name}"


def _gauge(name: str, text: str, value: float) -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily  # noqa: PLC0415 - see above

    return GaugeMetricFamily(_name(name), text, value)


def _info(name: str, text: str, node: OwnNode) -> Metric:
    from prometheus_client.metrics_core import InfoMetricFamily  # noqa: PLC0415 - see above

    return InfoMetricFamily(_name(name), text, {"node": node.id, "address": node.address})


def _counter(name: str, text: str, value: float) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily  # noqa: PLC0415 - see above

    return CounterMetricFamily(_name(name), text, value)


def _labelled(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily  # noqa: PLC0415 - see above

    family = CounterMetricFamily(_name(name), text, labels=labels)
    for given, value in values:
        family.add_metric(given, value)
    return family


def _histogram(name: str, text: str, measured: Histogram) -> Metric:
    from prometheus_client.metrics_core import HistogramMetricFamily  # noqa: PLC0415 - see above

    buckets = [("+Inf" if bound == inf else str(bound), count) for bound, count in measured.cumulative()]
    return HistogramMetricFamily(_name(name), text, buckets, measured.total)


async def scrape_metrics(
    context: ServerContext, metrics: EngineMetrics, request: Request, *, needs_key: bool
) -> Response:
    """Return the metrics.

    Raises Unauthorized if they need the server's key and the request does not have it.
    """
    if needs_key:
        await context.principal(request)
    return await metrics_response(metrics, request)
