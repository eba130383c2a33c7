"""The folders of the data, classifiers, judges and guides of a sweep over variants.

artifacts/            those of the variant in the sections of params.yaml: stages prepare, train, judges, guides
artifacts/variants/   those of the other variants, if they differ: stage variants
    data-<key>/  model-<key>/  judges-<key>/  guides-<key>/
                      the key is a digest of the parameters and the code
    index.json        the folders of each variant, and the digests of their files
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pipelines.cells import paths, provenance
from pipelines.cells.paths import LATEST, Trained
from pipelines.config.schema import Params, Upstream

INDEX = "index.json"


def trained(variant: Upstream, params: Params, folder: Path = paths.VARIANTS) -> Trained:
    """The folders of a variant of a sweep.

    folder: contains those that differ from the variant in the sections of the parameters.
    """
    names = zip(LATEST.folders, _names(variant), _names(params), strict=True)
    return Trained(*(latest if name == latest_name else folder / name for latest, name, latest_name in names))


def _names(variant: Upstream) -> tuple[str, str, str, str]:
    """The names of a variant's folders; they do not depend on the paths of the user's files."""
    params = variant.model_dump(mode="json")
    data = _digest("prepare", params["data"])
    model = _digest("train", data, params["seed"], params["model"], params["training"])
    judges, guides = (_digest(stage, data, params[stage]) for stage in ("judges", "guides"))
    return f"data-{data}", f"model-{model}", f"judges-{judges}", f"guides-{guides}"


def _digest(stage: str, *inputs: Any) -> str:
    content = json.dumps([provenance.code(stage), inputs], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
