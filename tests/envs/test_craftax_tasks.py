"""Craftax's environments: what is known without the extra, and what the adapter changes with it."""

import dataclasses
import importlib.util
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import envs
from envs import craftax_tasks
from tests.marks import slow_if

ROOT = pathlib.Path(__file__).parents[2]
CLASSIC = "craftax/Craftax-Classic-Symbolic-v1"
CLASSIC_PIXELS = "craftax/Craftax-Classic-Pixels-v1"
B, T, LIMIT = 32, 240, 200

needs_craftax = pytest.mark.skipif(
    importlib.util.find_spec("craftax") is None, reason="needs the extra craftax: pip install -e '.[craftax]'"
)
# Craftax prepares the textures of its large pictures for a minute when they are drawn for the first time.
LARGE_PIXELS = "craftax/Craftax-Pixels-v1"
EACH_ID = [pytest.param(env_id, marks=slow_if(env_id == LARGE_PIXELS)) for env_id in craftax_tasks.IDS]


@pytest.mark.parametrize("env_id", craftax_tasks.IDS)
def test_without_the_extra_one_line_says_how_to_install_it(env_id, monkeypatch):
    monkeypatch.setitem(sys.modules, "craftax", None)
    with pytest.raises(ValueError, match=rf"^env.id='{env_id}': needs the package craftax; .*\.\[craftax\]'$"):
        envs.make(env_id)


def test_listing_ids_and_options_does_not_import_craftax():
    code = (
        "import sys, envs; assert envs.options('craftax/Craftax-Symbolic-v1')['max_timesteps'] == 100_000;"
        "assert 'craftax' not in sys.modules"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["max_timesteps", "day_length"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match=rf"^env.{name}=0: must be at least 1$"):
        envs.make(CLASSIC, **{name: 0})


@needs_craftax
@pytest.mark.parametrize("env_id", ["craftax/Craftax-Symbolic-v1", CLASSIC])
def test_options_are_craftax_own_fields_and_defaults(env_id):
    env, params = envs.make(env_id)
    own = {field.name: getattr(env.craftax_env.default_params, field.name) for field in dataclasses.fields(params)}
    assert envs.options(env_id).items() <= own.items()
    assert params == env.craftax_env.default_params
    _, params = envs.make(env_id, max_timesteps=7, always_diamond=not own["always_diamond"])
    assert params.max_timesteps == 7 and params.always_diamond is not own["always_diamond"]


@needs_craftax
@pytest.mark.parametrize("env_id", EACH_ID)
def test_interface(env_id):
    env, params = envs.make(env_id)
    key, action = jax.random.key(0), jnp.int32(0)
    space = env.observation_space(params)
    assert isinstance(space, spaces.Box) and isinstance(env.action_space(params), spaces.Discrete)
    assert space.dtype == (jnp.uint8 if "Pixels" in env_id else jnp.float32)
    assert env.action_space(params).n == env.num_actions == (17 if "Classic" in env_id else 43)

    obs, state = jax.eval_shape(env.reset_env, key, params)
    assert (obs.shape, obs.dtype) == (space.shape, space.dtype)
    stepped = jax.eval_shape(env.step_env, key, state, action, params)
    assert _types(stepped[:2]) == _types((obs, state))
    assert [(x.shape, x.dtype) for x in stepped[2:4]] == [((), jnp.float32), ((), bool)]
    whole = jax.eval_shape(env.step, key, state, action, params)  # gymnax's own, with its auto-reset
    assert len(whole) == 6 and _types(whole[:2]) == _types((obs, state))

    vec = envs.VectorEnv(env, 3, pool_size=4)
    started = jax.eval_shape(vec.reset, key, params)
    stepped = jax.eval_shape(vec.step, key, started[1], jnp.zeros(3, jnp.int32), params)
    assert _types(stepped[:2], weak=True) == _types(started, weak=True)
    assert _types(jax.eval_shape(vec.refresh, key, started[1], params), weak=True) == _types(started[1], weak=True)


@needs_craftax
def test_termination_and_time_limit_together_are_craftax_own_end_of_an_episode():
    env, params = envs.make(CLASSIC, max_timesteps=LIMIT)
    space = env.observation_space(params)

    def step(state, key):
        action = env.action_space(params).sample(key)
        _, _, _, own_done, _ = env.craftax_env.step_env(key, state, action, params)
        obs, state, reward, terminated, info = env.step_env(key, state, action, params)
        ends = (own_done, terminated, env.is_truncated(state, params), state.player_health <= 0)
        unlocked = (info["episode_achievements"], state.achievements.sum())
        return state, (*ends, space.contains(obs), *unlocked, reward)

    @jax.jit
    @jax.vmap
    def rollout(key):
        _, state = env.reset_env(key, params)
        return jax.lax.scan(step, state, jax.random.split(key, T))[1]

    out = jax.tree.map(np.asarray, rollout(jax.random.split(jax.random.key(0), B)))  # each [B, T]
    own_done, terminated, truncated, dead, contained, reported, unlocked, reward = out
    np.testing.assert_array_equal(terminated | truncated, own_done)
    np.testing.assert_array_equal(truncated, np.broadcast_to(np.arange(1, T + 1) >= LIMIT, (B, T)))
    np.testing.assert_array_equal(terminated, dead)
    assert 0 < terminated[:, : LIMIT - 1].any(-1).sum() < B  # both ways to end do happen
    assert contained.all()
    np.testing.assert_array_equal(reported, unlocked)
    assert reported[:, -1].max() > 0 and np.isfinite(reward).all()


@needs_craftax
def test_pixels_are_those_of_craftax_as_bytes_and_a_picture_can_be_drawn():
    env, params = envs.make(CLASSIC_PIXELS)

    @jax.jit
    def start(key):
        return env.craftax_env.reset_env(key, params)[0], *env.reset_env(key, params)

    own, obs, state = start(jax.random.key(0))
    np.testing.assert_allclose(obs, own * 255.0, atol=0.501)
    picture = env.render(state, params)
    assert isinstance(picture, np.ndarray) and picture.shape == (144, 144, 3) and picture.dtype == np.uint8
    assert picture.std() > 10


@needs_craftax
def test_what_craftax_says_about_its_textures_goes_to_the_standard_error(capsys):
    from craftax.craftax_classic import constants

    constants.load_all_textures.cache_clear()
    envs.make(CLASSIC_PIXELS)
    printed = capsys.readouterr()
    assert printed.out == "" and "textures" in printed.err


def _types(tree, weak=False):
    return jax.tree.map(lambda x: (x.shape, x.dtype, weak and x.weak_type), tree)
