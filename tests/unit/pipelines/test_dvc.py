"""How the driver takes what becomes of a DVC stage."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cfx.errors import InputError
from pipelines import dvc

# dvc 3.67 asks pygtrie for the value of a step that is not there
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A folder with a stage that runs a command; it is no git repository unless it is made one."""
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()

    def made(command: str) -> None:
        Path("dvc.yaml").write_text(f"stages: {{one: {{cmd: {command}, outs: [made]}}}}\n")

    return made


def test_a_folder_that_is_no_git_repository_is_worked_in(stage):
    stage("touch made")
    dvc.reproduce("one")
    assert Path("made").exists() and dvc.LOCK.exists()


def test_an_interrupt_of_a_stage_is_one_of_the_driver(stage):
    subprocess.run(["git", "init", "-q"], check=True)
    # a shell starts what it runs in the background with interrupts ignored, and that is inherited
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for command in ("exit 130", "kill -INT $$"):
            stage(command)
            with pytest.raises(KeyboardInterrupt):
                dvc.reproduce("one")
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_stage_that_refused_its_input_has_said_why(stage, capfd):
    stage("exit 2")
    with pytest.raises(SystemExit) as end:
        dvc.reproduce("one")
    assert end.value.code == 2 and capfd.readouterr().err == ""


def test_what_dvc_cannot_read_is_told_in_a_line(stage):
    Path("dvc.yaml").write_text("stages: [")
    with pytest.raises(InputError, match=r"DVC: .*repair or remove the file named in the message"):
        dvc.reproduce("one")


@pytest.mark.parametrize("is_clone", [True, False])
def test_a_failed_run_restores_the_pipeline_only_where_a_run_writes_it(stage, monkeypatch, is_clone):
    if is_clone:
        monkeypatch.setattr("pipelines.config.ROOT", Path.cwd())
    stage("touch made")
    before = dvc.PIPELINE.read_text()
    with pytest.raises(InputError), dvc.restore_on_error():
        Path("params.yaml").touch()
        dvc.write_pipeline()
        assert dvc.CODE.exists() is not is_clone
        if is_clone:
            stage("touch other")  # an edit of the user's meanwhile
        raise InputError
    assert (dvc.PIPELINE.read_text() == before) is not is_clone
    assert not Path("params.yaml").exists() and not dvc.CODE.exists()


def test_another_command_of_dvc_is_told_in_a_line(stage):
    subprocess.run(["git", "init", "-q"], check=True)
    stage("sleep 60")
    other = subprocess.Popen([sys.executable, "-m", "dvc", "repro"], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (Path(".dvc/tmp/rwlock").exists() and "made" in Path(".dvc/tmp/rwlock").read_text()):
            assert time.monotonic() < until and other.poll() is None
            time.sleep(0.1)
        with pytest.raises(InputError, match=r"another command is running .*PID.*run the same command again$"):
            dvc.reproduce("one")
    finally:
        if other.poll() is None:
            for process in psutil.Process(other.pid).children(recursive=True):
                process.kill()
        other.wait()
