"""What makes a cell another one: its own method's source and the engine's, and nothing else's."""

from pathlib import Path

import pytest

import cfx
from cfx import methods
from pipelines.cells import identity, provenance, source

CFX = Path(cfx.__file__).parent


def codes_where_changed(module, monkeypatch):
    """The methods whose cells become others when a line of a module of cfx is changed."""
    unchanged = {name: identity.code_sha256.__wrapped__(name) for name in (*methods.names(), "own")}
    syntax = provenance.syntax
    monkeypatch.setattr(provenance, "syntax", lambda path: syntax(path) + "changed" * (path == CFX / module))
    return {name for name in unchanged if identity.code_sha256.__wrapped__(name) != unchanged[name]}


@pytest.mark.parametrize(
    ("module", "methods"),
    [
        ("methods/wachter.py", {"wachter"}),
        # on which other methods stand
        ("methods/primal_dual.py", {"primal_dual", "plausible"}),
        ("proximal.py", {"primal_dual", "plausible"}),
        ("methods/nearest_neighbour.py", {"nearest_neighbour", "segment"}),
        ("methods/plausible.py", {"plausible"}),
        ("worker.py", {"own"}),
        ("attack.py", {"own"}),
        # which trains guides: a cell holds their digests
        ("guide_training.py", set()),
        # which no result depends on
        ("charts.py", set()),
        ("methods/__init__.py", set()),
    ],
)
def test_a_method_is_in_the_identity_of_its_own_cells_alone(module, methods, monkeypatch):
    assert codes_where_changed(module, monkeypatch) == methods


@pytest.mark.parametrize("module", ["search.py", "program.py", "classifier.py", "metrics.py"])
def test_the_engine_is_in_the_identity_of_all_cells(module, monkeypatch):
    assert codes_where_changed(module, monkeypatch) == {*methods.names(), "own"}


def test_the_engine_stands_on_no_method():
    assert not [path for path in source.modules(CFX / "search.py") if path.parent.name == "methods"]


def test_where_a_file_lies_is_no_part_of_what_a_cell_is(monkeypatch, tmp_path):
    for path in ("model", "autoencoders", "committee"):
        (tmp_path / path).write_text("the same")
    trained = type("Trained", (), {path: tmp_path / path for path in ("model", "autoencoders", "committee", "card")})
    trained.data_card, trained.replicas = trained.card, tmp_path / "replicas"
    trained.card.write_text('{"sha256": "0"}')
    monkeypatch.setattr(identity.models, "sha256", Path.read_text)
    search = {"method": "own", "python": None, "timeout_s": 3600, "module_sha256": "0", "environment": None}
    here, there, other = (
        identity.sha256(identity.inputs({**search, "module": module, "module_sha256": digest}, (0,), {}, trained))
        for module, digest in (("a/mine.py", "0"), ("b/mine.py", "0"), ("a/mine.py", "1"))
    )
    assert here == there != other
    trained.replicas.mkdir()
    (trained.replicas / "001.keras").write_text("a classifier of another seed")
    search = {**search, "module": "a/mine.py"}
    assert here != identity.sha256(identity.inputs(search, (0,), {}, trained))
