"""What several tests need to have at hand."""

from dataclasses import asdict

from pipelines.cells.plan import Cell

# The section `constraints` without a rule.
NO_RULES = {
    **{name: [] for name in ("immutable", "increase", "decrease", "groups")},
    **dict.fromkeys(("ranges", "most_change", "steps", "mask", "mask_sha256")),
    "scale": "unit",
}


def cell(name, upstream, swept, method, instances, trained):
    """A cell with an id of one's own, which no artefact has to stand behind."""
    return Cell(name, upstream, swept, {"method": method.name, **asdict(method)}, instances, trained, {})
