"""What several tests need to have at hand."""

from dataclasses import asdict

from pipelines.cells.plan import Cell


def cell(name, upstream, swept, method, instances, trained):
    """A cell with an id of one's own, which no artefact has to stand behind."""
    return Cell(name, upstream, swept, {"method": method.name, **asdict(method)}, instances, trained, {})
