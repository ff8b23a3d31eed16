"""A run that does not fit into memory is refused, with the estimate and the flags that lower it."""

import re

import jax
import jax.numpy as jnp
import pytest

from algos.harness import devices, footprint, loop
from tests.harness import stub


@pytest.fixture
def memory_of(monkeypatch):
    """Sets what the devices have free, in bytes, and counts what is compiled."""
    compiled = []
    original = jax.stages.Lowered.compile

    def counting(self, *args, **kwargs):
        compiled.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(jax.stages.Lowered, "compile", counting)

    def set_to(free):
        monkeypatch.setattr(footprint, "bytes_available", lambda mesh: free)
        return compiled

    return set_to


def test_what_cannot_fit_is_refused_before_anything_is_compiled(main, tmp_path, memory_of):
    compiled = memory_of(2**20)
    # Observations alone: 3000 x 1000 steps of 2 numbers.
    code, err = main("--num-envs", 3000, "--num-steps", 1000, "--run-dir", tmp_path / "run")
    line = err.splitlines()[-1]
    assert code == 2 and compiled == []
    assert re.search(r"num_envs=3000: an update needs at least 0\.0224 GiB of memory on each device, which has "
                     r"0\.000977 GiB free; lower it, or num_steps=1000$", line), line  # fmt: skip
    # The directory is free for a run that fits.
    memory_of(2**30)
    assert main("--run-dir", tmp_path / "run")[0] == 0


def test_what_does_not_fit_once_compiled_is_refused_before_it_runs(main, tmp_path, memory_of):
    memory_of(700)  # between the state of two seeds with its observations, and all of an update
    code, err = main("--num-seeds", 2, "--run-dir", tmp_path / "run")
    line = err.splitlines()[-1]
    assert code == 2 and not (tmp_path / "run" / "metrics.csv").exists(), err
    assert line.startswith("error: num_seeds=2: an update needs ") and "at least" not in line
    assert line.endswith("lower it, or num_envs=3 or num_steps=4")


@pytest.mark.parametrize("free, bound", [(1500, "at least "), (3000, "")])  # before and after it is compiled
def test_where_the_agent_is_what_is_large_its_sizes_are_named(main, tmp_path, memory_of, monkeypatch, free, bound):
    memory_of(free)
    monkeypatch.setattr(footprint, "bytes_needed", lambda program: 4000)  # of 1,600 for parameters
    code, err = main("--core.d-model", 200, "--run-dir", tmp_path / "made" / "run")
    line = err.splitlines()[-1]
    assert code == 2 and re.match(rf"error: core\.d_model=200: an update needs {bound}\d", line), err
    assert line.endswith("lower it, or core.eta=4 or core.n_layers=2"), line
    assert list(tmp_path.iterdir()) == []


def test_the_need_of_a_program_is_its_arguments_results_and_temporary_arrays():
    size = 4 * 1000 * 1000
    a = jax.ShapeDtypeStruct((1000, 1000), jnp.float32)
    kept = jax.jit(lambda a: jnp.sin(a @ a)).lower(a).compile()
    assert 2 * size <= footprint.bytes_needed(kept) <= 3 * size + 1000
    donated = jax.jit(lambda a: a + 1, donate_argnums=0).lower(a).compile()
    assert size <= footprint.bytes_needed(donated) <= size + 1000


def test_the_host_says_what_it_has_free():
    free = footprint.bytes_available(devices.seed_mesh(1))
    assert free is None or 2**20 < free < 2**50


def test_the_programs_of_a_run_take_over_the_state_and_give_numbers_only(stub_modules):
    """A metric is one number a seed and update: nothing of the length of a rollout leaves the program."""
    config = stub.Config(num_seeds=2, num_envs=64)
    trainer, mesh = stub.make_train(config), devices.seed_mesh(2)
    sharding = devices.seed_sharding(mesh)
    keys = devices.seed_keys(0, 2)
    abstract, abstract_keys = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        (jax.eval_shape(jax.vmap(trainer.init), keys), keys),
    )
    stats = loop.compile_programs(trainer, config, abstract, abstract_keys, mesh).update.memory_analysis()
    flags = 2  # bytes: whether each seed is whole, which is read while the next update runs
    assert stats.alias_size_in_bytes == stats.argument_size_in_bytes - flags
    assert stats.output_size_in_bytes - stats.alias_size_in_bytes < 200


def test_an_evaluation_that_does_not_fit_ends_the_run_when_that_is_known(main, tmp_path, memory_of, monkeypatch):
    memory_of(4000)
    # The update takes over its arguments, the evaluation does not.
    monkeypatch.setattr(
        footprint, "bytes_needed", lambda program: 3000 if program.memory_analysis().alias_size_in_bytes else 5000
    )
    code, err = main("--eval-episodes", 5, "--run-dir", tmp_path / "run")
    line = err.splitlines()[-1]
    assert code == 2 and line.startswith("error: eval_episodes=5: an evaluation needs "), err
