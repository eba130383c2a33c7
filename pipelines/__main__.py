"""The command `cfx`: `cfx run ...` is `python -m pipelines.run ...`, and so on.

It imports neither the workflow nor the library, so that it adds no time to a command.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import cfx

COMMANDS = {
    "init": "make a folder for sweeps",
    "run": "run a sweep in this folder",
    "paper": "run the experiments of the paper and compare their results with the expected ones",
    "rating": "evaluate the answers of a blind rating",
    "reproduce": "reproduce a cell from its record",
}
# The packages of the extra `workflow` that every command imports.
_WORKFLOW = ("dvc", "hydra", "mlflow")


def main() -> int:
    """Replace this process by that of the command; returns the exit code if there is none."""
    command, arguments = (*sys.argv[1:2], "--help")[0], sys.argv[2:]
    if command in ("-h", "--help"):
        print("usage: cfx <command> ...   `cfx <command> --help` describes a command\n")
        print("\n".join(f"  {name:<11}{purpose}" for name, purpose in COMMANDS.items()))
        return 0
    if command == "--version":
        print(cfx.__version__)
        return 0
    if command not in COMMANDS:
        print(f"error: {command}: is not a command of cfx; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    if missing := [name for name in _WORKFLOW if find_spec(name) is None]:
        hint = "run uv pip install 'counterfactual-instances[workflow]'"
        print(f"error: cfx {command}: needs {', '.join(missing)}; {hint}", file=sys.stderr)
        return 2
    # as `python -m` does, a clone in this folder takes precedence over an installed package
    os.execv(sys.executable, [sys.executable, "-m", f"pipelines.{command}", *arguments])


if __name__ == "__main__":
    sys.exit(main())
