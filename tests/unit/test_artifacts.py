"""A class is shown by the name that its data gives it, and by its number where there is none or two differ."""

import json
from pathlib import Path

import numpy as np

from pipelines.artifacts import Trained, class_name


def trained(folder: Path, names: list[str] | None) -> Trained:
    folder.mkdir()
    kept = Trained(folder)
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
