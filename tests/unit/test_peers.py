"""The adapters in peers/ and their options in conf/search/, without the environments that they run in."""

import re
from pathlib import Path

import pytest
import yaml

from cfx import InputError
from pipelines.config import CONF, compose, searches

PEERS = CONF.parent / "peers"
FILES = sorted(PEERS.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_peer_is_chosen_by_its_name_like_any_method(path):
    # its library is imported by the search only, so this interpreter can read it
    search = compose.compose([f"search={path.stem}", "search.python=null"]).params.search
    assert searches.name(search) == path.stem
    assert CONF.parent / search["module"] == path
    assert search["module_sha256"]


def test_a_peer_without_its_environment_is_refused_with_the_command_that_creates_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^search.python: .* does not exist; create it with `make peers`$"):
        compose.compose(["-m", "search=primal_dual,adv_lib_fmn"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_environment_of_a_peer_has_a_lock_file_with_hashes_and_without_the_address_of_a_registry(path):
    python = Path(yaml.safe_load((CONF / f"search/{path.stem}.yaml").read_text())["python"])
    assert (python.parts[0], *python.parts[2:]) == (".venv-peers", "bin", "python")
    lock = (PEERS / f"{python.parts[1]}.lock").read_text()
    requirements = re.split(r"^(?=\w)", lock, flags=re.MULTILINE)[1:]
    assert requirements
    assert [block for block in requirements if "--hash=sha256:" not in block] == []
    assert "://" not in lock
