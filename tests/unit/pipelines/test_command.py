"""The command on the report asks for the same parameters as the one that was typed."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from pipelines.config import CONF, compose, schema
from pipelines.config.command import command_line, flatten


def asked_for(arguments: list[str]) -> schema.Params:
    return compose.compose(arguments).params


def command_of(asked: schema.Params, conf: Path | None = CONF) -> str | None:
    return command_line(asked.model_dump(mode="json"), conf)


@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["+sweep=targets", "search=primal_dual", "instances.per_class=10", "instances.classes=all"],
        ["+sweep=grid", "search.tol=0.05", "training.epochs=3", "model.filters=[16,16]"],
        ["-m", "search=wachter,primal_dual", "search.target_class=1,other", "search.max_iter=100"],
        ["+experiment=targets_100", "data=mnist_5k", "search=primal_dual"],
        ["-m", "search.feature_range=[-0.5,0.5],[-1,1]", "seed=3", "instances.index=[0,3,17]", "judges.steps=20"],
        ["-m", "search=plausible,primal_dual", "search.plausibility=0.25,0.5", "guides.epochs=1"],
        ["-m", "seed=1,0", "data.seed=0,1", "search.target_class=1,2", "training.epochs=3"],
        ["-m", "data=mnist_5k,mnist", "search.target_class=1,2"],
        ["-m", "data=digits,breast_cancer", "instances.classes=all"],
        ["data=breast_cancer"],
        ["data=breast_cancer", "instances.index=[0]"],
        ["data=breast_cancer", "instances.classes=[1]"],
        ["-m", "data=digits,breast_cancer", "model=mlp", "model.dropout=0.1"],
        # two files whose hyperparameters have different default values
        ["-m", "search=primal_dual,adv_lib_pdpgd,foolbox_ead", "search.python=null", "search.weights=7"],
        ["data=mnist", "data.path=null", "instances.range=[0,5]", "search.learning_rate=1e-5"],
    ],
)
def test_it_asks_for_the_same_parameters(typed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # where MNIST lies is no part of the command
    monkeypatch.delenv("MNIST_NPZ", raising=False)
    first = asked_for(typed)
    again = asked_for(shlex.split(command_of(first) or "")[3:])
    # a swept axis has the same cells wherever it stands among the others
    assert again == first


def test_it_is_short_where_little_differs_from_the_defaults() -> None:
    asked = asked_for(["search.target_class=1"])
    assert command_of(asked) == ("python -m pipelines.run data=mnist_5k model=cnn search=wachter search.target_class=1")


def test_a_file_of_the_users_is_named_and_pinned_and_its_folder_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "my images.npz"
    path.write_bytes(b"pixels")
    asked = asked_for(["data=npz", f"data.path='{path}'"])
    command = shlex.split(command_of(asked) or "")
    assert "data.path='my images.npz'" in command
    assert f"data.sha256={asked.data.sha256}" in command
    assert str(tmp_path) not in command_of(asked)


def test_a_model_of_the_users_is_named_with_its_module_and_both_are_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.keras", "mine.py"):
        Path(name).write_text(name)
    typed = ["model=keras", "model.path=mine.keras", "model.module=mine.py", "model.bounds=[0,1]"]
    first = asked_for(typed)
    command = shlex.split(command_of(first) or "")
    assert {"model.module=mine.py", f"model.module_sha256={first.model.module_sha256}"} <= set(command)
    assert asked_for(command[3:]) == first


def test_the_schema_of_a_table_is_told_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loans.csv").write_text("größe (m),job,outcome\n1.8,clerk,repaid\n1.6,it's a, late\n")
    columns = "{größe (m): numeric, job: {kind: category, categories: [clerk, it's a]}}"
    Path("loans.yaml").write_text(f"target: outcome\ncolumns: {columns}\n", encoding="utf-8")
    first = asked_for(["data=csv", "data.path=loans.csv", "data.schema=loans.yaml", "search.target_class=repaid"])
    Path("loans.yaml").unlink()
    # cfx run ...
    assert asked_for(shlex.split(command_of(first) or "")[2:]) == first


METHOD = """
from dataclasses import dataclass
from cfx import ArrayMethod

