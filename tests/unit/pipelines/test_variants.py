"""The variants of a sweep: what they share is there once, and what is there is not made again."""

import json
import re
import shutil

import keras
import numpy as np
import pytest

from cfx import models
from cfx.data import Dataset
from cfx.errors import InputError
from pipelines.cells import paths, provenance
from pipelines.cells.variants import trained
from pipelines.config import schema
from pipelines.config.parameters import from_config
from pipelines.stages import judges, prepare, variants
from tests.unit.pipelines.test_schema import raw


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder with data of two classes, told apart by their only feature, and a classifier of the user's own."""
    monkeypatch.chdir(tmp_path)
    x = np.linspace(0, 1, 60, dtype=np.float32)[:, np.newaxis]
    for name, threshold in (("data", 0.5), ("other", 0.4)):
        y = (x[:, 0] > threshold).astype(int)
        np.savez(f"{name}.npz", x_train=x, y_train=y, x_test=x[::4], y_test=y[::4])
    for name, threshold in (("model", 0.0), ("later", 0.1), ("latest", 0.2)):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "sigmoid")])
        model.set_weights([np.array([[50.0]]), np.array([-50.0 * threshold])])
        model.save(f"{name}.keras")


def sweep(*swept: dict) -> schema.Params:
    """Parameters of a sweep over options, of which each variant sets those that are given."""
    files = {
        "data": {"name": "npz", "path": "data.npz", "bounds": [0, 1], "sha256": None},
        "model": {"name": "keras", "path": "model.keras", "bounds": [-0.5, 0.5], "sha256": None}
        | {"module_sha256": None, "safe_mode": True},
    }
    made = raw(judges={"steps": 1}, instances={"classes": [0]}) | files

    def at(point: dict) -> dict:
        config = {name: dict(value) if isinstance(value, dict) else value for name, value in made.items()}
        for axis, value in point.items():
            section, _, key = axis.partition(".")
            if key:
                config[section][key] = value
            else:
                config[section] = value
        return config

    return from_config(made, {}, [(point, at(point)) for point in swept])


def run(chosen: schema.Params) -> None:
    """What DVC does of a sweep but for the classifier and the judges of its first variant."""
    schema.write(chosen)
    prepare.make(schema.read(), paths.LATEST)
    variants.main()


def test_what_variants_have_in_common_is_there_once(repository):
    chosen = sweep({"judges.seed": 1}, {"judges.seed": 2}, {"judges.seed": 3})
    first, second, third = (trained(variant, chosen) for variant in chosen.variants)
    assert first == paths.LATEST
    assert second.data == third.data == paths.LATEST.data and second.model == third.model == paths.LATEST.model
    assert len({first.judges_folder, second.judges_folder, third.judges_folder}) == 3


def test_a_classifier_and_judges_are_of_their_data(repository):
    chosen = sweep({"data.path": "data.npz"}, {"data.path": "other.npz"})
    other = trained(chosen.variants[1], chosen)
    assert not set(other.folders) & set(paths.LATEST.folders)


def test_where_the_files_of_the_user_lie_makes_no_other_variant(repository):
    shutil.copy("other.npz", "moved.npz")
    here, there = (sweep({"data.path": "data.npz"}, {"data.path": path}) for path in ("other.npz", "moved.npz"))
    assert trained(here.variants[1], here) == trained(there.variants[1], there)


def test_what_other_code_has_made_is_another_variant(repository, monkeypatch):
    chosen = sweep({"judges.seed": 1}, {"judges.seed": 2, "model.path": "later.keras"})
    before, code = trained(chosen.variants[1], chosen), provenance.code
    changed = {"cfx/models.py": "changed"}
    monkeypatch.setattr(provenance, "code", lambda stage: code(stage) | (changed if stage == "train" else {}))
    after = trained(chosen.variants[1], chosen)
    assert after.model_folder != before.model_folder and after.judges_folder == before.judges_folder


def test_a_sweep_without_variants_has_nothing_of_its_own(repository):
    run(sweep())
    assert {path.name for path in paths.VARIANTS.iterdir()} == {"index.json"}


def test_each_variant_has_the_files_that_its_places_name(repository):
    run(chosen := sweep({"data.path": "data.npz"}, {"data.path": "other.npz"}))
    other = trained(chosen.variants[1], chosen)
    assert Dataset.load(other.data).y_test.sum() > Dataset.load(paths.LATEST.data).y_test.sum()
    of_judges = ("autoencoders", "committee", "judges_metrics")
    for name in ("data_card", "model", "metrics", "history", "confusion", *of_judges):
        assert getattr(other, name).is_file()
    assert other.replicas.is_dir()
    index = json.loads((paths.VARIANTS / "index.json").read_text())
    assert [one["swept"]["data.path"] for one in index["variants"]] == ["data.npz", "other.npz"]
    assert index["variants"][1]["model"] == str(other.model_folder)


def test_the_judges_of_a_variant_are_those_that_its_own_stage_would_have_made(repository):
    run(chosen := sweep({"judges.seed": 1}, {"judges.seed": 2}))
    apart = trained(chosen.variants[1], chosen)
    schema.write(sweep({"judges.seed": 2}))
    judges.main()
    for made, of_stage in ((apart.autoencoders, paths.LATEST.autoencoders), (apart.committee, paths.LATEST.committee)):
        assert models.sha256(made) == models.sha256(of_stage)


def test_a_wider_sweep_makes_what_is_new_and_a_narrower_one_keeps_what_it_needs(repository, capsys):
    one, two, three = ({"model.path": f"{name}.keras"} for name in ("model", "later", "latest"))
    run(sweep(one, two))
    capsys.readouterr()
    schema.write(sweep(one, two, three))
    variants.main()
    assert re.findall("variants: (.*)", capsys.readouterr().out) == ["model.path=latest.keras"]
    assert len(list(paths.VARIANTS.glob("model-*"))) == 2
    schema.write(sweep(one, three))
    variants.main()
    assert capsys.readouterr().out == "" and len(list(paths.VARIANTS.glob("model-*"))) == 1
    schema.write(sweep(one, two, three))
    variants.main()
    assert capsys.readouterr().out == ""


def test_what_was_pulled_is_not_made_again_unless_it_was_changed(repository, capsys):
    run(chosen := sweep({"model.path": "model.keras"}, {"model.path": "later.keras"}))
    shutil.rmtree(paths.MODELS)
    capsys.readouterr()
    variants.main()
    assert capsys.readouterr().out == ""
    shutil.rmtree(paths.MODELS)
    model = trained(chosen.variants[1], chosen).model
    whole = models.sha256(model)
    model.write_bytes(model.read_bytes()[:100])
    variants.main()
    assert "variants: model.path=later.keras" in capsys.readouterr().out
    assert models.sha256(model) == whole


def test_a_sweep_that_does_not_fit_one_of_its_data_sets_is_refused_before_anything_is_trained(repository, capsys):
    x = np.zeros((8, 1), np.float32)
    np.savez("none.npz", x_train=x, y_train=np.arange(8) % 2, x_test=x, y_test=np.ones(8, int))
    with pytest.raises(InputError, match=r"instances.classes: the test split has no instance of class 0"):
        run(sweep(*({"data.path": f"{name}.npz"} for name in ("data", "other", "none"))))
    assert "train:" not in capsys.readouterr().out
