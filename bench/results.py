"""What a measurement found, on disk: one JSON file each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[1] / "docs/benchmarks"


@dataclass
class Result:
    """All samples of one measurement."""

    name: str
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Samples (seconds, unless the workload's name says other units) by workload and contender."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Single figures."""
    command: str = ""
    taken: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)

    def add(self, workload: str, contender: str, *samples: float) -> None:
        """Note samples."""
        self.series.setdefault(workload, {}).setdefault(contender, []).extend(round(one, 6) for one in samples)

    def of(self, workload: str, contender: str) -> list[float]:
        """Return the samples; none where nothing was measured."""
        return self.series.get(workload, {}).get(contender, [])

    def write(self, folder: Path) -> None:
        """Put it into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        # Long lists of numbers on one line each.
        parts = {name: json.dumps(part, indent=None) for name, part in asdict(self).items() if name != "series"}
        lines = [f'  {json.dumps(name)}: {text}' for name, text in parts.items()]
        series = [
            f"    {json.dumps(workload)}: {{\n"
            + ",\n".join(f"      {json.dumps(who)}: {json.dumps(samples)}" for who, samples in told.items())
            + "\n    }"
            for workload, told in self.series.items()
        ]
        lines.append('  "series": {\n' + ",\n".join(series) + "\n  }")
        (folder / f"{self.name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def read(folder: Path) -> dict[str, Result]:
    """Return all results of a folder by name."""
    return {result.name: result for result in _each(folder)}


def _each(folder: Path) -> Iterator[Result]:
    for file in sorted(folder.glob("*.json")):
        yield Result(**json.loads(file.read_text()))
