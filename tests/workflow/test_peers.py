"""Methods of other libraries in their environments, in one sweep with those of this project."""

import os

import pytest

from tests.workflow.conftest import ROOT, SMALL

pytestmark = pytest.mark.slow
ENVIRONMENTS = ROOT / ".venv-peers"


def test_the_peers_stand_in_one_sweep_with_ours(swept, tmp_path):
    missing = [name for name in ("alibi", "torch") if not (ENVIRONMENTS / name / "bin/python").exists()]
    if missing and os.environ.get("CFX_REQUIRE_PEERS") != "1":
        pytest.skip(f".venv-peers/{missing[0]} does not exist; create it with `make peers`")
    assert not missing, "CFX_REQUIRE_PEERS=1: run `make peers`"
    repository = swept.copy(tmp_path / "clone")
    (repository.path / ".venv-peers").symlink_to(ENVIRONMENTS)
    options = tuple(option for option in SMALL if not option.startswith("search."))
    # the others start at a training instance with p >= 0.99, which this classifier does not have
    torch = "adv_lib_pdpgd,adv_lib_alma,foolbox_ead"
    methods = f"primal_dual,{torch},alibi_counterfactual"
    chosen = ("instances.per_class=1", "instances.classes=[4,7]", "search.target_class=9", "search.steps=400")
    done = repository.run("pipelines.run", "-m", f"search={methods}", *chosen, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    table = repository.table()
    assert table.groupby("method")["found"].any().to_dict() == dict.fromkeys(methods.split(","), True)
    found = table[table["found"]]
    assert (found["probability"] >= 0.99).all() and (found["cf_class"] == 9).all()
    packages = {
        record["own"]["module"]: record["own"]["packages"]
        for record in repository.records().values()
        if "own" in record
    }
    assert packages["adv_lib_pdpgd.py"]["torch"].startswith("2.13.0")
    assert packages["alibi_counterfactual.py"]["alibi"] == "0.9.6"
