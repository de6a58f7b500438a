"""Counters and histograms of a replica, in Prometheus' text format (version 0.0.4). Touched on the loop only."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from argosy_serving.scoring import Work

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STAGES = ("queue", "decode", "run", "encode", "total")


class Histogram:
    __slots__ = ("bounds", "count", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.count, self.sum = 0, 0.0


class Metrics:
    """`labels` stand on every line: service, revision, model, model_version."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
        self._batch = Histogram(BATCH_SIZES)
        self.batching = False
        self.answers: dict[int, int] = {}
        self.shed: dict[str, int] = {}
        self._stages = {stage: Histogram(BUCKETS_S) for stage in STAGES}
        self._scored = tuple(self._stages[stage] for stage in STAGES)

    def answered(self, status: int) -> None:
        self.answers[status] = self.answers.get(status, 0) + 1

    def refused(self, reason: str) -> None:
        self.shed[reason] = self.shed.get(reason, 0) + 1

    @property
    def turned_away(self) -> int:
        """Requests refused for want of room: more replicas would have taken them."""
        return sum(self.shed.get(reason, 0) for reason in ("queue_full", "queue_wait", "deadline"))

    def scored(self, work: Work, queued_at: float, arrived_at: float) -> None:
        """Times of one request that ran to its end."""
        started_at, decoded_at, ran_at, encoded_at = work.started_at, work.decoded_at, work.ran_at, work.encoded_at
        times = (
            started_at - queued_at, decoded_at - started_at, ran_at - decoded_at, encoded_at - ran_at,
            encoded_at - arrived_at,
        )  # fmt: skip
        for histogram, seconds in zip(self._scored, times):  # noqa: B905 - as many as there are stages
            histogram.counts[bisect_left(BUCKETS_S, seconds)] += 1
            histogram.count += 1
            histogram.sum += seconds

    def batched(self, requests: int) -> None:
        """One call of `run` answered so many."""
        self._batch.counts[bisect_left(BATCH_SIZES, requests)] += 1
        self._batch.count += 1
        self._batch.sum += requests

    def render(self, gauges: Mapping[str, float]) -> str:
        """`gauges` are the values of this moment, by name without the prefix."""
        lines = ["# HELP argosy_requests_total Answers to score requests by status code.",
                 "# TYPE argosy_requests_total counter"]  # fmt: skip
        lines += [self._line("argosy_requests_total", f'code="{c}"', n) for c, n in sorted(self.answers.items())]
        lines += ["# HELP argosy_shed_total Requests refused before they started, by reason.",
                  "# TYPE argosy_shed_total counter"]  # fmt: skip
        lines += [self._line("argosy_shed_total", f'reason="{r}"', n) for r, n in sorted(self.shed.items())]
        lines += ["# HELP argosy_request_seconds Seconds of a scored request by stage.",
                  "# TYPE argosy_request_seconds histogram"]  # fmt: skip
        for stage, histogram in self._stages.items():
            lines += self._histogram("argosy_request_seconds", histogram, f'stage="{stage}"')
        if self.batching:
            lines += ["# HELP argosy_batch_requests Requests answered by one call of run.",
                      "# TYPE argosy_batch_requests histogram"]  # fmt: skip
            lines += self._histogram("argosy_batch_requests", self._batch, "")
        for name, value in gauges.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# TYPE argosy_{name} {kind}", self._line(f"argosy_{name}", "", value)]
        return "\n".join(lines) + "\n"

    def _histogram(self, name: str, histogram: Histogram, extra: str) -> "list[str]":
        lines, total = [], 0
        for bound, count in zip((*map(repr, histogram.bounds), "+Inf"), histogram.counts, strict=True):
            total += count
            lines.append(self._line(f"{name}_bucket", ",".join(filter(None, (extra, f'le="{bound}"'))), total))
        return [
            *lines,
            self._line(f"{name}_sum", extra, histogram.sum),
            self._line(f"{name}_count", extra, histogram.count),
        ]

    def _line(self, name: str, extra: str, value: float) -> str:
        labels = ",".join(part for part in (self._labels, extra) if part)
        return f"{name}{{{labels}}} {value!r}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
