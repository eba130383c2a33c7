"""What `cfx init` makes, and what it and `cfx` refuse."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

import cfx
from pipelines import __main__, dvc, init
from pipelines.config import PROJECT, compose, schema


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def called(monkeypatch: pytest.MonkeyPatch, command, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cfx", *arguments])
    return command.main()


def stages(text: str) -> dict:
    return yaml.safe_load(text)["stages"]


def test_the_stages_of_a_new_folder_are_those_of_a_clone_with_a_digest_in_place_of_the_source_files():
    dvc.write_pipeline()
    made, cloned = stages(dvc.PIPELINE.read_text()), stages((PROJECT / "dvc.yaml").read_text())
    digests = yaml.safe_load(dvc.CODE.read_text())
    assert list(made) == list(cloned) == list(digests)
    assert all(len(digest) == 64 for digest in digests.values()) and len(set(digests.values())) == len(digests)
    for name, stage in made.items():
        assert stage.get("deps", []) == [path for path in cloned[name]["deps"] if path.startswith("artifacts/")]
        assert stage["params"] == [*cloned[name]["params"], {"code.yaml": [name]}]
        assert stage["cmd"] == cloned[name]["cmd"] and stage["outs"] == cloned[name]["outs"]


def test_a_change_of_a_source_file_changes_the_digests_of_its_stages(tmp_path, monkeypatch):
    installed = tmp_path / "installed"
    for stage in stages((PROJECT / "dvc.yaml").read_text()).values():
        for path in (path for path in stage["deps"] if not path.startswith("artifacts/")):
            copy = installed / path / "one.py" if path == "cfx/methods" else installed / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path)
    monkeypatch.setattr("pipelines.cells.source.ROOT", installed)
    dvc.write_pipeline()
    before = yaml.safe_load(dvc.CODE.read_text())
    (installed / "pipelines/reporting/page.css").write_text("changed")
    dvc.write_pipeline()
    after = yaml.safe_load(dvc.CODE.read_text())
    assert {name for name in after if after[name] != before[name]} == {"report"}
    (installed / "cfx/methods/one.py").write_text("changed")
    dvc.write_pipeline()
    last = yaml.safe_load(dvc.CODE.read_text())
    assert {name for name in last if last[name] != after[name]} == {"explain", "report"}


def test_a_new_folder_is_a_repository_of_git_and_dvc_with_an_experiment_that_composes(monkeypatch, capfd):
    assert called(monkeypatch, init, "a b") == 0
    assert "cd 'a b' && cfx run +sweep=targets" in capfd.readouterr().out
    monkeypatch.chdir("a b")
    with Repo() as repo:
        assert repo.index.stages
    subprocess.run(["git", "check-ignore", "--quiet", "artifacts/"], check=True)
    assert Path(".dvc/config").exists() and "/.venv*" in Path(".dvcignore").read_text()
    assert schema.read() == compose.compose([]).params
    assert len(compose.compose(["+experiment=example"]).params.sweep["target_class"]) == 3
    # where nothing can be imported from the folder, the command is that of the package
    assert schema.PATH.read_text().startswith("# Written by `cfx run` from conf/")
    with pytest.raises(cfx.InputError, match="`cfx run --help` lists them"):
        compose.compose(["search.speed=1"])


def test_a_folder_inside_of_a_git_repository_stays_in_it(monkeypatch):
    subprocess.run(["git", "init", "-q"], check=True)
    assert called(monkeypatch, init, "part") == 0
    monkeypatch.chdir("part")
    assert not Path(".git").exists()
    with Repo() as repo:
        assert repo.root_dir == str(Path.cwd()) and repo.index.stages


@pytest.mark.parametrize("is_new", [True, False])
def test_a_failed_command_leaves_none_of_the_files_and_can_be_repeated(monkeypatch, capfd, is_new):
    if not is_new:
        Path("study").mkdir()
        Path("study/data.npz").touch()
    monkeypatch.setenv("GIT_DEFAULT_HASH", "none")
    with pytest.raises(SystemExit) as refused:
        called(monkeypatch, init, "study")
    assert refused.value.code == 2
    error = capfd.readouterr().err
    assert error.startswith("error: git init: ") and error.count("\n") == 1
    assert [path.name for path in Path("study").iterdir()] == ["data.npz"][is_new:]
    monkeypatch.delenv("GIT_DEFAULT_HASH")
    assert called(monkeypatch, init, "study") == 0


def test_a_folder_that_the_system_refuses_is_told_in_a_line(monkeypatch, capfd):
    name = "x" * 300
    with pytest.raises(SystemExit) as refused:
        called(monkeypatch, init, name)
    assert refused.value.code == 2
    assert capfd.readouterr().err == f"error: {name}: File name too long; choose another folder\n"


@pytest.mark.parametrize("name", ["params.yaml", "conf", ".dvc", "pipelines", "cfx.py"])
def test_nothing_is_overwritten(monkeypatch, capfd, name):
    Path(name).mkdir()
    with pytest.raises(SystemExit) as refused:
        called(monkeypatch, init, ".")
    assert refused.value.code == 2
    assert capfd.readouterr().err == f"error: {name}: exists already; choose another folder\n"
    assert [path.name for path in Path.cwd().iterdir()] == [name]


def test_a_config_file_that_hydra_would_ignore_is_refused():
    Path("conf/search").mkdir(parents=True)
    Path("conf/search/wachter.yaml").write_text("max_iter: 7\n")
    with pytest.raises(cfx.InputError, match=r"wachter.yaml: the project has a config file of this name; rename yours"):
        compose.compose([])


def test_an_experiment_in_conf_and_one_in_a_given_folder_are_both_found():
    for folder in ("conf", "more [1], ü"):
        (Path(folder) / "experiment").mkdir(parents=True)
        (Path(folder) / f"experiment/{folder[:4]}.yaml").write_text("# @package _global_\nseed: 7\n")
        arguments = ["--config-dir", "more [1], ü"] if folder != "conf" else []
        assert compose.compose([*arguments, f"+experiment={folder[:4]}"]).params.seed == 7


def test_the_command_lists_its_commands_and_refuses_others_in_a_line(monkeypatch, capfd):
    assert called(monkeypatch, __main__) == 0
    told = capfd.readouterr().out
    assert all(command in told for command in __main__.COMMANDS)
    assert called(monkeypatch, __main__, "--version") == 0
    assert capfd.readouterr().out == f"{cfx.__version__}\n"
    assert called(monkeypatch, __main__, "ruin") == 2
    assert capfd.readouterr().err.startswith("error: ruin: is not a command of cfx; choose one of init, run")


def test_without_the_workflow_the_command_says_what_to_install(monkeypatch, capfd):
    monkeypatch.setattr(__main__, "find_spec", lambda name: None if name == "mlflow" else name)
    assert called(monkeypatch, __main__, "run") == 2
    told = "error: cfx run: needs mlflow; run uv pip install 'counterfactual-instances[workflow]'\n"
    assert capfd.readouterr().err == told


def test_the_command_starts_without_the_workflow():
    program = "import sys, pipelines.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert not {"hydra", "dvc", "mlflow", "numpy", "tensorflow"} & set(done.stdout.split())
