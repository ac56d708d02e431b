"""What is counted, and that nobody can be told by it."""

import pytest
from prometheus_client import REGISTRY, Counter
from prometheus_client.parser import text_string_to_metric_families

from backend.metrics import MEDIA_TYPE, Metrics
from backend.types import MessageStatus, Stats

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: 3, lambda: 5)


def samples(metrics: Metrics) -> Samples:
    """Each figure by its name and labels, as a monitor reads them."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def outcome(name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return "sightline_messages_total", (("outcome", name),)


def test_streams_and_the_line_are_what_they_are_now(metrics: Metrics) -> None:
    metrics.running(tasks=17)
    found = samples(metrics)

    assert found["sightline_tasks", ()] == 17
    assert found["sightline_streams", ()] == 3
    assert found["sightline_waiting", ()] == 5


@pytest.mark.parametrize("status", [status for status in MessageStatus if status != "streaming"])
def test_a_reply_is_counted_by_what_became_of_it(metrics: Metrics, status: MessageStatus) -> None:
    metrics.ended(status, None)
    metrics.ended(status, None)

    found = samples(metrics)
    assert found[outcome(status)] == 2
    counted = [value for (name, _), value in found.items() if name == "sightline_messages_total"]
    assert sorted(counted) == [0, 0, 0, 0, 2]


def test_a_message_that_was_kept_out_is_counted_too(metrics: Metrics) -> None:
    metrics.refused()

    assert samples(metrics)[outcome("refused")] == 1


def test_tokens_and_the_time_to_the_first(metrics: Metrics) -> None:
    metrics.ended(MessageStatus.COMPLETE, Stats("stop", prompt_tokens=100, completion_tokens=7, ttft_s=0.3))
    metrics.ended(MessageStatus.CANCELLED, Stats("cancelled", completion_tokens=2))

    found = samples(metrics)
    assert found["sightline_tokens_total", (("kind", "prompt"),)] == 100
    assert found["sightline_tokens_total", (("kind", "completion"),)] == 9
    assert found["sightline_time_to_first_token_seconds_count", ()] == 1
    assert found["sightline_time_to_first_token_seconds_sum", ()] == pytest.approx(0.3)
    assert found["sightline_time_to_first_token_seconds_bucket", (("le", "0.2"),)] == 0
    assert found["sightline_time_to_first_token_seconds_bucket", (("le", "0.5"),)] == 1


def test_fetches(metrics: Metrics) -> None:
    metrics.fetched(taken=True)
    metrics.fetched(taken=False)
    metrics.fetched(taken=False)

    found = samples(metrics)
    assert found["sightline_fetches_total", (("outcome", "taken"),)] == 1
    assert found["sightline_fetches_total", (("outcome", "refused"),)] == 2


def test_labels_are_kinds_and_outcomes_only(metrics: Metrics) -> None:
    own = [labels for name, labels in samples(metrics) if name.startswith("sightline_")]

    assert {key for labels in own for key, _ in labels} == {"outcome", "kind", "le"}


def test_two_runs_in_one_process_count_apart(metrics: Metrics) -> None:
    metrics.refused()

    assert samples(Metrics(lambda: 0, lambda: 0))[outcome("refused")] == 0


def test_what_else_this_process_counts_comes_along(metrics: Metrics) -> None:
    # Not a name of vLLM's own, which may have been imported, and then counts in the same registry.
    counter = Counter("vllm:of_this_test", "As vLLM registers its own.", ["model_name"], registry=None)
    REGISTRY.register(counter)
    try:
        counter.labels("demo").inc(4)
        assert samples(metrics)["vllm:of_this_test_total", (("model_name", "demo"),)] == 4
    finally:
        REGISTRY.unregister(counter)


def test_every_figure_is_explained(metrics: Metrics) -> None:
    families = list(text_string_to_metric_families(metrics.text().decode()))

    assert all(family.documentation for family in families if family.name.startswith("sightline_"))
    assert MEDIA_TYPE.startswith("text/plain")
