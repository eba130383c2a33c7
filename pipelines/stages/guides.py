"""Stage `guides`: train the models that a method may use while it searches.   python -m pipelines.stages.guides

Writes artifacts/guides/: guide_<number>.keras, margins.npz, and metrics.json with the accuracies on the test split. The
folder has no guides if no method of the sweep uses them.
"""

from __future__ import annotations

import json

from cfx import guide_training
from cfx.data import Dataset
from cfx.files import replacing
from cfx.guides import margins
from pipelines.cells import paths
from pipelines.cells.paths import Trained
from pipelines.config import schema
from pipelines.config.schema import Upstream
from pipelines.terminal import console, import_tensorflow, progress, user_errors


def make(params: Upstream, trained: Trained) -> None:
    """Train and save the guides."""
    measured: dict[str, float] = {}
    with replacing(trained.guides_folder) as folder:
        folder.mkdir()
        if params.guides is not None:
            dataset = Dataset.load(trained.data)
            import_tensorflow()
            with progress("guides") as report:
                guides = guide_training.train(dataset, **params.guides.model_dump(), progress=report)
            guide_training.save(guides, folder)
            is_correct = margins(guides.models, dataset.x_test, dataset.y_test) > 0
            accuracies = is_correct.mean(axis=0).tolist()
            kinds = params.guides.kinds
            measured = {f"guide_{i}_{kind}_test_accuracy": accuracies[i] for i, kind in enumerate(kinds)}
            shown = ", ".join(f"{value:.3f} {kind}" for kind, value in zip(kinds, accuracies, strict=True))
            console.print(f"guides: test accuracy {shown}")
        (folder / trained.guides_metrics.name).write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        make(schema.read(), paths.LATEST)
