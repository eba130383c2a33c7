"""params.yaml: the scientific part of the configuration, checked. What a stage reads and what DVC compares.

The driver writes it from the Hydra configuration; the stages know nothing of Hydra. It holds what decides a result
(seed, data, model, training, judges, guides, search, ...) and nothing of where or how it is computed.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

from cfx.errors import InputError
from cfx.files import replacing
from pipelines.config import searches

PATH = Path("params.yaml")
# The options that name the user's files, by their place in `Paths`, each with the one that insists on a digest.
FILES = {
    "data": ("data.path", "data.sha256"),
    "model": ("model.path", "model.sha256"),
    "module": ("model.module", "model.module_sha256"),
}

# Numbers, and not what YAML reads as true or false.
Int = Annotated[int, Strict()]
Float = Annotated[float, Strict()]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Section)


class Mnist5k(Section):
    """The embedded 5,000 images."""

    name: Literal["mnist_5k"]
    seed: Int = Field(ge=0)


class Mnist(Section):
    """All of MNIST."""

    name: Literal["mnist"]


class Npz(Section):
    """A file of the user's own."""

    name: Literal["npz"]
    bounds: tuple[Float, Float]
    sha256: str | None


class Cnn(Section):
    """The reference CNN, trained here."""

    name: Literal["cnn"]
    filters: list[Annotated[Int, Field(ge=1)]] = Field(min_length=1)
    kernel_size: Int = Field(ge=1)
    dropout: Float = Field(ge=0, lt=1)
    hidden: Int = Field(ge=1)
    hidden_dropout: Float = Field(ge=0, lt=1)


class KerasFile(Section):
    """A trained classifier of the user's own."""

    name: Literal["keras"]
    bounds: tuple[Float, Float]
    safe_mode: bool
    module_sha256: str | None
    sha256: str | None


class Paths(Section):
    """Where the user's files are on this machine: what they hold is compared, by digest, not where they lie."""

    data: Path | None
    model: Path | None
    module: Path | None = None


class Training(Section):
    """How model=cnn is trained."""

    epochs: Int = Field(ge=1)
    batch_size: Int = Field(ge=1)
    learning_rate: Float = Field(gt=0, allow_inf_nan=False)


class Launch(Section):
    """How the cells are fanned out; which engine does it is the option of hydra/launcher. Not in params.yaml."""

    cells_per_job: Int = Field(ge=1)
    gpus: Float = Field(ge=0)
    without_gpu: Literal["fail", "cpu"]


class Judges(Section):
    """How the judges of the counterfactuals are trained."""

    seed: Int = Field(ge=0, lt=2**32)
    steps: Int = Field(ge=1)


class Guides(Section):
    """How the guides are trained that methods search with."""

    kinds: list[Literal["deep", "dense", "generative"]] = Field(min_length=1)
    epochs: Int = Field(ge=1)
    steps: Int = Field(ge=1)
    seed: Int = Field(ge=0, lt=2**32 - 16)


class Instances(Section):
    """Which inputs of the test split are explained."""

    index: list[Annotated[Int, Field(ge=0)]] | None
    range: tuple[Int, Int] | None
    per_class: Int | None = Field(ge=1)
    classes: list[Annotated[Int, Field(ge=0)]] | Literal["all"]

    @model_validator(mode="after")
    def _one_choice(self) -> Instances:
        if self.index is not None and self.range is not None:
            raise ValueError("give index or range, not both")
        if self.index is None and self.range is None and self.per_class is None:
            raise ValueError("give one of index, range and per_class")
        if self.range is not None and not 0 <= self.range[0] < self.range[1]:
            raise ValueError(f"range must be [start, stop] with 0 <= start < stop, not {list(self.range)}")
        if self.classes != "all" and (not self.classes or len(set(self.classes)) < len(self.classes)):
            raise ValueError(f"classes must be `all` or a list of distinct classes, not {self.classes}")
        if self.index is not None and (not self.index or len(set(self.index)) < len(self.index)):
            raise ValueError(f"index must be a list of distinct indices into the test split, not {self.index}")
        return self


class Upstream(Section):
    """What a classifier comes from, and its companions: data, training, judges, and guides of the search."""

    seed: Int = Field(ge=0, lt=2**32)
    paths: Paths
    data: Annotated[Mnist5k | Mnist | Npz, Field(discriminator="name")]
    model: Annotated[Cnn | KerasFile, Field(discriminator="name")]
    training: Training
    judges: Judges
    guides: Guides | None = None
    """None where no method of the sweep uses any: then none are trained."""

    @model_validator(mode="after")
    def _seeds_apart(self) -> Upstream:
        if self.guides and 0 <= self.judges.seed - self.guides.seed < len(self.guides.kinds):
            raise ValueError("judges.seed is a seed of a guide (guides.seed and the next); a judge needs another one")
        return self

    @property
    def trust(self) -> dict[str, Any]:
        """What may run when the classifier is read: arguments of `cfx.models.load`.

        It stands in params.yaml alone, and not beside the classifier: a file cannot vouch for itself.
        """
        return self.model.model_dump(include={"safe_mode", "module_sha256"})


