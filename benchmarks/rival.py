"""Our end of the line to the peer: its environment and its process, asked for one instance at a time."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.problem import Problem

HERE = Path(__file__).parent
# that of the peers in sweeps, which `make` creates
ENVIRONMENT = Path(".venv-peers/alibi")
REQUIREMENTS = HERE.parent / "peers" / "alibi.lock"


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
    subprocess.run(["make", f"{ENVIRONMENT}/.complete"], cwd=HERE.parent, check=True)
    python = HERE.parent / ENVIRONMENT / "bin" / "python"
    command = [python, HERE / "peer.py", *files, "--threads", str(threads)]
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
