"""The metric families of a scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from worker_sync.core.metrics import BY_NAME


class Families:
    """The metric families of one scrape, made from the table of names when a first value comes."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def put(self, name: str, value: float | None, **labels: str) -> None:
        """Add a value; None is left out."""
        if value is None:
            return
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = _family(name)
        family.add_metric([labels[label] for label in BY_NAME[name].labels], value)  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())


def _family(name: str) -> Metric:
    metric = BY_NAME[name]
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    return kind(name, metric.help, labels=metric.labels)
