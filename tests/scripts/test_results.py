"""What is committed under scripts/notebooks/: small, and every result can be traced and repeated."""

from pathlib import Path

import pytest
import yaml

import networks
from algos import TRAINERS
from algos.harness import cli, metrics
from algos.presets import PRESETS

NOTEBOOKS = Path(__file__).parents[2] / "scripts/notebooks"
RESULTS = NOTEBOOKS / "results"
CONFIGS = sorted(RESULTS.rglob("config.yaml"))
MAX_BYTES = 8_000_000


def test_notebooks_data_and_pictures_stay_under_8_mb():
    files = [path for path in NOTEBOOKS.rglob("*") if path.is_file() and "_checkpoints" not in str(path)]
    assert len(files) > 20
    assert sum(path.stat().st_size for path in files) < MAX_BYTES


def test_every_table_of_metrics_lies_beside_its_configuration():
    assert len(CONFIGS) > 10
    assert {path.parent for path in RESULTS.rglob("metrics.csv")} == {path.parent for path in CONFIGS}


def test_every_other_table_says_itself_where_it_comes_from():
    for path in RESULTS.rglob("*.csv"):
        if not list(path.parent.glob("*.yaml")):
            comments = [line for line in path.read_text().splitlines() if line.startswith("# ")]
            fields = [line[2:].partition(": ")[0] for line in comments]
            assert {"command", "commit", "seeds", "hardware"} <= set(fields), path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.parent.relative_to(RESULTS)))
def test_a_result_names_its_command_commit_seeds_and_hardware_and_can_be_repeated(path):
    text = path.read_text()
    header = dict(line[2:].split(": ", 1) for line in text.splitlines() if line.startswith("# "))
    assert header["command"].startswith("python algos/") and header["hardware"]
    assert len(header["commit"]) == 40
    stored = yaml.safe_load(text)
    rows = metrics.read(path.parent / "metrics.csv")
    seeds = range(stored["seed"], stored["seed"] + stored["num_seeds"])
    assert {row["seed"] for row in rows} == set(seeds)
    algo = stored["algo"]
    repeated = cli.parse(TRAINERS[algo].Config, PRESETS[algo], "", algo, ["--config", str(path)]).config
    # What has become an option since starts as it was then.
    core = networks.hyperparameters(stored["core"]["name"]) | stored["core"]
    assert repeated.env == stored["env"] and repeated.core == core
    assert repeated.total_timesteps == stored["total_timesteps"]
