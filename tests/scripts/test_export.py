import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from algos import ppo_arelit, ppo_arelit_continuous
from algos.harness import LoadedRun, load_run
from scripts import export
from tests.algos.toy import ImageToy, Toy, environment_is
from tests.algos.trainers import small_config, small_core
from tests.marks import around_every_core

AGENT = Path(__file__).parents[2] / "scripts/notebooks/results/TMaze-v2-20/agent"
STEPS = 6

# What a user writes who has only the file and jax.
LOADER = """
import sys, zipfile
import jax, jax.export, numpy as np

archive = zipfile.ZipFile("policy.zip")
start, act = (jax.export.deserialize(bytearray(archive.read(name))).call for name in ("start", "act"))
for batch in (1, 5):
    inputs = dict(np.load(f"inputs{batch}.npz"))
    carry, actions = start(np.ones(batch, bool)), []
    for t in range(len(inputs["obs"])):
        key = [inputs["key"][t]] if "key" in inputs else []
        carry, action = act(carry, inputs["obs"][t], inputs["reset"][t], *key)
        actions.append(action)
    np.savez(f"outputs{batch}.npz", *carry, actions=np.stack(actions))
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"algos", "networks", "envs", "scripts", "flax", "gymnax"}
"""


def rollout_inputs(obs_shape, batch, dtype=np.float32):
    """(observations, resets, key data) of STEPS steps, with an episode that ends inside."""
    rng = np.random.default_rng(batch)
    obs = rng.integers(0, 255, (STEPS, batch, *obs_shape)) if dtype == np.uint8 else rng.normal(
        size=(STEPS, batch, *obs_shape)
    )  # fmt: skip
    reset = np.zeros((STEPS, batch), bool)
    reset[0], reset[3, 0] = True, True
    return obs.astype(dtype), reset, rng.integers(0, 2**32, (STEPS, 2), np.uint32)


def expected(trainer, state, obs, reset, keys, deterministic):
    """(last carry's leaves, actions [T, B, ...]) of the trainer's own act."""
    step = jax.jit(lambda *args: trainer.act(state, *args, deterministic))
    carry, actions = trainer.initial_carry(obs.shape[1]), []
    for x in zip(obs, reset, keys, strict=True):
        carry, action, _ = step(carry, *x[:2], jax.random.wrap_key_data(jnp.asarray(x[2])))
        actions.append(action)
    return jax.tree.leaves(carry), np.stack(actions)


def assert_same(got_carry, got_actions, carry, actions):
    np.testing.assert_allclose(got_actions, actions, rtol=1e-5, atol=1e-6)
    assert len(got_carry) == len(carry)
    for got, leaf in zip(got_carry, carry, strict=True):
        assert got.dtype == leaf.dtype
        np.testing.assert_allclose(got, leaf, rtol=1e-5, atol=1e-5)


def call(functions, obs, reset, keys=None):
    """(last carry, actions) of exported functions that went through their bytes."""
    start, act = (jax.export.deserialize(each.serialize()) for each in functions)
    assert start.platforms == act.platforms == ("cpu", "cuda")
    step, carry, actions = jax.jit(act.call), start.call(reset[0]), []
    for t in range(len(obs)):
        carry, action = step(carry, obs[t], reset[t], *([] if keys is None else [keys[t]]))
        actions.append(action)
    return carry, np.stack(actions)


