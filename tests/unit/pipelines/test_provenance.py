"""What a record says of the code: enough to have the same files again, new ones too, and no more than that."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cells import provenance

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
LIMIT = 2**18


def git(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run([*GIT, *arguments], input=given, capture_output=True, check=True).stdout


@pytest.fixture(autouse=True)
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clone with a module, a binary file and what a run writes, all committed."""
    monkeypatch.chdir(tmp_path)
    Path("code.py").write_text("ONE = 1\n")
    Path("z.bin").write_bytes(bytes(range(256)))
    Path("params.yaml").write_text("seed: 0\n")
    Path(".gitignore").write_text("ignored/\n")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        git(*arguments)
    for said in (provenance.commit, provenance.origin):
        said.cache_clear()
    yield
    # they hold for a process, and other tests are elsewhere
    for said in (provenance.commit, provenance.origin):
        said.cache_clear()


def again(folder: Path) -> Path:
    """A clone elsewhere, with the commit and the diff of the record."""
    origin = provenance.origin()
    git("clone", "-q", ".", str(folder))
    git("-C", str(folder), "checkout", "-q", origin["commit"])
    git("-C", str(folder), "apply", "-", given=(origin["diff"] + "\n\n").encode(errors="surrogateescape"))
    return folder


def test_new_files_are_made_again_with_the_changes(tmp_path_factory: pytest.TempPathFactory) -> None:
    new = {
        "code.py": b"ONE = 2\n",
        "new.py": b"TWO = 2",
        "a folder/[x] and ü.py": "# ü\r\n".encode(),
        "latin.txt": b"\xfc\r\n  \n\n",
        "staged.py": b"THREE = 3\n",
        "empty/__init__.py": b"",
        "z.bin": bytes(range(255, -1, -1)),
    }
    for path, content in new.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_bytes(content)
    Path("new.py").chmod(0o755)
    git("add", "staged.py")
    Path("ignored").mkdir()
    Path("ignored/secret.txt").write_text("secret")
    Path("params.yaml").write_text("seed: 1\n")
    Path("dvc.lock").write_text("a run writes it\n")
    index = Path(".git/index").read_bytes()
    objects = {path for path in Path(".git/objects").rglob("*") if path.is_file()}

    folder = again(tmp_path_factory.mktemp("again") / "clone")
    assert {path: (folder / path).read_bytes() for path in new} == new
    assert os.access(folder / "new.py", os.X_OK)
    assert not any((folder / path).exists() for path in ("ignored", "dvc.lock"))
    assert (folder / "params.yaml").read_text() == "seed: 0\n"
    assert provenance.origin()["untracked"] == {}
    assert Path(".git/index").read_bytes() == index
    assert {path for path in Path(".git/objects").rglob("*") if path.is_file()} == objects


def test_it_does_not_depend_on_what_the_user_set_for_diffs(tmp_path_factory: pytest.TempPathFactory) -> None:
    for key, value in (("diff.noprefix", "true"), ("color.ui", "always"), ("diff.external", "true")):
        git("config", key, value)
    Path("code.py").write_text("ONE = 2\n")
    assert (again(tmp_path_factory.mktemp("again") / "clone") / "code.py").read_text() == "ONE = 2\n"


def test_data_is_named_by_its_digest_and_leaves_room_for_source() -> None:
    Path("a.csv").write_bytes(b"1\n" * LIMIT)
    Path("a.npz").write_bytes(b"PK\0")
    Path("z.py").write_text("NEW = 1\n")
    origin = provenance.origin()
    assert origin["untracked"] == {
        name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in ("a.csv", "a.npz")
    }
    assert "+NEW = 1" in origin["diff"] and len(origin["diff"]) < 1000


def test_all_new_text_together_is_bounded() -> None:
    for i in range(5):
        Path(f"{i}.txt").write_bytes(b"1\n" * (LIMIT // 8 + i))
    origin = provenance.origin()
    assert list(origin["untracked"]) == ["3.txt", "4.txt"]
    assert LIMIT // 2 < len(origin["diff"]) < 3 * LIMIT


def test_many_data_files_have_one_digest_that_changes_with_any_of_them() -> None:
    for i in range(100):
        Path(f"{i}.bin").write_bytes(bytes([0, i]))
    ((name, digest),) = provenance.origin()["untracked"].items()
    assert name == "100 files"
    provenance.origin.cache_clear()
    Path("7.bin").write_bytes(b"\0changed")
    assert provenance.origin()["untracked"]["100 files"] != digest


def test_a_clone_without_changes_has_no_diff() -> None:
    origin = provenance.origin()
    assert origin["diff"] is None and origin["untracked"] == {}


def test_a_folder_inside_another_repository_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("study").mkdir()
    monkeypatch.chdir("study")
    Path("new.py").write_text("TWO = 2\n")
    origin = provenance.origin()
    assert [origin["commit"], origin["diff"], origin["untracked"]] == [None, None, {}]
    assert "mlflow.source.git.commit" not in provenance.tags()


def test_records_that_differ_in_an_untracked_file_say_so() -> None:
    record = {
        **{"commit": "c", "diff": "", "lock": None, "versions": {}, "device": {"kind": "CPU"}},
        "identity": {"data": "d", "model": "m", "judges": [], "code": "k"},
        "params": {"seed": 0, "data": {}, "model": {}, "training": {}},
    }
    # records of older versions do not have it
    named = provenance.differences(record, {**record, "untracked": {"a.csv": "1"}})
    assert named == ["untracked a.csv (SHA-256): None became 1"]
    assert provenance.differences(record, {**record, "untracked": {}}) == []


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ('"""Other words."""\nRATE = 2  # why\n\n\ndef f(\n    x,\n):\n    """Others."""\n    return x * RATE\n', True),
        ("RATE = 2\n\n\ndef f(x):\n    return x * RATE\n", True),
        ('RATE = 2\n\n\ndef f(x):\n    return "Words." * RATE\n', False),
        ("RATE = 3\n\n\ndef f(x):\n    return x * RATE\n", False),
    ],
)
def test_what_is_said_about_code_does_not_make_it_other_code(other: str, is_same: bool) -> None:
    Path("one.py").write_text('"""Words."""\n\nRATE = 2\n\n\ndef f(x):\n    """Words."""\n    return x * RATE\n')
    Path("other.py").write_text(other)
    assert (provenance.syntax(Path("one.py")) == provenance.syntax(Path("other.py"))) is is_same


def test_a_setting_that_chooses_other_kernels_makes_it_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    usual = provenance.machine.__wrapped__()
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    assert provenance.machine.__wrapped__() == usual
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    (told,) = provenance.changes(usual, provenance.machine.__wrapped__())
    assert told.startswith("kernels: ") and "AVX2" in told
