"""What a benchmark leaves: its tables, with the command and the machine."""

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd


def write(tables: dict[str, pd.DataFrame], folder: Path, machine: str) -> None:
    """Write each table as CSV, and all of them with the machine and this command as Markdown, which is printed too."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}",
        f"`python -m benchmarks.{Path(sys.argv[0]).stem} {shlex.join(sys.argv[1:])}`",
    ]
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        lines.append(_markdown(table))
    report = "\n\n".join(lines) + "\n"
    (folder / "report.md").write_text(report)
    print(report)


def _markdown(table: pd.DataFrame) -> str:
    cells = table.map(lambda value: f"{value:.3g}" if isinstance(value, float) else str(value))
    rows = [list(table.columns), ["---"] * len(table.columns), *cells.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
