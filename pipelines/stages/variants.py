"""Stage `variants`: the data, classifiers, judges and guides of a sweep with axes upstream of the search.

    python -m pipelines.stages.variants

The stages prepare, train, judges and guides update one variant; this stage makes what the others do not share with it,
in artifacts/variants/ (see pipelines.cells.variants). models/ keeps everything that was ever made in this folder, so
that a sweep that is extended or interrupted only computes what is new.
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
    params = schema.read()
    import_artifacts()
    # all data sets are checked before the training
    for variant in params.variants:
        make("data", variant, params)
        plan.checked(params, variants.trained(variant, params, paths.MODELS))
    for variant in params.variants:
        for part in ("model", "judges", "guides"):
            make(part, variant, params)
    collect(params)


def import_artifacts() -> None:
    """Copy complete folders from the artefact to models/, for example after `dvc pull` or `dvc checkout`."""
    index = paths.VARIANTS / variants.INDEX
    files = json.loads(index.read_text())["files"] if index.exists() else {}
    for name, digests in files.items():
        folder, kept = paths.VARIANTS / name, paths.MODELS / name
        if not kept.exists() and folder.exists() and _digests(folder) == digests:
            with replacing(kept) as temporary:
                _link(folder, temporary)


def make(part: str, variant: Variant, params: Params) -> None:
    """Make a part (a key of `_MAKERS`) of a variant in models/ if it is not shared and does not exist."""
    trained = variants.trained(variant, params, paths.MODELS)
    folder = getattr(trained, f"{part}_folder")
    if folder.parent != paths.MODELS or folder.exists():
        return
    console.print(f"variants: {', '.join(f'{axis}={value}' for axis, value in variant.swept.items())}", markup=False)
    with replacing(folder) as temporary:
        _MAKERS[part](variant, replace(trained, **{f"{part}_folder": temporary}))


def collect(params: Params) -> None:
    """Write the artefact from the folders of this sweep in models/."""
    folders = [(variant.swept, variants.trained(variant, params).folders) for variant in params.variants]
    needed = sorted({path.name for _, all_paths in folders for path in all_paths if path.parent == paths.VARIANTS})
    with replacing(paths.VARIANTS) as folder:
        folder.mkdir()
        for name in needed:
            _link(paths.MODELS / name, folder / name)
        entries = [{"swept": swept, **dict(zip(_MAKERS, map(str, parts), strict=True))} for swept, parts in folders]
        index = {"variants": entries, "files": {name: _digests(folder / name) for name in needed}}
        (folder / variants.INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a folder, by its path in it."""
    digests = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digests[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _link(source: Path, target: Path) -> None:
    """Copy a folder with hard links; files are never modified in place."""
    shutil.copytree(source, target, copy_function=os.link)


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        main()
