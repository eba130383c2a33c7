"""Our end of the line to the peer: its environment, made once, and its process, asked for one instance at a time."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.problem import Problem

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "peer-requirements.txt"
ENVIRONMENT = HERE.parent / ".venv-peer"


def environment() -> Path:
    """The Python of the peer's environment, which is made if it is not there or not complete."""
    python, installed = ENVIRONMENT / "bin" / "python", ENVIRONMENT / REQUIREMENTS.name
    if not (installed.is_file() and installed.read_bytes() == REQUIREMENTS.read_bytes()):
        own = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
        if own is None:
            raise SystemExit("the peer needs TensorFlow 2.14, and that needs Python 3.11: install it as python3.11")
        print(f"making the peer's environment in {ENVIRONMENT.name}", flush=True)
        subprocess.run([own, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", REQUIREMENTS], check=True)
        shutil.copyfile(REQUIREMENTS, installed)
    return python


@contextmanager
def peer(problem: Problem, tasks: tuple[str, ...], threads: int, folder: Path) -> Iterator[Callable[[str, int], dict]]:
    """Start the peer on a problem; yields a function of a task and a row that makes it explain that row.

    `folder` gets what the peer was given, what it found (`peer.npz`, the rows of each task after those of the one
    before it) and what it said.
    """
    n = len(problem.x)
    np.savez(folder / "weights.npz", *problem.weights)
    np.savez(
        folder / "instances.npz",
        x=np.tile(problem.x, (len(tasks), 1, 1, 1)),
        index=np.tile(problem.index, len(tasks)),
        target=np.array([str(target) for task in tasks for target in problem.targets(task)]),
    )
    files = [folder / name for name in ("weights.npz", "instances.npz", "peer.npz")]
    command = [environment(), HERE / "peer.py", *files, "--threads", str(threads)]
    with (folder / "peer.log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)

        def explain(task: str, row: int) -> dict:
            process.stdin.write(f"{tasks.index(task) * n + row}\n")
            process.stdin.flush()
            if not (answer := process.stdout.readline()):
                raise SystemExit(f"the peer ended with code {process.wait()}: see {log.name}")
            return json.loads(answer)

        try:
            yield explain
            process.stdin.close()
            process.wait()
        finally:
            process.kill()
