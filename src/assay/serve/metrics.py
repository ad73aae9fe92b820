"""What a server counts, for Prometheus. Names of files, keys and addresses are in none of it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of `Metrics.text`."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_CROPS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Of one server, apart from those of others in the same process."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter("assay_requests", "Requests.", ["method", "route", "status"], registry=own)
        self.seconds = Histogram("assay_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, registry=own)
        self.batch_pictures = Histogram(
            "assay_batch_pictures", "Pictures judged together.", buckets=_CROPS, registry=own
        )
        self.batch_crops = Histogram("assay_batch_crops", "Crops judged together.", buckets=_CROPS, registry=own)
        self.batch_seconds = Histogram(
            "assay_batch_seconds", "Time of one run of the networks.", buckets=_SECONDS, registry=own
        )
        self.verdicts = Counter("assay_verdicts", "Pictures and clips judged.", ["verdict"], registry=own)
        self.failures = Counter(
            "assay_failures", "Pictures and clips that could not be judged.", ["kind"], registry=own
        )
        self.restarts = Counter("assay_decoder_restarts", "Processes that decode and were replaced.", registry=own)
        self._queue = Gauge("assay_queue", "Pictures that wait, by what for.", ["what"], registry=own)
        self._spool = Gauge("assay_spool_bytes", "Uploads that are needed, in bytes.", registry=own)

    def queue(self, what: str, count: Callable[[], float]) -> None:
        """A queue's length, asked for whenever it is to be told."""
        self._queue.labels(what).set_function(count)

    def spool(self, size: Callable[[], float]) -> None:
        """The uploads' bytes, asked for whenever they are to be told."""
        self._spool.set_function(size)

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self._registry)
