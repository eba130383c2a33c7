"""The schema of params.yaml: the parameters that determine the results.

The driver writes the file from the Hydra configuration, stages read it, and DVC compares it. It does not contain the
launcher, the tracking or other settings that do not change the results.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from cfx.errors import InputError
from cfx.files import replacing
from pipelines.config import invocation, searches
from pipelines.config.sections import Constraints, Data, Guides, Instances, Int, Judges, Model, Paths, Section, Training

PATH = Path("params.yaml")
# The user's files by their field in `Paths`: the option with the path and the option with the digest.
FILES = {
    "data": ("data.path", "data.sha256"),
    "model": ("model.path", "model.sha256"),
    "module": ("model.module", "model.module_sha256"),
}
# The sections upstream of the search.
UPSTREAM = ("seed", "data", "model", "training", "judges", "guides")
# The parameters that name the chosen option of a group.
GROUP_NAMES = ("data.name", "model.name", "search.method")

# What pydantic calls an unknown option of a section, or of a dataclass.
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")

S = TypeVar("S", bound=Section)


class Upstream(Section):
    """The parameters upstream of the search."""

    seed: Int = Field(ge=0, lt=2**32)
    paths: Paths
    data: Data
    model: Model
    training: Training
    judges: Judges
    guides: Guides | None = None
    """None if no method of the sweep uses guides; none are trained then."""

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Upstream:
        if self.guides and 0 <= self.judges.seed - self.guides.seed < len(self.guides.kinds):
            raise ValueError("judges.seed is the seed of a guide (guides.seed and the next); give another one")
        return self

    @property
    def trust(self) -> dict[str, Any]:
        """The arguments of `cfx.models.load` that permit a model file to run code."""
        return self.model.model_dump(include={"safe_mode", "module_sha256", "trusted"})


class Variant(Upstream):
    """One point of the axes upstream of the search."""

    swept: dict[str, Any]
    """The values of these axes."""


class Params(Upstream):
    """The content of params.yaml.

    search: the name of the method as `method`, and the hyperparameters that are not swept.
    sweep: the axes of the search with their values; those of the axis `search` are whole `search` sections.
    variants: the variants, if the sweep has axes upstream of the search. The other sections are those of one variant,
    usually the first, which the stages prepare, train, judges and guides update.
    """

    search: dict[str, Any]
    instances: Instances
    constraints: Constraints
    sweep: dict[str, list[Any]]
    variants: list[Variant] = Field(default_factory=list)

    def with_variant(self, variant: Variant) -> Params:
        """The same parameters with the upstream sections of a variant."""
        return self.model_copy(update={name: getattr(variant, name) for name in Upstream.model_fields})

    def points(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """The points of the axes of the search, in order, as swept values and `search` section.

        The value of an axis that a method does not have is None, and the method has a single point along this axis.
        """
        points: list[dict[str, Any]] = []
        for values in itertools.product(*self.sweep.values()):
            swept = dict(zip(self.sweep, values, strict=True))
            section = swept.pop("search", None)
            if section is None:
                yield swept, {**self.search, **swept}
                continue
            values_of_method = {axis: value for axis, value in swept.items() if axis in searches.options(section)}
            point = {"method": searches.name(section), **dict.fromkeys(swept), **values_of_method}
            if len(values_of_method) == len(swept) or point not in points:
                points.append(point)
                yield point, {**section, **values_of_method}


def check(raw: Mapping[str, Any]) -> Params:
    """Check the parameters, read from a file or composed. Raises InputError for the first error."""
    params = validate(Params, raw)
    if unused := sorted(params.search if "search" in params.sweep else params.search.keys() & params.sweep.keys()):
        raise InputError(f"params.yaml: search.{unused[0]} has no effect, because it is swept; change `sweep` instead")
    if params.variants and params not in map(params.with_variant, params.variants):
        raise InputError(
            "params.yaml: its seed, data, model, training and judges do not match any of its variants; "
            f"write the file with `{invocation('run')}`"
        )
    points = [repr((searches.name(search), searches.method(search))) for _, search in params.points()]
    # the paths of the files do not distinguish variants
    upstream = [repr(variant.model_dump(exclude={"swept", "paths"})) for variant in params.variants]
    if len(set(points)) < len(points) or len(set(upstream)) < len(upstream):
        raise InputError("the sweep contains the same cell twice; remove the repeated value")
    return params


def validate(kind: type[S], raw: Any, prefix: str = "") -> S:
    """Validate a section. Raises InputError for the first error, with the name of the option after `prefix`."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        # the location of an error in a union contains the chosen type: the name of the option, or list[...]
        parts = [str(part) for part in first["loc"] if "[" not in str(part)]
        if len(parts) > 2 and parts[0] in ("data", "model"):
            del parts[1]
        reasons = {"missing": "is missing"} | dict.fromkeys(_UNKNOWN, "no such option")
        reason = reasons.get(first["type"], first["msg"]).removeprefix("Value error, ")
        if first["type"] not in (*reasons, "value_error"):
            reason += f", not {first['input']!r}"
        raise InputError(f"{prefix}{'.'.join(parts)}: {reason[0].lower() + reason[1:]}; see conf/") from error


def user_file(params: Upstream, name: str) -> tuple[Path, str]:
    """The path and SHA-256 of a user's file; name: a key of FILES.

    Raises InputError if it cannot be read or if its digest differs from the one in the parameters.
    """
    option, digest = FILES[name]
    section, field = digest.split(".")
    path, expected = getattr(params.paths, name), getattr(getattr(params, section), field)
    if path is None:
        raise InputError(f"{option}: is missing; give {option}=...")
    return path, file_sha256(path, expected, option, digest)


def file_sha256(path: Path, expected: str | None, option: str, digest: str) -> str:
    """The SHA-256 of a user's file; option, digest: the options with the path and the expected digest.

    Raises InputError if the file cannot be read, or if another digest is expected.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{option}: {path} cannot be read ({error.strerror}); give a readable file") from error
    if expected not in (None, found):
        action = f"use the matching file, or change {digest}"
        raise InputError(f"{option}: {path} has SHA-256 {found}, but {digest} is {expected}; {action}")
    return found


def read() -> Params:
    """Read params.yaml in the working directory. Raises InputError if it is missing or invalid."""
    try:
        return check(yaml.safe_load(PATH.read_text()))
    except FileNotFoundError:
        where = "in a clone of the project or in a folder made by `cfx init`"
        raise InputError(f"{PATH}: no such file; run the command {where}") from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{PATH}: is not valid YAML ({reason}); write it with `{invocation('run')}`") from error


def write(params: Params) -> None:
    """Write params.yaml atomically, if it changes."""
    text = f"# Written by `{invocation('run')}` from conf/: the parameters of the results, which DVC tracks.\n"
    text += yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=120)
    if not PATH.exists() or PATH.read_text() != text:
        with replacing(PATH) as temporary:
            temporary.write_text(text)
