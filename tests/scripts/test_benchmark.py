"""The part of the benchmark that other parts of the project quote."""

import pytest

from algos import a2c_arelit
from scripts import benchmark
from tests.algos.toy import Toy, environment_is
from tests.algos.trainers import small_config


def test_scaling_reports_rate_and_memory_of_every_number_of_seeds():
    with environment_is(Toy(num_actions=3)):
        config = small_config(a2c_arelit)
        results = benchmark.seeds_together(config, a2c_arelit.make_train(config), (1, 2))
    one, two = results["seeds=1"], results["seeds=2"]
    assert one["times one seed"] == one["efficiency"] == 1
    assert two["times one seed"] == pytest.approx(two["env_steps_per_second"] / one["env_steps_per_second"])
    assert two["efficiency"] == two["times one seed"] / 2
    # The state and the rollout of two seeds, against those of one.
    assert 1.5 * one["update_memory_mb"] < two["update_memory_mb"] < 3 * one["update_memory_mb"]
