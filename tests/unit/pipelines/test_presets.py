"""conf/hydra/launcher: what each engine is asked for."""

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pipelines.config import CONF
from pipelines.launching.fan_out import use_presets

PRESETS = sorted((CONF / "hydra/launcher").glob("*.yaml"))


def composed(preset: str, *overrides: str) -> tuple[dict, dict]:
    """The launcher's settings and what a job has in its environment."""
    use_presets()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"hydra/launcher={preset}", *overrides], return_hydra_config=True)
        settings, environment = config.hydra.launcher, config.hydra.job.env_set
        return OmegaConf.to_container(settings, resolve=True), OmegaConf.to_container(environment, resolve=True)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_all_that_its_launcher_is_given(path):
    """Whether the plugin is installed or not, which registers settings of its own under the same name."""
    settings, _ = composed(path.stem)
    assert settings.keys() == yaml.safe_load(path.read_text())["hydra"]["launcher"].keys()


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_option_of_a_preset_is_explained_beside_its_value(path):
    lines = [line for line in path.read_text().splitlines() if ":" in line and not line.startswith("#")]
    unexplained = [line.strip() for line in lines if "#" not in line and not line.endswith(":")]
    assert [line for line in unexplained if not line.startswith("_target_")] == []


def test_a_job_is_given_the_gpus_that_it_is_to_compute_on():
    assert composed("ray", "launch.gpus=0.5")[0]["ray"]["remote"]["num_gpus"] == 0.5
    assert composed("slurm", "launch.gpus=2")[0]["gpus_per_node"] == 2


def test_jobs_that_share_a_machine_do_not_compute_on_more_cores_than_they_were_given():
    assert composed("joblib")[1]["TF_NUM_INTRAOP_THREADS"] == "1"
    assert composed("ray", "hydra.launcher.ray.remote.num_cpus=4")[1]["TF_NUM_INTRAOP_THREADS"] == "4"
    assert composed("slurm", "hydra.launcher.cpus_per_task=8")[1]["TF_NUM_INTRAOP_THREADS"] == "8"
