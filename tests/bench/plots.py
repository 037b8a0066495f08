"""A run's samples as two pictures, and a table beside them."""

import csv
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tests.bench.latency_samples import Sample, rates

_MOST_POINTS = 300
_INCHES = (10, 4)


def write_results(folder: Path, name: str, title: str, samples: Sequence[Sample]) -> None:
    """Writes `name`.csv, `name`-rate.png and `name`-memory.png."""
    folder.mkdir(exist_ok=True)
    _write_samples(folder / f"{name}.csv", samples)
    _plot_rate(folder / f"{name}-rate.png", f"Rate: {title}", samples)
    _plot_memory(folder / f"{name}-memory.png", f"Memory: {title}", samples)


def _write_samples(file: Path, samples: Sequence[Sample]) -> None:
    with file.open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["seconds", "handled", "segment_bytes", "campaign_bytes"])
        for sample in samples:
            seconds = round(sample.seconds, 3)
            table.writerow([seconds, sample.handled, sample.segment_bytes, sample.campaign_bytes])


def _plot_rate(file: Path, title: str, samples: Sequence[Sample]) -> None:
    points = rates(samples, _MOST_POINTS)
    minutes = [seconds / 60 for seconds, _ in points]
    _plot(file, title, "targets/s", {"": (minutes, [rate for _, rate in points])})


def _plot_memory(file: Path, title: str, samples: Sequence[Sample]) -> None:
    minutes = [sample.seconds / 60 for sample in samples]
    segment = [sample.segment_bytes / 2**20 for sample in samples]
    campaign = [sample.campaign_bytes / 2**20 for sample in samples]
    lines = {"segment server": (minutes, segment), "campaign server": (minutes, campaign)}
    _plot(file, title, "resident MiB", lines)


def _plot(
    file: Path, title: str, of_what: str, lines: dict[str, tuple[list[float], list[float]]]
) -> None:
    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    for name, (minutes, values) in lines.items():
        axes.plot(minutes, values, label=name)
    axes.set_title(title)
    axes.set_xlabel("minutes")
    axes.set_ylabel(of_what)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    if len(lines) > 1:
        axes.legend()
    figure.savefig(file, dpi=120)
