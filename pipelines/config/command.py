"""The command that asks for given parameters: what a reader types to make the same sweep again.

It names each group's option and whatever differs from conf/, which is read as plain YAML: a stage knows no Hydra.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.config import CONF
from pipelines.config.schema import FILES

_UPSTREAM = ("seed", "data", "model", "training", "judges", "guides")
# What an option of a group is called by.
_NAMES = ("data.name", "model.name", "search.method")


def command_line(asked: Mapping[str, Any], conf: Path | None = CONF) -> str | None:
    """The command line, as it can be pasted; None where none says it, as may be for a params.yaml written by hand.

    A file of the user's is given by its name and its digest: where it lies is this machine's affair.
    asked: `Params` as JSON, maybe of a commit whose options are others than today's. conf: the folder with the defaults
    that stand where the command is typed; None, where they are not known, names every parameter.
    """
    variants = asked["variants"] or [{**asked, "swept": {}}]
    sweep = dict(asked["sweep"])
    searches = sweep.pop("search", [asked["search"]])
    groups = {name: list(dict.fromkeys(variant[name]["name"] for variant in variants)) for name in ("data", "model")}
    groups["search"] = [search["method"] for search in searches]
    axes = {key: _unique(variant["swept"][key] for variant in variants) for key in variants[0]["swept"]}
    axes |= {f"search.{key}": values for key, values in sweep.items()}
    files = dict(FILES.values())
    said = {*_NAMES, *axes, *(files[key] for key in axes if key in files)}

    own: dict[str, Any] = {}
    upstream = [
        # without guides where no method uses them, as in a record of a time that had none
        ({key: variant[key] for key in _UPSTREAM if variant.get(key) is not None}, _defaults(variant, conf))
        for variant in variants
    ]
    search = [({"search": search}, {"search": _read(f"search/{search['method']}", conf)}) for search in searches]
    instances = [({"instances": asked["instances"]}, _read("config", conf))]
    for alternatives in (upstream, instances, search):
        # an option of the search is of those methods that have it, any other of all variants
        shared = _shared(alternatives, said, may_lack=alternatives is search)
        if shared is None:
            return None
        own |= shared
    if len(set(groups["search"])) < len(searches):
        return None
    if groups["model"] == ["keras"]:
        # it is trained already, and to say how would be refused
        own = {key: value for key, value in own.items() if not key.startswith("training.")}
    given = {FILES[name]: path for name, path in variants[0]["paths"].items() if path}
    paths = {option: path for (option, digest), path in given.items() if digest in flatten(asked)}
    options = {key: [value] for key, value in (paths | own).items()} | axes
    written = [f"{name}={','.join(chosen)}" for name, chosen in groups.items()]
    for key, values in options.items():
        if key not in groups:
            if key in files or key == "search.module":
                names = [Path(value).name for value in values]
                # of files with one name in several folders the folders tell which is which
                values = names if len(set(names)) == len(names) else values
            written.append(f"{key}={','.join(map(_quoted, values))}")
    is_sweep = any(len(values) > 1 for values in (*groups.values(), *options.values()))
    return shlex.join(["python", "-m", "pipelines.run", *(["-m"] if is_sweep else []), *written])


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """All values of a tree of parameters on one level, each by the name of its option: `training.epochs` and so on."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


def _shared(
    alternatives: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], said: set[str], may_lack: bool
) -> dict[str, Any] | None:
    """What of any alternative, (asked, usual), differs from the usual, but for `said`; None unless all agree on it.

    may_lack: whether one that does not have it agrees.
    """
    own: dict[str, Any] = {}
    every = [(flatten(asked), flatten(usual)) for asked, usual in alternatives]
    for asked, usual in every:
        differing = (key for key, value in asked.items() if key not in usual or usual[key] != value)
        own |= {key: asked[key] for key in differing if key not in said}
    agreed = all(
        asked.get(key, value if may_lack else None) == value for asked, _ in every for key, value in own.items()
    )
    return own if agreed else None


def _defaults(variant: Mapping[str, Any], conf: Path | None) -> dict[str, Any]:
    """What conf/ has for the data and the model of a variant."""
    data = _read(f"data/{variant['data']['name']}", conf)
    config = _read("config", conf)
    training = data.get("training", {}) | config.get("training", {})
    return config | data | {"model": _read(f"model/{variant['model']['name']}", conf), "training": training}


def _read(name: str, conf: Path | None) -> dict[str, Any]:
    """A file of conf/; empty where there is none."""
    path = None if conf is None else conf / f"{name}.yaml"
    return yaml.safe_load(path.read_text()) if path is not None and path.is_file() else {}


def _unique(values: Iterator[Any]) -> list[Any]:
    """Values without repetition, in the order in which they came; they may be lists."""
    return list({repr(value): value for value in values}.values())


def _quoted(value: Any) -> str:
    """A value in Hydra's grammar of overrides."""
    if isinstance(value, list):
        return f"[{','.join(map(_quoted, value))}]"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    text = str(value)
    if isinstance(value, str) and not re.fullmatch(r"[\w.+-]+", text, re.ASCII):
        return "'" + text.replace("'", r"\'") + "'"
    return text