@dataclass(frozen=True, kw_only=True)
class Still(ArrayMethod):
    steps: int = 7
    size: float = 0.5

    def search(self, problem):
        return problem.x
"""


def test_a_method_of_the_users_stands_beside_a_peer_and_each_has_its_file(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("still.py").write_text(METHOD)
    Path("peers").symlink_to(CONF.parent / "peers")
    interpreter = Path(".venv-peers/torch/bin/python")
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(f'#!/bin/sh\nPYTHONPATH={CONF.parent} exec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    first = asked_for(["-m", "search=adv_lib_pdpgd,own", "search.module=still.py", "search.size=0.25"])
    peer, own = (section for _, section in first.points())
    assert (peer["module"], peer["python"], peer["steps"]) == ("peers/adv_lib_pdpgd.py", str(interpreter), 500)
    assert (own["module"], own["python"], own["steps"]) == ("still.py", None, 7)
    # cfx run ...
    command = shlex.split(command_of(first) or "")[2:]
    assert {"search.size=0.25", "search.module=still.py"} <= set(command)
    assert not [option for option in command if option.startswith(("search.steps", "search.python"))]
    assert asked_for(command) == first


def test_there_is_none_for_parameters_that_no_command_gives() -> None:
    asked = asked_for(["-m", "search=wachter,primal_dual", "search.target_class=1"])
    first, second = asked.sweep["search"]
    by_hand = asked.model_copy(update={"sweep": asked.sweep | {"search": [first | {"tol": 0.2}, second]}})
    assert command_of(by_hand) is None


def test_there_is_none_for_models_that_are_neither_an_axis_nor_those_of_their_data_sets() -> None:
    asked = asked_for(["-m", "data=digits,breast_cancer", "model=cnn,mlp"])
    one, _, _, other = [variant.model_copy(update={"swept": {"data": variant.data.name}}) for variant in asked.variants]
    assert command_of(asked.model_copy(update={"variants": [one, other]})) is not None
    one, other = (
        variant.model_copy(update={"model": swapped.model}) for variant, swapped in ((one, other), (other, one))
    )
    assert command_of(asked.model_copy(update={"variants": [one, other]})) is None


@pytest.mark.parametrize(
    "typed", [["search=primal_dual", "search.tol=0.05"], ["data=mnist", "data.path=null", "seed=3"]]
)
def test_where_no_defaults_are_known_it_names_every_parameter(typed: list[str], monkeypatch) -> None:
    monkeypatch.delenv("MNIST_NPZ", raising=False)
    asked = asked_for(typed)
    command = shlex.split(command_of(asked, None) or "")[3:]
    named = {option.partition("=")[0] for option in command}
    assert named == flatten(asked.model_dump(mode="json", exclude={"paths", "sweep", "variants", "guides"})).keys() - {
        "data.name",
        "model.name",
        "search.method",
    } | {"data", "model", "search"}
    assert asked_for(command) == asked


def test_it_leaves_out_the_defaults_that_stand_where_it_is_typed(tmp_path: Path) -> None:
    shutil.copytree(CONF, tmp_path / "conf")
    other = tmp_path / "conf/search/wachter.yaml"
    other.write_text(other.read_text().replace("max_iter: 1000", "max_iter: 7"))
    asked = asked_for(["search.tol=0.05"])
    told = "python -m pipelines.run data=mnist_5k model=cnn search=wachter search.tol=0.05 search.max_iter=1000"
    assert command_of(asked, tmp_path / "conf") == told
    old = asked.model_dump(mode="json")
    del old["search"]["precision"]
    assert command_line(old, tmp_path / "conf") == told


def test_it_does_not_say_how_to_train_where_nothing_is_trained(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.keras").touch()
    asked = asked_for(["data=mnist_5k", "model=keras", "model.path=mine.keras"])
    told = command_of(asked, None) or ""
    assert "model.path=mine.keras" in told and "training" not in told
    assert asked_for(shlex.split(told)[3:]).search == asked.search


def test_of_files_with_one_name_it_tells_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("one", "two"):
        Path(folder).mkdir()
        Path(folder, "images.npz").write_text(folder)
    asked = asked_for(["-m", "data=npz", "data.path=one/images.npz,two/images.npz"])
    assert "data.path='one/images.npz','two/images.npz'" in shlex.split(command_of(asked) or "")
