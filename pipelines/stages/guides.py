"""Stage `guides`: the models that methods may use while they search.   python -m pipelines.stages.guides

Writes artifacts/guides/: guide_<number>.keras, margins.npz, and metrics.json, how good they are on the test split. The
folder has no guides where no method of the sweep uses any.
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


def main() -> None:
    """Run the stage."""
    make(schema.read(), paths.LATEST)


def make(chosen: Upstream, trained: Trained) -> None:
    """Train the guides as the parameters say, and keep them where `trained` says, beside its data."""
    measured: dict[str, float] = {}
    with replacing(trained.guides_folder) as folder:
        folder.mkdir()
        if chosen.guides is not None:
            dataset = Dataset.load(trained.data)
            import_tensorflow()
            with progress("guides") as report:
                guides = guide_training.train(dataset, **chosen.guides.model_dump(), progress=report)
            guide_training.save(guides, folder)
            of_test = margins(guides.models, dataset.x_test, dataset.y_test) > 0
            accuracies = dict(zip(chosen.guides.kinds, of_test.mean(axis=0).tolist(), strict=True))
            measured = {f"{kind}_test_accuracy": value for kind, value in accuracies.items()}
            shown = ", ".join(f"{value:.4f} of {kind}" for kind, value in accuracies.items())
            console.print(f"guides: test accuracy {shown}")
        (folder / trained.guides_metrics.name).write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        main()
