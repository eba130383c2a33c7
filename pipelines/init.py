"""Make a folder for sweeps with an installed package.   cfx init <folder>

The folder gets params.yaml, the pipeline of DVC (dvc.yaml, code.yaml), .gitignore, and conf/experiment/example.yaml,
which is a template for experiments. It becomes a DVC repository and, unless it is already inside a git repository,
also a git repository.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import chdir
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
        try:
            check(folder)
            make(folder)
        except OSError as error:
            raise InputError(f"{folder}: {error.strerror}; choose another folder") from error
    enter = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    console.print(f"made {folder}; run your first sweep with: {enter}cfx run +sweep=targets", markup=False)
    return 0


def check(folder: Path) -> None:
    """Raise InputError if the folder cannot be made: git is missing, or a file is in the way."""
    if shutil.which("git") is None:
        raise InputError("git: is not installed; DVC needs it to keep the versions of the results")
    # a module of the same name here would be imported in place of the installed one
    modules = (name for package in source.PACKAGES for name in (package, f"{package}.py"))
    names = (*modules, "params.yaml", "dvc.yaml", "code.yaml", *(path.name for path in TEMPLATE.iterdir()))
    if existing := [name for name in names if (folder / name).exists()]:
        raise InputError(f"{folder / existing[0]}: exists already; choose another folder")
    if (place := next(path for path in (folder, *folder.absolute().parents) if path.exists())) and not place.is_dir():
        raise InputError(f"{place}: is not a folder; choose another one")


def make(folder: Path) -> None:
    """Write the files, and make the folder a git repository unless it is in one.

    A failure leaves none of the files, so that the command can be repeated.
    """
    # imported here, because it takes seconds and a refused command does not need it
    from pipelines import dvc

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".cfx-init-") as scratch:
        with chdir(scratch):
            schema.write(compose.compose([]).params)
            dvc.write_pipeline()
            if _git("rev-parse", "--git-dir").returncode and (made := _git("init", "--quiet")).returncode:
                raise InputError(
                    f"git init: {made.stderr.strip().splitlines()[-1]}; correct this and run the command again"
                )
        shutil.copytree(TEMPLATE, scratch, dirs_exist_ok=True)
        for path in Path(scratch).iterdir():
            path.rename(folder / path.name)


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
