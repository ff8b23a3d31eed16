"""Environments of one seed, and seeds, on eight virtual devices: the results of one, by few collectives."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.algos.over_devices import CORES
from tests.marks import slow_if
from tests.processes import with_devices

# Their rollouts and minibatches are laid out as those of PPO for discrete actions.
SLOW = ("ppo_continuous", "pqn")
each_case = pytest.mark.parametrize("name", [pytest.param(name, marks=slow_if(name in SLOW)) for name in CORES])


class Results(dict):
    """What tests.algos.over_devices prints, by case; that of a slow case when a test asks for it."""

    def __missing__(self, name):
        self.update(run(name))
        return self[name]


@pytest.fixture(scope="module")
def results():
    return Results(run(*(name for name in CORES if name not in SLOW)))


def run(*names):
    done = subprocess.run(
        [sys.executable, "-m", "tests.algos.over_devices", *names],
        env=os.environ | with_devices(8), capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@each_case
def test_an_update_on_eight_devices_is_that_of_one(results, name):
    one, eight = results[name]["one"], results[name]["eight"]
    assert eight["spread"] == "P('seed', 'env')"
    for array in one["start"]:
        np.testing.assert_allclose(eight["start"][array], one["start"][array], rtol=1e-6, atol=1e-7, err_msg=array)
    for array in (array for array in one["start"] if array.startswith("params.") or array == "key"):
        np.testing.assert_array_equal(eight["start"][array], one["start"][array], err_msg=array)
    np.testing.assert_array_equal(eight["end"]["key"], one["end"]["key"])
    # The same draws: every environment is in the same episode, at the same step of it.
    for array in (
        "stream.env_state.env.time",
        "stream.env_state.episode_length",
        "stream.env_state.used",
        "stream.reset",
    ):
        np.testing.assert_array_equal(eight["end"][array], one["end"][array], err_msg=array)
    for array in one["end"]:
        rtol = 0 if array.startswith("params.") else 1e-4
        np.testing.assert_allclose(eight["end"][array], one["end"][array], rtol=rtol, atol=1e-5, err_msg=array)
    for metric in one["metrics"]:
        assert np.shape(one["metrics"][metric]) == (1,), "one number a seed: reduced inside the program"
        np.testing.assert_allclose(eight["metrics"][metric], one["metrics"][metric], rtol=1e-3, atol=1e-5)


@each_case
def test_the_collectives_over_environments_are_few(results, name):
    assert results[name]["one"]["collectives"] == []
    found = results[name]["eight"]["collectives"]
    assert {each["kind"] for each in found} == {"all-reduce", "all-gather"}
    assert all(each["groups"] == [list(range(8))] for each in found)
    start = results[name]["one"]["start"]
    params = sum(np.size(values) for array, values in start.items() if array.startswith("params."))
    gradients = [each for each in found if each["kind"] == "all-reduce" and each["elements"] >= params]
    assert len(gradients) == 1  # all parameters at once, once a gradient step
    assert gradients[0]["loops"] == (0 if name.startswith("a2c") else 1)
    # In a step of the environments, only which of them end: at most a number each.
    in_rollout = [each for each in found if each["loops"] == (1 if name.startswith("a2c") else 2)]
    assert 1 <= len(in_rollout) <= 3 and all(each["elements"] <= 8 for each in in_rollout)


def test_nothing_is_communicated_between_seeds(results):
    assert results["seeds on eight"]["collectives"] == []
    both = results["two seeds on four each"]["collectives"]
    assert both and all(each["groups"] == [[0, 1, 2, 3], [4, 5, 6, 7]] for each in both)


def test_seeds_on_several_devices_are_the_seed_on_one(results):
    one = results["a2c_discrete"]["one"]["end"]
    for layout in ("seeds on eight", "two seeds on four each"):
        for array, values in results[layout]["end"].items():
            message = f"{layout}, {array}"
            np.testing.assert_allclose(values[0], one[array][0], rtol=1e-4, atol=1e-5, err_msg=message)


@each_case
def test_the_update_takes_over_the_buffers_of_its_state(results, name):
    """All but what no result can take: the start states and the count of those used, which are made anew."""
    for place in ("one", "eight"):
        assert results[name][place]["aliased"] > 0.9 * results[name][place]["arguments"]