class Variant(Upstream):
    """One of the classifiers that a sweep compares."""

    swept: dict[str, Any]
    """The values of the axes by which it differs from the others."""


class Params(Upstream):
    """All of params.yaml.

    search: the hyperparameters of a method but for those that are swept, with its name under `method`.
    sweep: the axes, each a hyperparameter and its values; the axis `search` holds whole searches instead.
    variants: the classifiers that are compared, where the sweep has axes over data, model or training; then one of
    them, when all are there the first, stands in the other sections too: what the stages bring up to date.
    """

    search: dict[str, Any]
    instances: Instances
    sweep: dict[str, list[Any]]
    variants: list[Variant] = []

    def with_variant(self, variant: Variant) -> Params:
        """The same with another variant in the sections that make a classifier and its companions."""
        return self.model_copy(update={name: getattr(variant, name) for name in Upstream.model_fields})

    def points(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """The points of the search's axes in order: the swept values, and the `search` section at that point.

        Methods that are swept need not have each axis: for one that has it not the value is None, and there is one
        point where the others have several.
        """
        earlier: list[dict[str, Any]] = []
        for values in itertools.product(*self.sweep.values()):
            swept = dict(zip(self.sweep, values, strict=True))
            section = swept.pop("search", None)
            if section is None:
                yield swept, {**self.search, **swept}
                continue
            chosen = {axis: value for axis, value in swept.items() if axis in searches.options(section)}
            point = {"method": searches.name(section), **dict.fromkeys(swept), **chosen}
            if len(chosen) < len(swept) and point in earlier:
                continue
            earlier.append(point)
            yield point, {**section, **chosen}


def check(raw: Mapping[str, Any]) -> Params:
    """Check a params.yaml that was read or composed. Raises InputError that names the first thing wrong."""
    params = validate(Params, raw)
    if twice := sorted(params.search if "search" in params.sweep else params.search.keys() & params.sweep.keys()):
        raise InputError(f"params.yaml: search.{twice[0]} has no effect, because it is swept; change `sweep` instead")
    if params.variants and params not in map(params.with_variant, params.variants):
        raise InputError(
            "params.yaml: its seed, data, model, training and judges do not match any of its variants; "
            "write the file with `python -m pipelines.run`"
        )
    points = [repr((searches.name(search), searches.method(search))) for _, search in params.points()]
    # where a file lies makes no other classifier
    upstream = [repr(variant.model_dump(exclude={"swept", "paths"})) for variant in params.variants]
    if len(set(points)) < len(points) or len(set(upstream)) < len(upstream):
        raise InputError("the sweep contains the same cell twice; remove the repeated value")
    return params


def validate(kind: type[S], raw: Any, place: str = "") -> S:
    """A section from what was read for it, at `place` in the whole. Raises InputError that names what is wrong."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        # a discriminated union puts the name of the chosen option into the location, another one its kind: list[...]
        is_chosen = len(first["loc"]) > 2 and first["loc"][0] in ("data", "model")
        parts = [
            str(part) for i, part in enumerate(first["loc"]) if not (is_chosen and i == 1) and "[" not in str(part)
        ]
        given = (
            f", not {first['input']!r}" if first["type"] not in ("missing", "extra_forbidden", "value_error") else ""
        )
        what = {"extra_forbidden": "no such option", "missing": "is missing"}.get(first["type"], first["msg"])
        what = what.removeprefix("Value error, ")
        where = ".".join([place, *parts] if place else parts)
        raise InputError(f"{where}: {what[0].lower() + what[1:]}{given}; see conf/") from error


def user_file(params: Upstream, name: str) -> tuple[Path, str]:
    """The user's file of a name in FILES and its SHA-256.

    Raises InputError where it cannot be read or is not the one whose digest was given.
    """
    option, digest = FILES[name]
    section, field = digest.split(".")
    path, wanted = getattr(params.paths, name), getattr(getattr(params, section), field)
    if path is None:
        raise InputError(f"{option}: is missing; give {option}=...")
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{option}: {path} cannot be read ({error.strerror}); give a readable file") from error
    if wanted not in (None, found):
        raise InputError(
            f"{option}: {path} has SHA-256 {found}, but {digest} is {wanted}; use the matching file, or change {digest}"
        )
    return path, found


def read() -> Params:
    """The params.yaml of the working folder. Raises InputError where it is missing or wrong."""
    try:
        return check(yaml.safe_load(PATH.read_text()))
    except FileNotFoundError:
        raise InputError(f"{PATH}: no such file; run the command in the root of the repository") from None
    except yaml.YAMLError as error:
        raise InputError(
            f"{PATH}: is not valid YAML ({str(error).splitlines()[0]}); write it with `python -m pipelines.run`"
        ) from error


def write(params: Params) -> None:
    """Write params.yaml, atomically and only where it changes."""
    text = "# Written by `python -m pipelines.run` from conf/: the parameters of the results, which DVC tracks.\n"
    text += yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=120)
    if not PATH.exists() or PATH.read_text() != text:
        with replacing(PATH) as temporary:
            temporary.write_text(text)
