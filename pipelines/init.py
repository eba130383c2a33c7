"""Make a folder for sweeps with an installed package.   cfx init <folder>

The folder gets params.yaml, the pipeline of DVC (dvc.yaml, code.yaml), .gitignore, and conf/experiment/example.yaml,
which is a template for experiments. It becomes a DVC repository and, unless it is in one already, a git repository.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from cfx.errors import InputError
from pipelines.cells import source
from pipelines.config import compose, schema
from pipelines.terminal import console, user_errors

TEMPLATE = Path(__file__).with_name("template")


def main() -> int:
    """Make the folder; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="cfx init", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a new folder, or an existing one without these files")
    folder = parser.parse_args().folder
    with user_errors():
        check(folder)
        make(folder)
    enter = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    console.print(f"made {folder}; run your first sweep with: {enter}cfx run +sweep=targets", markup=False)
    return 0


def check(folder: Path) -> None:
    """Raise InputError if the folder cannot be made: git is missing, or a file is in the way."""
    if shutil.which("git") is None:
        raise InputError("git: is not installed; DVC needs it to keep the versions of the results")
    # a package of the same name here would be imported in place of the installed one
    names = (*source.PACKAGES, "params.yaml", "dvc.yaml", "code.yaml", *(path.name for path in TEMPLATE.iterdir()))
    if existing := [name for name in names if (folder / name).exists()]:
        raise InputError(f"{folder / existing[0]}: exists already; choose another folder")
    if (place := next(path for path in (folder, *folder.absolute().parents) if path.exists())) and not place.is_dir():
        raise InputError(f"{place}: is not a folder; choose another one")


def make(folder: Path) -> None:
    """Write the files, and make the folder a repository of DVC and of git."""
    # imported here, because it takes seconds and a refused command does not need it
    from dvc.repo import Repo

    from pipelines import dvc

    shutil.copytree(TEMPLATE, folder, dirs_exist_ok=True)
    os.chdir(folder)
    ignored = Path(".dvcignore").read_text()
    top = _git("rev-parse", "--show-toplevel")
    if top is None:
        _git("init", "--quiet")
    if not Path(".dvc").exists():
        Repo.init(subdir=top is not None and Path(top).resolve() != Path.cwd()).close()
        # DVC writes a file of the same name
        Path(".dvcignore").write_text(ignored)
    schema.write(compose.compose([]).params)
    dvc.write_pipeline()


def _git(*arguments: str) -> str | None:
    """The output of git, or None if it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return None if done.returncode else done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
