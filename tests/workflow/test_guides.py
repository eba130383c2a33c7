"""A sweep whose method uses guides: they are trained for it once, cached, kept apart from judges, and made again."""

import numpy as np
import pandas as pd
import pytest

from tests.workflow.conftest import SMALL, assert_refused, shared
from tests.workflow.test_upstream import trained

# with a replica, for whose sake the classifier is trained once more
FEW = (*(option for option in SMALL if not option.startswith("search.")), "training.replicas=1")
GUIDES = ("guides.steps=60", "guides.epochs=1", "guides.kinds=[deep,dense]", "judges.seed=1")
ONE = ("instances.per_class=1", "instances.classes=[7]")
SWEEP = (
    *("+experiment=plausibility", "data=mnist_5k", *ONE),
    *("search=plausible,primal_dual", "search.plausibility=0,0.25", "search.target_class=1,other"),
)


def guided_cells(repository):
    """The cells whose method has used guides."""
    return [cell for cell, record in repository.records().items() if "guides" in record["identity"]]


@pytest.fixture(scope="module")
def guided(swept, tmp_path_factory):
    """A clone after a sweep of two methods over the dial and two targets."""

    def make(path):
        repository = swept.copy(path)
        assert not list(path.glob("artifacts/guides/*.keras")), "a sweep that needs no guides trains none"
        done = repository.run("pipelines.run", *SWEEP, *FEW, *GUIDES)
        assert done.returncode == 0, done.stdout + done.stderr
        assert [line.split(":")[0] for line in trained(done)] == ["train", "guides"]

    return shared(tmp_path_factory, "guided", make)


@pytest.mark.slow
def test_the_table_says_whether_the_guides_agree_and_which_instance_was_the_anchor(guided):
    table = guided.table()
    uses_guides = table["cell"].isin(guided_cells(guided))
    guides, others = table[uses_guides], table[~uses_guides]
    assert len(guides) == 2 and len(others) == 4
    assert (guides["plausible"] == 1).all()
    assert others["plausible"].isna().all() and (others["anchor"] == -1).all()
    # the small classifier may not be sure of any training instance of a class: the search then has no anchor
    anchored = guides[guides["anchor"] >= 0]
    assert len(anchored)
    with np.load(guided.path / "artifacts/data.npz") as data:
        np.testing.assert_array_equal(data["y_train"][anchored["anchor"]], anchored["cf_class"])
    points = pd.read_csv(guided.path / "artifacts/report/tables/front.csv")
    assert points[["method", "plausibility"]].fillna(-1).to_numpy().tolist() == [
        ["plausible", 0],
        ["plausible", 0.25],
        ["primal_dual", -1],
    ]
    assert table.loc[table["found"] & ~table["unchanged"], "seed_stability"].isin([0, 1]).all()
    near = table[table["method"] == "primal_dual"]
    assert guides.groupby("target_class")["l1"].mean()["1"] > near.groupby("target_class")["l1"].mean()["1"]


@pytest.mark.slow
def test_a_cell_that_uses_guides_has_their_digests_and_the_others_have_not(guided):
    identities = [record["identity"] for record in guided.records().values()]
    used = [identity for identity in identities if "guides" in identity]
    assert {identity["plausibility"] for identity in used} == {0.25} and len(used) == 2
    assert all(
        len(identity["guides"]) == 2 and not set(identity["guides"]) & set(identity["judges"]) for identity in used
    )


@pytest.mark.slow
def test_the_same_again_and_a_sweep_without_guides_between_train_nothing(guided, tmp_path):
    repository = guided.copy(tmp_path / "clone")
    near = repository.run("pipelines.run", "search=primal_dual", "search.target_class=1", *FEW)
    assert near.returncode == 0 and trained(near) == [], near.stdout + near.stderr
    again = repository.run("pipelines.run", *SWEEP, *FEW, *GUIDES)
    assert again.returncode == 0 and "6 cells, 0 to compute" in again.stdout, again.stdout + again.stderr
    assert trained(again) == []
    assert "up to date" in repository.run("dvc", "status").stdout
    pd.testing.assert_frame_equal(repository.table(), guided.table())


@pytest.mark.slow
def test_a_cell_is_made_again_from_its_record_with_guides_of_its_own(guided, tmp_path):
    repository = guided.copy(tmp_path / "clone")
    row = int(np.flatnonzero(repository.table()["cell"].isin(guided_cells(repository)))[0])
    done = repository.run("pipelines.reproduce", str(row), "--check")
    assert done.returncode == 0 and "identical bit for bit" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_guides_can_be_swept(guided, tmp_path):
    repository = guided.copy(tmp_path / "clone")
    dial = ("search=plausible", "search.plausibility=0.25", "search.target_class=1")
    arguments = ("-m", *dial, "guides.seed=2,7", *FEW, *GUIDES)
    done = repository.run("pipelines.run", *arguments)
    assert done.returncode == 0 and "2 cells, 1 to compute" in done.stdout, done.stdout + done.stderr
    assert len(list(repository.path.glob("artifacts/variants/guides-*"))) == 1
    table = repository.table()
    assert table["guides.seed"].tolist() == [2, 7] and table["l1"].nunique() == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["guides.epochs=1"], "guides.epochs=1: has no effect, because no method of the sweep uses guides"),
        (["search=plausible", "guides.kinds=[wide]"], "guides.kinds.0: "),
        (["search=plausible", "guides.seed=0"], "judges.seed is the seed of a guide"),
        (["search=plausible", "search.plausibility=2"], "search.plausibility must be in [0, 1]"),
        (["search=plausible", "search.anchors=0"], "search.anchors must be "),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(swept, arguments, message):
    assert_refused(swept, message, *arguments)
