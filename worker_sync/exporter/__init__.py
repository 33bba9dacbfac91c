"""Metrics and health over HTTP, from what the control store and the broker know."""

from worker_sync.exporter.collect import Collector
from worker_sync.exporter.server import MetricsServer

__all__ = ["Collector", "MetricsServer"]