@pytest.mark.parametrize("flag", ["--deterministic", pytest.param("--no-deterministic", marks=pytest.mark.slow)])
def test_a_fresh_process_with_nothing_but_jax_acts_as_the_trainer_does(flag, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export.py", str(AGENT), flag, "--output", str(tmp_path / "policy.zip")])
    export.main()
    assert "ms for 1, " in capsys.readouterr().out  # the latency
    loaded = load_run(AGENT)
    state = jax.tree.map(lambda leaf: leaf[0], loaded.state)
    wanted = {}
    for batch in (1, 5):
        obs, reset, keys = rollout_inputs((16,), batch)
        obs *= 10  # strange enough for more than one action
        with_key = {} if flag == "--deterministic" else {"key": keys}
        np.savez(tmp_path / f"inputs{batch}.npz", obs=obs, reset=reset, **with_key)
        wanted[batch] = expected(loaded.trainer, state, obs, reset, keys, flag == "--deterministic")
    # Isolated: neither the working directory nor PYTHONPATH leads to this repository.
    subprocess.run([sys.executable, "-I", "-c", LOADER], cwd=tmp_path, check=True, timeout=120)
    for batch, (carry, actions) in wanted.items():
        outputs = dict(np.load(tmp_path / f"outputs{batch}.npz"))
        assert_same([outputs[f"arr_{i}"] for i in range(len(carry))], outputs["actions"], carry, actions)
    assert len(np.unique(actions)) > 1


@around_every_core("core")
def test_every_core_is_exported_for_any_batch_size(core):
    with environment_is(Toy(num_actions=3)):
        trainer = ppo_arelit.make_train(small_config(ppo_arelit, core=small_core(core)))
    state = jax.jit(trainer.init)(jax.random.key(0))
    functions = export.functions(trainer, state, deterministic=True)
    obs, reset, keys = rollout_inputs((3,), batch=2)
    assert_same(*call(functions, obs, reset), *expected(trainer, state, obs, reset, keys, True))
    assert call(functions, *rollout_inputs((3,), batch=7)[:2])[1].shape == (STEPS, 7)


def test_the_statistics_of_observations_and_the_bounds_of_actions_are_inside():
    with environment_is(Toy()):
        trainer = ppo_arelit_continuous.make_train(small_config(ppo_arelit_continuous, actor_scale=1.0))
    state = jax.jit(trainer.init)(jax.random.key(0))
    seen = state.obs_statistics.update(3 + 5 * jax.random.normal(jax.random.key(1), (100, 3)))
    state = state.replace(obs_statistics=seen)
    obs, reset, keys = rollout_inputs((3,), batch=4)
    got = call(export.functions(trainer, state, deterministic=False), obs, reset, keys)
    assert_same(*got, *expected(trainer, state, obs, reset, keys, False))
    assert np.abs(got[1]).max() == 1 and np.abs(got[1]).min() < 1  # some are clipped


def test_bounds_that_are_none_are_null_in_json():
    assert export.bounds(np.array([-np.inf, 0.5]), (2,)) == [None, 0.5]
    assert export.bounds(1.0, (2, 1)) == [[1.0], [1.0]]


def test_observations_of_bytes_stay_bytes():
    with environment_is(ImageToy((36, 36, 1))):
        config = small_config(ppo_arelit, conv_channels=(4, 4, 4), normalize_observations=False)
        trainer = ppo_arelit.make_train(config)
    state = jax.jit(trainer.init)(jax.random.key(0))
    functions = export.functions(trainer, state, deterministic=True)
    assert functions[1].in_avals[0].dtype == jnp.uint8
    obs, reset, keys = rollout_inputs((36, 36, 1), 2, np.uint8)
    assert_same(*call(functions, obs, reset), *expected(trainer, state, obs, reset, keys, True))


@pytest.fixture
def run_of_two_seeds(monkeypatch):
    """A run that was never written, with the seeds 5 and 6; returns its LoadedRun."""
    with environment_is(Toy(num_actions=3)):
        config = small_config(ppo_arelit, seed=5, num_seeds=2)
        trainer = ppo_arelit.make_train(config)
    states = jax.jit(jax.vmap(trainer.init))(jax.vmap(jax.random.key)(jnp.array([5, 6])))
    loaded = LoadedRun("ppo_arelit", config, trainer, states, update=3)
    monkeypatch.setattr(export, "load_run", lambda *args: loaded)
    return loaded


@pytest.mark.parametrize(("asked", "index"), [(None, 0), (6, 1)])
def test_the_seed_that_is_asked_for_is_written(run_of_two_seeds, tmp_path, asked, index):
    export.export("run", tmp_path / "policy.zip", asked, deterministic=True)
    start, act, description = export.load(tmp_path / "policy.zip")
    assert description["seed"] == 5 + index and description["env_steps"] == 3 * 4 * 16
    assert description["action"] == {"discrete": 3} and description["observation"]["shape"] == [3]
    state = jax.tree.map(lambda leaf: leaf[index], run_of_two_seeds.state)
    obs, reset, keys = rollout_inputs((3,), batch=40)
    _, actions = expected(run_of_two_seeds.trainer, state, obs, reset, keys, True)
    np.testing.assert_array_equal(act(start(reset[0]), obs[0], reset[0])[1], actions[0])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["nowhere"], ["run_dir='nowhere'", "config.yaml"]),
        ([AGENT, "--seed", "1"], ["seed=1", "0 to 0"]),
        ([AGENT, "--output", "nowhere/policy.zip"], ["output='nowhere/policy.zip'", "directory that exists"]),
        ([AGENT, "--surprise"], ["--surprise"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(flags, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["export.py", *map(str, flags)])
    with pytest.raises(SystemExit) as end:
        export.main()
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert list(tmp_path.iterdir()) == []


def test_the_archive_holds_what_the_documentation_names(run_of_two_seeds, tmp_path):
    export.export("run", tmp_path / "policy.zip", None, deterministic=False)
    with zipfile.ZipFile(tmp_path / "policy.zip") as archive:
        assert sorted(archive.namelist()) == ["act", "policy.json", "start"]
        assert all(f"\n    {name} " in export.__doc__ for name in archive.namelist())
