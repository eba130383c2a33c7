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

from pipelines.params import FILES, Params

CONF = Path(__file__).parent.parent / "conf"
_UPSTREAM = ("seed", "data", "model", "training", "judges")


def command(params: Params) -> str | None:
    """The command line, as it can be pasted; None where none says it, as may be for a params.yaml written by hand.

    A file of the user's is given by its name and its digest: where it lies is this machine's affair.
    """
    asked = params.model_dump(mode="json")
    variants = asked["variants"] or [asked | {"swept": {}}]
    searches = asked["sweep"].pop("search", [asked["search"]])
    groups = {name: list(dict.fromkeys(variant[name]["name"] for variant in variants)) for name in ("data", "model")}
    groups["search"] = [search["method"] for search in searches]
    axes = {key: _different(variant["swept"][key] for variant in variants) for key in variants[0]["swept"]}
    axes |= {f"search.{key}": values for key, values in asked["sweep"].items()}
    files = dict(FILES.values())
    swept = {*axes, *(files[key] for key in axes if key in files)}

    own: dict[str, Any] = {}
    upstream = [({key: variant[key] for key in _UPSTREAM}, _usual(variant)) for variant in variants]
    search = [({"search": search}, {"search": _read(f"search/{search['method']}")}) for search in searches]
    instances = [({"instances": asked["instances"]}, _read("config"))]
    for alternatives in (upstream, instances, search):
        shared = _shared(alternatives, swept)
        if shared is None:
            return None
        own |= shared
    if len(set(groups["search"])) < len(searches):
        return None
    given = {FILES[name]: path for name, path in variants[0]["paths"].items() if path}
    paths = {option: path for (option, digest), path in given.items() if digest in dict(_leaves(asked))}
    options = {key: [value] for key, value in (paths | own).items()} | axes
    written = [f"{name}={','.join(chosen)}" for name, chosen in groups.items()]
    for key, values in options.items():
        if key not in groups:
            names = [Path(value).name for value in values] if key in files else values
            written.append(f"{key}={','.join(map(_written, names))}")
    is_sweep = any(len(values) > 1 for values in (*groups.values(), *options.values()))
    return shlex.join(["python", "-m", "pipelines.run", *(["-m"] if is_sweep else []), *written])


def _shared(
    alternatives: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], swept: set[str]
) -> dict[str, Any] | None:
    """What differs from the usual in any alternative, (asked, usual); None unless it is the same in all of them."""
    own: dict[str, Any] = {}
    every = [(dict(_leaves(asked)), dict(_leaves(usual))) for asked, usual in alternatives]
    for asked, usual in every:
        own |= {key: value for key, value in asked.items() if key not in swept and usual.get(key) != value}
    return own if all(asked.get(key) == value for asked, _ in every for key, value in own.items()) else None


def _usual(variant: Mapping[str, Any]) -> dict[str, Any]:
    """What conf/ has for the data and the model of a variant."""
    usual = _read(f"data/{variant['data']['name']}") | {"model": _read(f"model/{variant['model']['name']}")}
    config = _read("config")
    return config | usual | {"training": usual.get("training", {}) | config["training"]}


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / f"{name}.yaml").read_text())


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _different(values: Iterator[Any]) -> list[Any]:
    """Values without repetition, in the order in which they came; they may be lists."""
    return list({repr(value): value for value in values}.values())


def _written(value: Any) -> str:
    """A value in Hydra's grammar of overrides."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    text = str(value)
    if isinstance(value, str) and not re.fullmatch(r"[\w.+-]+", text, re.ASCII):
        return "'" + text.replace("'", r"\'") + "'"
    return text
