"""params.yaml: the scientific part of the configuration, checked. What a stage reads and what DVC compares.

The driver writes it from the Hydra configuration; the stages know nothing of Hydra. It holds what decides a result
(data, model, training, judges, search, instances, sweep, seed) and nothing of where or how it is computed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

from cfx import data
from cfx.data import FEATURE_RANGE
from cfx.errors import InputError
from cfx.files import replacing
from cfx.methods import Method, PrimalDual, Wachter
from pipelines.cells import paths, provenance
from pipelines.cells.paths import Trained

PATH = Path("params.yaml")
# The options that name the user's files, by their place in `Paths`, each with the one that insists on a digest.
FILES = {
    "data": ("data.path", "data.sha256"),
    "model": ("model.path", "model.sha256"),
    "module": ("model.module", "model.module_sha256"),
}
# What a search's whole numbers may be at most: the steps of a row and the lambdas of its evolution are held in memory.
MOST = {"max_iter": 100_000, "max_lam_steps": 1_000, "early_stop": 100_000}
METHODS: dict[str, type[Method]] = {kind.name: kind for kind in (PrimalDual, Wachter)}


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


class Judges(Section):
    """How the judges of the counterfactuals are trained."""

    seed: Int = Field(ge=0, lt=2**32)
    steps: Int = Field(ge=1)


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
            raise ValueError(f"range must be [first, one past the last], 0 <= first < last, not {list(self.range)}")
        if self.classes != "all" and (not self.classes or len(set(self.classes)) < len(self.classes)):
            raise ValueError(f"classes must be `all` or a list of different classes, not {self.classes}")
        if self.index is not None and (not self.index or len(set(self.index)) < len(self.index)):
            raise ValueError(f"index must be a list of different places in the test split, not {self.index}")
        return self


class Upstream(Section):
    """What a classifier comes from: its data, its training, and the judges of its counterfactuals."""

    seed: Int = Field(ge=0, lt=2**32)
    paths: Paths
    data: Annotated[Mnist5k | Mnist | Npz, Field(discriminator="name")]
    model: Annotated[Cnn | KerasFile, Field(discriminator="name")]
    training: Training
    judges: Judges


class Variant(Upstream):
    """One of the classifiers that a sweep compares."""

    swept: dict[str, Any]
    """The values of the axes by which it differs from the others."""

    @property
    def trained(self) -> Trained:
        """Where it is kept: by what it is made from and by which code, not by where the user's files lie."""
        asked = self.model_dump(mode="json", exclude={"swept", "paths"})
        code = provenance.code("prepare", "train", "judges")
        key = hashlib.sha256(json.dumps([asked, code], sort_keys=True).encode()).hexdigest()[:16]
        return Trained(paths.MODELS / key)


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

    def trust(self, trained: Trained) -> dict[str, Any]:
        """What may run when the classifier that is kept there is read: arguments of `cfx.models.load`.

        This stands in params.yaml alone, and not beside the classifier: a file cannot vouch for itself.
        """
        model = next((variant.model for variant in self.variants if variant.trained == trained), self.model)
        return model.model_dump(include={"safe_mode", "module_sha256"})

    def of(self, variant: Variant) -> Params:
        """The same with another variant in the sections that the stages `prepare`, `train` and `judges` read."""
        return self.model_copy(update={name: getattr(variant, name) for name in Upstream.model_fields})

    def points(self) -> Iterator[tuple[dict[str, Any], Method]]:
        """The points of the search's axes in order: the swept values and the method with all of its hyperparameters."""
        for values in itertools.product(*self.sweep.values()):
            swept = dict(zip(self.sweep, values, strict=True))
            search = swept.pop("search", self.search) | swept
            yield {"method": search["method"]} | swept if "search" in self.sweep else swept, method(search)


def method(search: Mapping[str, Any]) -> Method:
    """The method that a `search` section describes. Raises InputError for an unknown name or hyperparameter."""
    hyperparameters = dict(search)
    name = hyperparameters.pop("method", None)
    if not isinstance(name, str) or name not in METHODS:
        raise InputError(f"search.method: unknown method {name!r}; use one of {', '.join(METHODS)}")
    for axis in ("target_class", "lam_init", "learning_rate"):
        if isinstance(hyperparameters.get(axis), list | tuple):
            raise InputError(f"search.{axis}: a cell has one value, not {hyperparameters[axis]}; sweep it as a,b,c")
    for count, most in MOST.items():
        value = hyperparameters.get(count)
        if isinstance(value, int) and value > most:
            raise InputError(f"search.{count}: must be from 1 to {most:,}, not {value}")
    try:
        chosen = METHODS[name](**hyperparameters)
    except TypeError as error:
        reason = str(error).split("() ")[-1]
        raise InputError(f"search: method {name} {reason}; see conf/search/{name}.yaml") from error
    except InputError as error:
        raise InputError(f"search.{error}") from error
    low, high = (np.asarray(bound) for bound in chosen.feature_range)
    if low.ndim or high.ndim or low > FEATURE_RANGE[0] or high < FEATURE_RANGE[1]:
        least = f"[{FEATURE_RANGE[0]}, {FEATURE_RANGE[1]}]"
        raise InputError(f"search.feature_range: must hold the data's range, {least}: give two such numbers")
    return chosen


