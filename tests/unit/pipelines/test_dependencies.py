"""What DVC runs again is what a change in the source can change: by the imports of each stage, in both directions."""

from pathlib import Path

import pytest
import yaml

from pipelines.cells import source

STAGES = yaml.safe_load((source.ROOT / "dvc.yaml").read_text())["stages"]
METHODS = set((source.ROOT / "cfx" / "methods").glob("*.py"))


def listed(name: str) -> set[Path]:
    """The source files that dvc.yaml lists for a stage, alone or by their folder."""
    own = [source.ROOT / path for path in STAGES[name]["deps"] if path.split("/")[0] in ("cfx", "pipelines")]
    return {file for path in own for file in (path.rglob("*.py") if path.is_dir() else [path]) if file.suffix == ".py"}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_source_that_decides_its_outputs(name):
    needed = source.stage_modules(name)
    assert len(set(STAGES[name]["deps"])) == len(STAGES[name]["deps"])
    assert sorted(map(str, needed - listed(name))) == [], "dvc.yaml lacks what the stage imports"
    assert sorted(map(str, listed(name) - needed)) == [], "dvc.yaml has what the stage does not import"


def test_every_stage_has_a_module_and_every_module_a_stage():
    modules = {path.stem for path in (source.ROOT / "pipelines" / "stages").glob("*.py")}
    assert set(STAGES) == modules - {"__init__"}


def test_every_method_can_decide_a_counterfactual_and_none_of_them_a_classifier_or_a_judge():
    assert source.stage_modules("explain") >= METHODS
    for name in ("prepare", "train", "judges", "guides", "variants"):
        assert not source.stage_modules(name) & METHODS


def test_what_a_person_is_shown_meanwhile_decides_nothing():
    for name in STAGES:
        assert source.ROOT / "pipelines" / "terminal.py" not in source.stage_modules(name)
