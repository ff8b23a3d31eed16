"""Brax tasks: what each variant shows, the limits of actions and time, types that lax.scan accepts."""

import inspect
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax import envs as brax_envs

import envs
from envs.brax_tasks import BACKENDS, ENTRIES, observed_indices


def types(tree):
    """By place in the tree: MJX's nodes hold NumPy arrays too, which cannot be compared by ==."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): (x.shape, x.dtype, x.weak_type) for path, x in leaves}


def observe(env, pipeline):
    """The observation that Brax itself makes of a physics state."""
    action = (jnp.ones(env.action_size),) if "action" in inspect.signature(env._get_obs).parameters else ()
    return np.asarray(env._get_obs(pipeline, *action))


@pytest.mark.parametrize("task", ENTRIES)
def test_the_variants_show_exactly_the_positions_and_the_velocities(task):
    env = envs.make(f"brax/{task}")[0].brax_env
    rng = np.random.default_rng(0)

    def noise(shape):
        return jnp.asarray(rng.uniform(0.1, 0.9, shape), jnp.float32)

    # An arbitrary state; its fields need not agree with one another, each is only read.
    shapes = jax.eval_shape(env.reset, jax.random.key(0)).pipeline_state
    state = jax.tree.map(lambda x: noise(x.shape).astype(x.dtype), shapes)
    base = observe(env, state)
    moved = observe(env, state.replace(q=noise(state.q.shape), x=jax.tree.map(lambda x: noise(x.shape), state.x)))
    faster = observe(
        env, state.replace(qd=noise(state.qd.shape), xd=jax.tree.map(lambda x: noise(x.shape), state.xd))
    )
    resting = observe(env, state.replace(qd=0 * state.qd, xd=jax.tree.map(jnp.zeros_like, state.xd)))

    of_speed = faster != base
    of_place = (moved != base) & ~of_speed
    assert (resting[of_speed] == 0).all()
    np.testing.assert_array_equal(observed_indices(task, "P"), np.flatnonzero(of_place))
    np.testing.assert_array_equal(observed_indices(task, "V"), np.flatnonzero(of_speed))
    np.testing.assert_array_equal(observed_indices(task, ""), np.arange(base.size))


def test_every_task_of_brax_is_there():
    assert set(ENTRIES) == set(brax_envs._envs) - {"fast"}
    assert {f"brax/{task}{suffix}" for task in ENTRIES for suffix in ("", "-P", "-V")} <= set(envs.ENV_IDS)


@pytest.mark.parametrize(
    ("task", "backend"),
    [(task, envs.options(f"brax/{task}")["backend"]) for task in ENTRIES]
    + [("inverted_pendulum", backend) for backend in BACKENDS[1:]],
)
def test_a_step_keeps_every_type_of_the_state(task, backend):
    env, params = envs.make(f"brax/{task}", backend=backend)
    key = jax.random.key(0)
    obs, state = jax.eval_shape(env.reset_env, key, params)
    action = jnp.zeros(env.action_space(params).shape)
    next_obs, next_state, reward, terminated, _ = jax.eval_shape(env.step_env, key, state, action, params)
    assert types((obs, state)) == types((next_obs, next_state))
    assert list(types((reward, terminated)).values()) == [((), jnp.float32, False), ((), jnp.bool, False)]
    assert obs.shape == env.observation_space(params).shape


@pytest.fixture(scope="module")
def reacher():
    env, params = envs.make("brax/reacher")
    return env, params, jax.jit(env.step_env), jax.jit(env.reset_env)(jax.random.key(0), params)


@pytest.fixture(scope="module")
def pendulum():
    env, params = envs.make("brax/inverted_pendulum", episode_length=5)
    return env, params, jax.jit(env.step_env), jax.jit(env.reset_env)(jax.random.key(0), params)


def test_actions_are_clipped_before_physics_and_control_cost(reacher):
    env, params, step, (_, state) = reacher
    space = env.action_space(params)
    assert space.shape == (2,) and space.low == -1.0 and space.high == 1.0
    wild, limit, small = (
        step(jax.random.key(0), state, jnp.array(a), params) for a in ([9.0, -9.0], [1.0, -1.0], [0.5, -0.5])
    )
    jax.tree.map(np.testing.assert_array_equal, wild, limit)
    assert limit[2] != small[2] and (limit[0] != small[0]).any()


def test_a_step_is_brax_own_step(reacher):
    env, params, step, (obs, state) = reacher
    theirs = jax.jit(env.brax_env.reset)(jax.random.key(0))
    np.testing.assert_allclose(obs, theirs.obs, rtol=1e-6)
    # The two resets round apart, by 1e-8 where the observation does not show it; a step magnifies that.
    jax.tree.map(lambda *x: np.testing.assert_allclose(*x, atol=1e-7), state.pipeline, theirs.pipeline_state)
    state = state.replace(pipeline=theirs.pipeline_state)
    their_step = jax.jit(env.brax_env.step)
    for action in jax.random.uniform(jax.random.key(1), (5, 2), minval=-1.0):
        theirs = their_step(theirs, action)
        obs, state, reward, terminated, _ = step(jax.random.key(0), state, action, params)
        np.testing.assert_allclose(obs, theirs.obs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(reward, theirs.reward, rtol=1e-5)
        assert terminated == theirs.done
    assert state.time == 5


def test_falling_terminates_and_the_limit_truncates(pendulum):
    env, params, step, (_, state) = pendulum
    for time in range(1, 6):
        assert not env.is_truncated(state, params)
        obs, state, reward, terminated, _ = step(jax.random.key(0), state, jnp.zeros(1), params)
        assert state.time == time and not terminated and reward == 1.0
    assert env.is_truncated(state, params)
    for _ in range(100):
        obs, state, _, terminated, _ = step(jax.random.key(0), state, jnp.ones(1), params)
        assert terminated == (abs(obs[1]) > 0.2)
        if terminated:
            return
    pytest.fail("the pole never fell")


@pytest.mark.parametrize("variant", ["P", "V"])
def test_a_variant_differs_from_the_task_in_its_observation_only(pendulum, variant):
    env, params, step, (obs, state) = pendulum
    hidden, _ = envs.make(f"brax/inverted_pendulum-{variant}", episode_length=5)
    shown = {"P": slice(0, 2), "V": slice(2, 4)}[variant]
    action = jnp.array([0.7])
    obs_hidden, state_hidden = jax.jit(hidden.reset_env)(jax.random.key(0), params)
    np.testing.assert_allclose(obs_hidden, obs[shown], rtol=1e-6)
    ours = jax.jit(hidden.step_env)(jax.random.key(1), state_hidden, action, params)
    whole = step(jax.random.key(1), state, action, params)
    np.testing.assert_allclose(ours[0], whole[0][shown], rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours[1:], whole[1:])


def test_opengl_that_is_not_there_is_not_needed():
    """What the variable names is missing, or nothing of that name exists; it stays for programs that draw."""
    code = """
import os, envs
env, params = envs.make("brax/reacher")
assert os.environ["MUJOCO_GL"] == "no such library" and env.render
"""
    variables = os.environ | {"MUJOCO_GL": "no such library"}
    subprocess.run([sys.executable, "-c", code], cwd=pathlib.Path(__file__).parents[2], env=variables, check=True)
