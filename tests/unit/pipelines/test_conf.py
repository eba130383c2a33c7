"""conf/ against the code: the same defaults, nothing unexplained, and sweeps that compose."""

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from cfx import methods
from pipelines.config.axes import UPSTREAM

CONF = Path(__file__).parents[3] / "conf"
FILES = sorted(CONF.rglob("*.yaml"))


@pytest.mark.parametrize("name", methods.names())
def test_the_library_and_the_configuration_have_the_same_defaults(name):
    configured = yaml.safe_load((CONF / "search" / f"{name}.yaml").read_text())
    assert configured.pop("method") == name
    defaults = asdict(methods.get(name)())
    assert {key: defaults[key] for key in configured} == configured | {
        "feature_range": tuple(configured["feature_range"])
    }
    assert set(configured) == set(defaults)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_a_config_file_says_what_it_is_for_and_the_command_that_uses_it(path):
    comments = [line for line in path.read_text().splitlines()[:4] if line.startswith("#")]
    assert any("python -m pipelines.run" in line for line in comments)


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.parent.name in ("data", "model", "search")], ids=lambda p: p.stem
)
def test_every_option_is_explained_beside_its_value(path):
    lines = [line for line in path.read_text().splitlines() if ":" in line and not line.startswith("#")]
    unexplained = [line for line in lines if "#" not in line and not line.endswith(":")]
    assert [line.split(":")[0].strip() for line in unexplained] in ([], ["name"], ["method"])


@pytest.mark.parametrize("path", sorted(CONF.glob("data/*.yaml")), ids=lambda path: path.stem)
def test_no_default_of_another_file_replaces_what_a_data_set_sets(path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"data={path.stem}"])
    sections = yaml.safe_load(path.read_text())
    sections.pop("data")
    sections.pop("defaults", None)
    for section, values in sections.items():
        assert {key: config[section][key] for key in values} == values


@pytest.mark.parametrize("group", ["sweep", "experiment"])
def test_every_sweep_and_experiment_composes(group):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for path in sorted((CONF / group).glob("*.yaml")):
            config = compose("config", [f"+{group}={path.stem}"], return_hydra_config=True)
            assert all(key.split(".")[0] in ("search", *UPSTREAM) for key in config.hydra.sweeper.params)
