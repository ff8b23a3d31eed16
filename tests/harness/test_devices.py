import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos.harness import BadInput, devices
from tests.harness import stub
from tests.harness.conftest import final_arrays, rows_without_clock, start
from tests.processes import with_devices


def run(path, *flags, device_count):
    process = start("--run-dir", path, *flags, **with_devices(device_count))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return err


def test_seeds_on_two_devices_are_those_on_one(tmp_path):
    config = stub.Config(num_seeds=4)
    one = run(tmp_path / "one", "--num-seeds", 4, device_count=1)
    two = run(tmp_path / "two", "--num-seeds", 4, device_count=2)
    assert "4 seed(s) on 1 of 1" in one and "4 seed(s) on 2 of 2" in two
    expected, got = final_arrays(tmp_path / "one", config), final_arrays(tmp_path / "two", config)
    np.testing.assert_array_equal(got["key"], expected["key"])
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    rows, others = rows_without_clock(tmp_path / "one"), rows_without_clock(tmp_path / "two")
    assert [(row["seed"], row["update"]) for row in rows] == [(row["seed"], row["update"]) for row in others]


def test_a_run_on_two_devices_goes_on_on_one(tmp_path):
    """The states in between are those of one device, but for rounding."""
    config = stub.Config(num_seeds=2)
    run(tmp_path / "one", "--num-seeds", 2, device_count=1)
    process = start(
        *("--num-seeds", 2, "--run-dir", tmp_path / "moved"),
        **with_devices(2),
        STUB_FAULT="kill checkpoint to_arrays 6",
    )
    assert process.wait(300) == -9
    process = start("--resume", tmp_path / "moved")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "resuming after update 12" in err, err
    expected, got = final_arrays(tmp_path / "one", config), final_arrays(tmp_path / "moved", config)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_seed_count_that_does_not_divide_runs_on_fewer_devices_and_says_so(tmp_path):
    err = run(tmp_path / "run", "--num-seeds", 3, device_count=2)
    assert "3 seed(s) on 1 of 2 local device(s)" in err and "num_seeds=3 and num_envs=3 do not divide" in err


def test_the_mesh_takes_the_largest_number_of_devices_that_divides():
    code = """
import jax
from algos.harness import devices
print([devices.seed_mesh(seeds).size for seeds in (1, 2, 3, 4, 5, 6, 7, 8, 12)])
print([devices.seed_mesh(*sizes).devices.shape for sizes in ((1, 8), (2, 8), (3, 8), (1, 6), (4, 8), (1, 5))])
"""
    environment = os.environ | with_devices(4)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seeds_alone, with_environments = done.stdout.splitlines()
    assert seeds_alone == "[1, 2, 3, 4, 1, 3, 1, 4, 4]"
    assert with_environments == "[(1, 4), (2, 2), (3, 1), (1, 3), (4, 1), (1, 1)]"


def test_what_does_not_divide_over_processes_is_bad_input(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(BadInput, match="num_envs=3: num_seeds=1 x num_envs must be a multiple of the 2 processes"):
        devices.seed_mesh(1, 3)


@pytest.mark.parametrize("seeds", [1, 3])
def test_over_seeds_keeps_the_axis_and_gives_each_seed_its_own_result(seeds):
    mesh = devices.seed_mesh(seeds)
    keys = devices.seed_keys(5, seeds)

    def draw(key, x):
        return {"x": jax.random.normal(key, (2,)) + x, "key": key, "plain": jnp.int32(3)}

    x = jnp.arange(2.0 * seeds).reshape(seeds, 2)
    got = jax.jit(devices.over_seeds(draw, mesh))(keys, x)
    assert got["plain"].shape == (seeds,)
    for k in range(seeds):
        np.testing.assert_array_equal(got["x"][k], draw(jax.random.key(5 + k), x[k])["x"])
        assert got["key"][k] == jax.random.key(5 + k)


def test_keys_of_many_seeds_are_those_of_each_alone_and_made_by_one_program():
    """One by one, a job of thousands of seeds would take minutes to be refused for lack of memory."""
    last = 2**31 - 1
    keys = devices.seed_keys(last - 2**17, 2**17 + 1)
    for k in (0, 1, 2**16, 2**17):
        assert keys[k] == jax.random.key(last - 2**17 + k)
    assert len(jax.make_jaxpr(lambda: devices.seed_keys(0, 1000))().eqns) < 100


def test_one_seed_on_a_device_keeps_its_branches():
    """Under vmap a cond becomes a select that runs both."""

    def branch(key, x):
        return jax.lax.cond(x > 0, lambda: jnp.sin(x), lambda: jnp.cos(x))

    program = devices.over_seeds(branch, devices.seed_mesh(1))
    jaxpr = str(jax.make_jaxpr(program)(devices.seed_keys(0, 1), jnp.ones(1)))
    assert "cond[" in jaxpr
