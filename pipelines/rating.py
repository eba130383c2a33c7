"""Evaluate the answers of a blind rating.   python -m pipelines.rating answers.csv [more.csv ...]

artifacts/report/rating.html shows real instances and counterfactuals without labels, and saves a person's answers as a
CSV file. This command prints, for the real instances and for each method, the share of the answers that name the class
of the picture, with its 95 % Wilson interval, and the share of the answers "none", and writes them to
artifacts/rating.csv.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import rich.box
from rich.table import Table
from rich.text import Text

from cfx.files import replacing
from pipelines.cells import paths
from pipelines.config import invocation
from pipelines.reporting import rating
from pipelines.terminal import console, user_errors


def main() -> int:
    """Print and write the shares; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=invocation("rating"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="answers.csv", help="files that the page saved")
    files = parser.parse_args().files
    with user_errors():
        found = rating.agreement(files, paths.REPORT)
        with replacing(paths.RATING) as temporary:
            found.to_csv(temporary, index=False)
        table = Table(box=rich.box.SIMPLE, padding=0)
        for head in ("pictures", "answers", "correct", "95 % interval", "none"):
            table.add_column(head)
        for row in found.to_dict("records"):
            interval = f"{row['low']:.1%} to {row['high']:.1%}"
            # not as markup, because a setting may contain brackets
            shown = row["source"], str(row["answers"]), f"{row['share']:.1%}", interval, f"{row['none']:.1%}"
            table.add_row(*map(Text, shown))
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
