"""What the command line and an experiment ask for together."""

import pytest

from cfx.errors import InputError
from pipelines.config import compose


def instances(*arguments):
    """What is set of the section by that command line, beside the defaults."""
    chosen = compose.compose(["data=mnist_5k", *arguments]).params.instances.model_dump()
    usual = {"index": None, "range": None, "per_class": 1, "classes": [7]}
    return {key: value for key, value in chosen.items() if value != usual[key]}


@pytest.mark.parametrize(
    ("experiment", "given", "chosen"),
    [
        ("cf_mnist", [], {"index": [0]}),
        ("cf_mnist", ["per_class=2"], {"per_class": 2}),
        ("cf_mnist", ["classes=all"], {"classes": "all"}),
        ("cf_mnist", ["range=[0,5]"], {"range": (0, 5)}),
        ("cf_mnist", ["index=null"], {}),
        ("targets_100", ["index=[3]"], {"index": [3]}),
        ("targets_100", ["per_class=2"], {"per_class": 2, "classes": "all"}),
        ("atlas", ["per_class=2", "classes=[1]", "range=null"], {"per_class": 2, "classes": [1]}),
    ],
)
def test_how_the_command_line_chooses_instances_stands_in_place_of_how_the_experiment_does(experiment, given, chosen):
    assert instances(f"+experiment={experiment}", *(f"instances.{option}" for option in given)) == chosen


def test_two_ways_to_choose_instances_are_refused():
    both = r"instances\.index=\[0\] and instances\.per_class=2"
    told = f"{both} are mutually exclusive; give only one of index, range, per_class"
    with pytest.raises(InputError, match=told):
        instances("instances.per_class=2", "instances.index=[0]")


@pytest.mark.parametrize("given", [["training.epochs=2"], ["-m", "training.epochs=2,3"]])
def test_how_to_train_is_refused_where_nothing_is_trained(given, tmp_path):
    (tmp_path / "mine.keras").touch()
    model = ["model=keras", f"model.path={tmp_path}/mine.keras", "data=mnist_5k"]
    with pytest.raises(
        InputError, match=r"^training\.epochs=2(,3)?: has no effect, because model=keras is already trained; remove it"
    ):
        compose.compose([*model, *given])
    assert compose.compose(["data=mnist_5k", *given]).params


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ([], "counterfactuals"),
        (["search.target_class=1"], "counterfactuals"),
        (["+sweep=targets"], "targets"),
        (["+sweep=targets", "-m", "search.target_class=1,2"], "targets"),
        (["+sweep=targets", "-m", "seed=0,1"], "targets, seed"),
        (["+experiment=cf_mnist", "+sweep=lam_init"], "cf_mnist"),
        (["-m", "search=wachter,primal_dual", "search.target_class=1,other"], "search, target_class"),
    ],
)
def test_a_sweep_is_called_by_what_was_named_and_the_axes_that_were_added(given, name):
    assert compose.compose(["data=mnist_5k", *given]).name == name


def test_files_without_a_default_may_be_swept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).write_text(name)
    asked = compose.compose(["-m", "data=npz", "data.path=a.npz,b.npz"])
    assert [variant.swept for variant in asked.params.variants] == [{"data.path": "a.npz"}, {"data.path": "b.npz"}]
    assert str(asked.params.paths.data) == "a.npz" and asked.name == "path"


@pytest.mark.parametrize("text", ["instances:\n\tindex: [0]\n", "instances: [0\n", "seed: 0\nseed: 1\n"])
def test_a_config_file_that_is_no_yaml_is_told_in_a_line(tmp_path, text):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(text)
    with pytest.raises(InputError, match=r"mine\.yaml") as refused:
        compose.compose(["--config-dir", str(tmp_path), "+experiment=mine", "data=mnist_5k"])
    assert "\n" not in str(refused.value)
