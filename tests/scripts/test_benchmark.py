"""The part of the benchmark that other parts of the project quote."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import networks
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


def test_every_core_is_timed_at_about_one_size():
    timed = {settings["name"] for settings in benchmark.PAPER_SIZES.values()} | benchmark.EQUAL_WIDTHS.keys()
    assert timed == networks.CORES.keys()
    arguments = jnp.zeros((1, 1, benchmark.INPUT_WIDTH)), jnp.zeros((1, 1), bool)
    for name, width in benchmark.EQUAL_WIDTHS.items():
        core = networks.make_core(name, d_model=width)
        params = jax.eval_shape(core.init, jax.random.key(0), core.initialize_carry((1,)), *arguments)
        assert 1.4e6 <= sum(leaf.size for leaf in jax.tree.leaves(params)) <= 1.6e6, name


def test_policies_are_timed_from_their_files_and_hold_the_core_they_are_named_after(monkeypatch):
    sizes = {"gru": {"name": "gru", "n_layers": 1, "d_model": 8}, "none": {"name": "feedforward", "d_model": 8}}
    monkeypatch.setattr(benchmark, "PAPER_SIZES", sizes)
    seen = []

    def latency(path, batch):
        start, _, description = benchmark.export.load(path)
        seen.append((description["core"]["name"], batch))
        assert [leaf.shape for leaf in jax.tree.leaves(start(np.ones(batch, bool)))] == (
            [(batch, 8)] if description["core"]["name"] == "gru" else []
        )
        return batch / 1000

    monkeypatch.setattr(benchmark.export, "latency", latency)
    results = benchmark.exported()
    assert seen == [(core, batch) for core in ("gru", "feedforward") for batch in (1, 16, 256)]
    assert results["gru"]["call_ms"] == {"B=1": 1, "B=16": 16, "B=256": 256}
    assert results["gru"]["file_kb"] > results["none"]["file_kb"] > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("nothing", "PART='nothing': allowed: trainer"),
        ("trainer --algo a3c", "algo='a3c': allowed: a2c_arelit"),
        ("trainer --algo=", "algo='': allowed: a2c_arelit"),
        ("trainer --preset tmaze-arelit", "preset='tmaze-arelit': allowed with algo=ppo_arelit_continuous"),
        ("scaling --algo a2c_arelit --preset hopper", "preset='hopper': allowed with algo=a2c_arelit"),
        ("trainer scaling --preset hopper", "preset='hopper': the part scaling takes it with --algo only"),
        ("cores --algo a2c_arelit", "algo='a2c_arelit': of the part scaling or trainer only"),
        ("trainer --seeds 4", "seeds=[4]: of the part scaling only"),
        ("scaling --seeds 1 0", "seeds=0: must be at least 1"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_measured(monkeypatch, capsys, flags, message):
    monkeypatch.setattr(benchmark, "machine", lambda: pytest.fail("measured"))
    monkeypatch.setattr(sys, "argv", ["scripts/benchmark.py", *flags.split()])
    with pytest.raises(SystemExit) as stopped:
        benchmark.main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith(f"error: {message}") and error.count("\n") == 1


def test_scaling_is_of_the_trainer_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(
        benchmark, "seeds_together", lambda config, built, counts: (config.env["corridor_len"], counts)
    )
    assert benchmark.scaling("a2c_arelit", "tmaze-arelit", [1, 2]) == {"a2c_arelit": (160, [1, 2])}
