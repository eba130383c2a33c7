"""Classes by the names that the data gives them, by number where there are none or two differ; one stage at a time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cfx.errors import InputError
from pipelines.cells import paths
from pipelines.cells.paths import Trained, class_name


def trained(folder: Path, names: list[str] | None) -> Trained:
    folder.mkdir()
    kept = Trained(folder, folder, folder, folder)
    kept.data_card.write_text(json.dumps({"class_names": names}))
    return kept


def test_a_class_has_the_name_of_its_data(tmp_path: Path) -> None:
    clothes = trained(tmp_path / "clothes", ["shirt", "boot"])
    assert [class_name(label, clothes) for label in (1, "1", np.int64(0))] == ["boot", "boot", "shirt"]
    assert [class_name(label, clothes) for label in ("other", "same")] == ["other", "same"]


def test_a_class_without_a_name_is_shown_as_it_is(tmp_path: Path) -> None:
    digits = trained(tmp_path / "digits", None)
    assert [class_name(label, digits) for label in (7, "7", "other")] == [7, "7", "other"]


def test_a_class_that_two_data_sets_name_differently_is_a_number_where_both_are_meant(tmp_path: Path) -> None:
    clothes, pets = trained(tmp_path / "a", ["shirt", "boot"]), trained(tmp_path / "b", ["cat", "dog"])
    again = trained(tmp_path / "c", ["shirt", "boot"])
    assert class_name(1, clothes, pets) == 1
    assert class_name(1, clothes, again) == "boot"


def test_what_a_stage_is_at_work_on_is_kept_from_others_until_it_ends(tmp_path: Path, monkeypatch) -> None:
    root = Path(__file__).parents[3]
    script = "import time; from pipelines.cells import paths\nwith paths.stage_lock(): print(flush=True); time.sleep(9)"
    command = [sys.executable, "-c", script]
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(root)}) as stage:
        assert stage.stdout is not None and stage.stdout.readline()
        with (
            pytest.raises(InputError, match=r"a stage is still running in this folder.*wait until it ends"),
            paths.stage_lock(),
        ):
            pytest.fail("two are at work at once")
        stage.kill()
    with paths.stage_lock():
        pass
