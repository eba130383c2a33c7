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


def test_a_data_set_sets_the_default_classes_and_an_experiment_or_the_command_line_replaces_them():
    assert instances("data=breast_cancer") == {"classes": "all"}
    assert instances("data=breast_cancer", "instances.classes=[1]") == {"classes": [1]}
    assert instances("data=breast_cancer", "+experiment=cf_mnist")["index"] == [0]


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


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (
            "data=mnsit",
            "data=mnsit: unknown option; choose one of breast_cancer, csv, digits, fashion_mnist, mnist, "
            "mnist_5k, npz, parquet (did you mean mnist?)",
        ),
        ("tracking=file", "tracking=file: unknown option; choose one of server, sqlite"),
        ("search.method=segment", "search.method=segment: is chosen by the config group search; write search=segment"),
        ("~search", "~search: a config group cannot be removed; choose one of its options with search=..."),
        ("seed", "seed: has no value; write seed=..."),
        (
            "data.path=a (1).npz",
            "data.path=a (1).npz: cannot be parsed; quote a value with special characters, as in "
            "'data.path=\"a (1).npz\"'",
        ),
        ("tracking.uri=3", "tracking.uri: input should be a valid string, not 3; see conf/"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_what_to_do(argument, told):
    with pytest.raises(InputError) as refused:
        compose.compose(["+sweep=targets", argument])
    assert str(refused.value) == told


FILE = """
from dataclasses import dataclass
from cfx import ArrayMethod


@dataclass(frozen=True, kw_only=True)
class Own(ArrayMethod):
    steps: int = 2
    size: float = 0.5
    unit: "str" = "one"
    bound: float | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.steps < 1:
            raise ValueError("steps must be at least 1")
        assert self.size != 7

    def search(self, problem):
        return problem.x
"""


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("size=large", "search.size: must be of type float, not 'large'; change the value"),
        ("steps=1.5", "search.steps: must be of type int, not 1.5; change the value"),
        ("steps=many", "search.steps: must be of type int, not 'many'; change the value"),
        ("size=0.1,true", "search.size: must be of type float, not True; change the value"),
        ("unit=1", "search.unit: must be of type str, not 1; change the value"),
        ("unit=one,nan", "search.unit: must be a finite number, not nan"),
        ("steps=0", "search.steps must be at least 1"),
        ("size=7", "search.module: mine.py, line 17: AssertionError"),
    ],
)
def test_a_hyperparameter_of_the_users_method_has_its_type(tmp_path, argument, told):
    (tmp_path / "mine.py").write_text(FILE)
    with pytest.raises(InputError) as refused:
        compose.compose(["-m", "search=own", f"search.module={tmp_path}/mine.py", f"search.{argument}"])
    assert str(refused.value).startswith(told)


def test_a_hyperparameter_of_the_users_method_may_be_a_whole_number_for_a_float(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    asked = compose.compose(["search=own", f"search.module={tmp_path}/mine.py", "search.size=1", "search.bound=2"])
    assert (asked.params.search["size"], asked.params.search["bound"]) == (1, 2)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ([], "cnn"),
        (["data=breast_cancer"], "mlp"),
        (["data=breast_cancer", "model=cnn"], "cnn"),
        (["model=mlp"], "mlp"),
    ],
)
def test_a_table_is_classified_by_an_mlp_unless_another_classifier_is_chosen(given, name):
    assert compose.compose(given).params.model.name == name
