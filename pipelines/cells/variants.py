"""Where the data, classifier, judges and guides of a sweep's variants lie; what they have in common is there once.

artifacts/            of the variant in the sections of params.yaml: the stages prepare, train, judges, guides
artifacts/variants/   of the others, what they do not share with that one: the stage variants
    data-<key>/  model-<key>/  judges-<key>/  guides-<key>/
                      a key is a digest of the parameters and the code that decide a folder
    index.json        which variant has which of them, and the digests of their files
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


def trained(variant: Upstream, params: Params, others: Path = paths.VARIANTS) -> Trained:
    """Where the four of a variant lie, of a sweep with these parameters.

    others: the folder of what it does not share with the variant in the sections of the parameters.
    """
    places = zip(LATEST.folders, _names(variant), _names(params), strict=True)
    return Trained(*(latest if name == present else others / name for latest, name, present in places))


def _names(variant: Upstream) -> tuple[str, str, str, str]:
    """What the folders of a variant's data, classifier, judges and guides are called.

    By what they are made from and by which code; where the user's files lie has no part in it.
    """
    made_from = variant.model_dump(mode="json")
    data = _digest("prepare", made_from["data"])
    model = _digest("train", data, made_from["seed"], made_from["model"], made_from["training"])
    judges, guides = (_digest(stage, data, made_from[stage]) for stage in ("judges", "guides"))
    return f"data-{data}", f"model-{model}", f"judges-{judges}", f"guides-{guides}"


def _digest(stage: str, *made_from: Any) -> str:
    content = json.dumps([provenance.code(stage), made_from], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