def from_config(
    config: Mapping[str, Any],
    axes: Mapping[str, list[Any]],
    variants: Iterable[tuple[dict[str, Any], Mapping[str, Any]]] = (),
) -> Params:
    """The parameters of a resolved configuration and of the sweep over it.

    axes: those of the search, with their values. variants: the values of the other axes, and the configuration with
    these. Raises InputError as `check` and `user_file` do.
    """
    compared = [_upstream(other) | {"swept": swept} for swept, other in variants]
    first = {name: compared[0][name] for name in Upstream.model_fields} if compared else _upstream(config)
    others = {key: value for key, value in config.items() if key not in first}
    search = config.get("search")
    if isinstance(search, Mapping):
        others["search"] = {} if "search" in axes else {key: search[key] for key in search if key not in axes}
    return check(_with_numbers(others | first | {"sweep": dict(axes), "variants": compared}))


def _with_numbers(asked: dict[str, Any]) -> dict[str, Any]:
    """The same with numbers for target classes that are given by name, as may be where the user's data has names."""

    def number(target: Any) -> Any:
        if not isinstance(target, str) or target in ("other", "same") or target.isdecimal():
            return target
        every = asked["variants"] or [asked]
        known = {data.class_names(one["paths"]["data"]) if one["data"]["name"] == "npz" else () for one in every}
        names = known.pop()
        if known or not names:
            return target
        if target not in names:
            raise InputError(f"search.target_class: {target!r} is none of the data's classes: {', '.join(names)}")
        return names.index(target)

    def numbered(search: Any) -> Any:
        if not isinstance(search, Mapping) or "target_class" not in search:
            return search
        return {**search, "target_class": number(search["target_class"])}

    axes = {"target_class": number, "search": numbered}
    sweep = {axis: [axes.get(axis, lambda value: value)(v) for v in values] for axis, values in asked["sweep"].items()}
    return asked | {"search": numbered(asked.get("search")), "sweep": sweep}


def _upstream(config: Mapping[str, Any]) -> dict[str, Any]:
    """The upstream sections of a configuration, with the digests of the user's files, so that DVC sees a change."""
    raw: dict[str, Any] = {name: config.get(name) for name in Upstream.model_fields}
    raw["paths"] = {}
    for name in ("data", "model"):
        if not isinstance(raw[name], Mapping):
            raise InputError(f"{name}: is missing; choose it with {name}=...")
        raw[name] = dict(raw[name])
    for name, (option, _) in FILES.items():
        section, field = option.split(".")
        raw["paths"][name] = raw[section].pop(field, None)
    chosen = checked(Upstream, raw)
    for name, (_, digest) in FILES.items():
        section, field = digest.split(".")
        values = getattr(chosen, section)
        is_asked = name != "module" or chosen.paths.module is not None
        if field in type(values).model_fields and is_asked:
            found = user_file(chosen, name)[1]
            chosen = chosen.model_copy(update={section: values.model_copy(update={field: found})})
    return chosen.model_dump()


def check(raw: Mapping[str, Any]) -> Params:
    """Check a params.yaml that was read or composed. Raises InputError that names the first thing wrong."""
    params = checked(Params, raw)
    if twice := sorted(params.search if "search" in params.sweep else params.search.keys() & params.sweep.keys()):
        raise InputError(f"params.yaml: search.{twice[0]} has no effect, for it is swept; change `sweep`")
    if params.variants and params not in map(params.of, params.variants):
        raise InputError("params.yaml: its data, model or training is none of its variants; change them by a run")
    asked = [(chosen.name, repr(chosen)) for _, chosen in params.points()]
    kept = [variant.trained for variant in params.variants]
    if len(set(asked)) < len(asked) or len(set(kept)) < len(kept):
        raise InputError("the sweep names the same cell twice; remove the repeated value")
    return params


def checked(kind: type[S], raw: Any, place: str = "") -> S:
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
        raise InputError(f"{option}: {path} cannot be read ({error.strerror}); give a file") from error
    if wanted not in (None, found):
        raise InputError(f"{option}: {path} has the SHA-256 {found}, not the {wanted} of {digest}")
    return path, found


def read() -> Params:
    """The params.yaml of the working folder. Raises InputError where it is missing or wrong."""
    try:
        return check(yaml.safe_load(PATH.read_text()))
    except FileNotFoundError:
        raise InputError(f"{PATH}: no such file here; work in the repository's root") from None
    except yaml.YAMLError as error:
        raise InputError(f"{PATH}: is not YAML ({str(error).splitlines()[0]})") from error


def write(params: Params) -> None:
    """Write params.yaml, atomically and only where it changes."""
    text = "# Written by `python -m pipelines.run` from conf/: what decides the results. DVC compares it.\n"
    text += yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=120)
    if not PATH.exists() or PATH.read_text() != text:
        with replacing(PATH) as temporary:
            temporary.write_text(text)
