"""What this process counts, in the text format of Prometheus. No label tells who somebody is."""

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from backend.types import MessageStatus, Stats

MEDIA_TYPE = CONTENT_TYPE_LATEST
REFUSED = "refused"  # what became of a message that no reply was begun for
OUTCOMES = (*(status for status in MessageStatus if status is not MessageStatus.STREAMING), REFUSED)
# From the small model of one person to the line of a busy site, in seconds.
TTFT_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0)


class Metrics:
    """Counters of one run of the app, beside those that vLLM keeps in this process."""

    def __init__(self, streaming: Callable[[], int], waiting: Callable[[], int]) -> None:
        """``streaming`` and ``waiting`` tell how many messages do so now."""
        self._registry = CollectorRegistry()
        own = self._registry
        Gauge("sightline_streams", "Replies that stream now.", registry=own).set_function(streaming)
        Gauge("sightline_waiting", "Messages that wait in line now.", registry=own).set_function(waiting)
        self._tasks = Gauge("sightline_tasks", "Tasks of the event loop that answers pages.", registry=own)
        self._messages = Counter(
            "sightline_messages", "Messages, by what became of them.", ["outcome"], registry=own
        )
        self._tokens = Counter("sightline_tokens", "Tokens of replies, by kind.", ["kind"], registry=own)
        self._ttft = Histogram(
            "sightline_time_to_first_token_seconds",
            "Seconds from the request to the first token.",
            buckets=TTFT_BUCKETS,
            registry=own,
        )
        self._fetches = Counter(
            "sightline_fetches", "Pictures by web address, by what became of them.", ["outcome"], registry=own
        )
        for outcome in OUTCOMES:  # so that each is there from the beginning, at nought
            self._messages.labels(outcome)
        for outcome in ("taken", REFUSED):
            self._fetches.labels(outcome)
        for kind in ("prompt", "completion"):
            self._tokens.labels(kind)

    def ended(self, status: MessageStatus, stats: Stats | None) -> None:
        """Count a reply that is over."""
        self._messages.labels(status).inc()
        if stats is None:
            return
        self._tokens.labels("prompt").inc(stats.prompt_tokens or 0)
        self._tokens.labels("completion").inc(stats.completion_tokens or 0)
        if stats.ttft_s is not None:
            self._ttft.observe(stats.ttft_s)

    def refused(self) -> None:
        """Count a message that a limit of this installation kept out."""
        self._messages.labels(REFUSED).inc()

    def fetched(self, *, taken: bool) -> None:
        """Count a picture by web address."""
        self._fetches.labels("taken" if taken else REFUSED).inc()

    def running(self, tasks: int) -> None:
        """Note how many tasks there are now, which only their own loop can tell."""
        self._tasks.set(tasks)

    def text(self) -> bytes:
        """All of it; then this process's own figures, and vLLM's where it runs here."""
        return generate_latest(self._registry) + generate_latest(REGISTRY)
