"""Stage `variants`: data, classifiers, judges and guides of a sweep over what a classifier comes from.

    python -m pipelines.stages.variants

The stages prepare, train, judges and guides make those of one variant; this one makes what the others do not share
with it, in artifacts/variants/ (see pipelines.cells.variants). What was ever made in this folder is kept in models/
and not made again, so a sweep that was widened or interrupted costs what is new; DVC's run cache knows whole stages
only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cfx.files import replacing
from pipelines.cells import paths, plan, variants
from pipelines.cells.paths import Trained
from pipelines.config import schema
from pipelines.config.schema import Params, Upstream, Variant
from pipelines.stages import guides, judges, prepare, train
from pipelines.terminal import console, user_errors

_MAKERS: dict[str, Callable[[Upstream, Trained], None]] = {
    "data": prepare.make,
    "model": train.make,
    "judges": judges.make,
    "guides": guides.make,
}


def main() -> None:
    """Run the stage."""
    chosen = schema.read()
    import_artifacts()
    # a sweep that does not fit one of its data sets is refused before a classifier is trained for hours
    for variant in chosen.variants:
        make("data", variant, chosen)
        plan.check(chosen, *plan.prepared_data(variants.trained(variant, chosen, paths.MODELS)))
    for variant in chosen.variants:
        for part in ("model", "judges", "guides"):
            make(part, variant, chosen)
    collect(chosen)


def import_artifacts() -> None:
    """Keep in models/ what `dvc pull` or `dvc checkout` has brought, as far as it is whole."""
    index = paths.VARIANTS / variants.INDEX
    known = json.loads(index.read_text())["files"] if index.exists() else {}
    for name, digests in known.items():
        folder, kept = paths.VARIANTS / name, paths.MODELS / name
        if not kept.exists() and folder.exists() and _digests(folder) == digests:
            with replacing(kept) as temporary:
                _link(folder, temporary)


def make(part: str, variant: Variant, chosen: Params) -> None:
    """Make a part (see `_MAKERS`) that a variant has of its own in models/, unless it is there."""
    trained = variants.trained(variant, chosen, paths.MODELS)
    place = f"{part}_folder"
    folder = getattr(trained, place)
    if folder.parent != paths.MODELS or folder.exists():
        return
    console.print(f"variants: {', '.join(f'{axis}={value}' for axis, value in variant.swept.items())}", markup=False)
    with replacing(folder) as temporary:
        _MAKERS[part](variant, replace(trained, **{place: temporary}))


def collect(chosen: Params) -> None:
    """Gather what the variants of the sweep have of their own into the artefact, and nothing else."""
    swept = [(variant.swept, variants.trained(variant, chosen).folders) for variant in chosen.variants]
    needed = sorted({folder.name for _, folders in swept for folder in folders if folder.parent == paths.VARIANTS})
    with replacing(paths.VARIANTS) as folder:
        folder.mkdir()
        for name in needed:
            _link(paths.MODELS / name, folder / name)
        places = [{"swept": values, **dict(zip(_MAKERS, map(str, folders), strict=True))} for values, folders in swept]
        index = {"variants": places, "files": {name: _digests(folder / name) for name in needed}}
        (folder / variants.INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a folder, by name."""

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return {path.name: digest(path) for path in sorted(folder.iterdir())}


def _link(folder: Path, place: Path) -> None:
    """Have the files of a folder at another place too, without a copy of them: nothing here changes a file."""
    shutil.copytree(folder, place, copy_function=os.link)


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        main()
