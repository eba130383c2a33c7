"""What `python -m pipelines.reproduce` prints: commands that are right at the record's commit, and no side effect."""

import json
import shlex
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import reproduce
from pipelines.cells import paths, provenance
from pipelines.config import CONF, compose

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
DEFAULTS = compose.compose([]).params.model_dump(mode="json")


def git(*arguments: str) -> str:
    return subprocess.run([*GIT, *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(autouse=True)
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the code runs in it
    monkeypatch.setattr("pipelines.config.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MNIST_NPZ", raising=False)
    shutil.copytree(CONF, "conf")
    Path(".gitignore").write_text("/artifacts/\n")
    git("init", "-q")
    commit("one")


def commit(message: str) -> str:
    git("add", "-A")
    git("commit", "-qm", message)
    return git("rev-parse", "HEAD")


def replaced(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def keep(**changes: Any) -> None:
    """A cell called `one`, made now with the command line's defaults."""
    record = {
        **{"cell": "one", "commit": git("rev-parse", "HEAD"), "diff": None, "untracked": {}, "lock": "l0ck"},
        **{"swept": {}, "versions": {"python": "3.0", "numpy": "2.0"}, "identity": {"data": "d", "code": "c0de"}},
        "params": DEFAULTS,
    }
    record |= changes
    paths.RESULTS.mkdir(parents=True)
    (paths.RESULTS / "one.json").write_text(json.dumps({"search": record["params"]["search"]} | record))


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["reproduce", *arguments])
    return reproduce.main()


def told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> list[str]:
    assert called(monkeypatch, "one") == 0
    return capfd.readouterr().out.splitlines()


def refusal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a call is refused with."""
    with pytest.raises(SystemExit) as refused:
        called(monkeypatch, *arguments)
    said = capfd.readouterr()
    assert refused.value.code == 2 and said.out == ""
    (line,) = said.err.splitlines()
    return line


SHORT = "python -m pipelines.run data=mnist_5k model=cnn search=wachter"


def test_the_command_is_right_with_the_defaults_of_its_commit(monkeypatch, capfd):
    # then: another default, and an option less than today
    replaced("conf/search/wachter.yaml", "max_iter: 1000", "max_iter: 7")
    replaced("conf/search/wachter.yaml", "precision: float32", "# ")
    commit("other defaults")
    asked = deepcopy(DEFAULTS)
    del asked["search"]["precision"]
    asked["search"]["an_option_of_then"] = 3
    keep(params=asked)
    # now: what was another default is one
    replaced("conf/search/wachter.yaml", "max_iter: 7", "max_iter: 1000")
    commit("today's defaults")
    assert told(monkeypatch, capfd)[-1] == f"{SHORT} search.max_iter=1000 search.an_option_of_then=3"


def test_the_command_is_right_with_defaults_that_were_not_committed(monkeypatch, capfd):
    replaced("conf/search/wachter.yaml", "max_iter: 1000", "max_iter: 7")
    diff = git("diff", "HEAD")
    git("checkout", "-q", "conf")
    keep(diff=diff)
    lines = told(monkeypatch, capfd)
    assert lines[-1] == f"{SHORT} search.max_iter=1000"
    assert lines[2] == "git apply <<'END'" and diff.splitlines()[-1] in lines


def test_a_commit_that_is_not_here_is_said_and_every_parameter_named(monkeypatch, capfd):
    keep(commit="0" * 40)
    lines = told(monkeypatch, capfd)
    assert lines[1].startswith(f"git checkout {'0' * 40}   # not in this clone")
    for option in ("seed=0", "training.epochs=20", "search.tol=0.01", "instances.index=null", "model.filters=[64,32]"):
        assert option in shlex.split(lines[-1])


def test_a_cell_without_a_commit_is_told_without_a_checkout(monkeypatch, capfd):
    keep(commit=None, lock=None)
    lines = told(monkeypatch, capfd)
    assert not [line for line in lines if line.startswith("git")] and "None" not in "".join(lines)
    assert "no commit" in lines[0] and "c0de" in lines[0]
    assert lines[1] == "make environment   # python 3.0, numpy 2.0"
    assert "search.tol=0.01" in lines[-1]


@pytest.mark.parametrize(("sha", "said"), [(None, "no commit to check out"), ("0" * 40, "run git fetch")])
def test_a_check_without_its_commit_is_refused(sha, said, monkeypatch, capfd):
    keep(commit=sha)
    # a result that is not there is not read first
    monkeypatch.setattr(reproduce.Result, "load", lambda path: None)
    assert said in refusal(monkeypatch, capfd, "one", "--check")


def test_what_git_does_not_bring_is_named(monkeypatch, capfd):
    keep(untracked={"mine.csv": "d1gest"})
    assert "# untracked file that the record does not contain: mine.csv, SHA-256 d1gest" in told(monkeypatch, capfd)


def test_a_peer_comes_with_the_commit_and_its_environment_from_make_peers(monkeypatch, capfd):
    peer = CONF.parent / "peers/adv_lib_fmn.py"
    Path("peers").mkdir()
    shutil.copyfile(peer, "peers/adv_lib_fmn.py")
    search = yaml.safe_load((CONF / "search/own.yaml").read_text()) | {"module_sha256": "a0", "environment": "b1"}
    search |= {"module": "peers/adv_lib_fmn.py", "python": ".venv-peers/torch/bin/python"}
    search |= {"steps": 5, "step_size": 10.0}
    own = {"module": peer.name, "source": peer.read_text(), "packages": {"torch": "2"}}
    commit("a peer")
    keep(search=search, own=own)
    lines = told(monkeypatch, capfd)
    assert lines[-1] == f"{SHORT.replace('wachter', 'adv_lib_fmn')} search.steps=5"
    assert [line for line in lines if line.startswith("make")][1].startswith("make peers ")
    assert not [line for line in lines if line.startswith("cat")]
    monkeypatch.setattr(reproduce.Result, "load", lambda path: None)
    assert "create it with `make peers`" in refusal(monkeypatch, capfd, "one", "--check")


def test_files_in_any_encoding_are_printed_as_they_are(monkeypatch, capfdbinary):
    Path("latin.txt").write_bytes(b"\xfc\n")
    for said in (provenance.commit, provenance.origin):
        said.cache_clear()
    try:
        keep(diff=provenance.origin()["diff"])
    finally:
        for said in (provenance.commit, provenance.origin):
            said.cache_clear()
    Path("latin.txt").unlink()
    assert called(monkeypatch, "one") == 0
    assert b"+\xfc\n" in capfdbinary.readouterr().out


def test_asking_for_a_run_where_there_is_no_store_makes_none(monkeypatch, capfd):
    before = sorted(Path().iterdir())
    for uri in ("sqlite:///mlflow.db", "sqlite:///a/folder/mlflow.db"):
        assert "is not a cell or a row in this folder" in refusal(monkeypatch, capfd, "a0b1", "--uri", uri)
    assert sorted(Path().iterdir()) == before


def test_a_store_that_does_not_answer_is_said_in_one_line(monkeypatch, capfd):
    # no pause between the retries
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    line = refusal(monkeypatch, capfd, "a0b1", "--uri", "http://127.0.0.1:9")
    assert line.startswith("error: --uri: cannot connect to the MLflow store at http://127.0.0.1:9 ")


@pytest.mark.parametrize("name", ["../data", "target_class=1", "", ".", "%", "a" * 300])
def test_what_can_be_no_cell_is_said_to_be_none(monkeypatch, capfd, name):
    assert refusal(monkeypatch, capfd, name).startswith(f"error: {name!r}: is not a cell, row or run; ")
