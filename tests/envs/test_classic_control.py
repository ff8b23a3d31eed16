"""gymnax/<id>-P and -V: steps against gymnax and gymnasium, what is shown, starts, and the known returns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.classic_control import SHOWN, state_fields, state_values
from tests.envs import control_oracle
from tests.envs.rollouts import assert_single_steps_equal_a_scan, mean_return, uniform
from tests.marks import slow_if

VARIANTS = [(task, variant) for task in SHOWN for variant in "PV"]
# What is position and what velocity, from gymnasium's descriptions of its observations.
SEEN = {
    "CartPole-v1": "pvpv",
    "Acrobot-v1": "ppppvv",
    "MountainCar-v0": "pv",
    "MountainCarContinuous-v0": "pv",
    "Pendulum-v1": "ppv",
}
CONTINUOUS = "MountainCarContinuous-v0"


@functools.cache
def made(task, variant, **options):
    return envs.make(f"gymnax/{task}-{variant}", **options)


def steps_from(env, params, states, times, actions):
    """A step from each of the recorded states: (observations there, what the step gives, truncated)."""

    @jax.jit
    @jax.vmap
    def step(values, time, action):
        first, state = env.reset_to({"state": values}, params)
        out = env.step_env(jax.random.key(0), state.replace(time=time), action, params)
        return first, out, env.is_truncated(out[1], params)

    return jax.tree.map(np.asarray, step(states, times, actions))


def close(actual, expected, tolerance=3e-6):
    np.testing.assert_array_less(np.abs(actual - expected), tolerance * np.maximum(1, np.abs(expected)))


@pytest.mark.parametrize(("task", "variant"), VARIANTS)
def test_every_recorded_step_of_gymnax_is_repeated_and_only_a_part_is_shown(task, variant):
    env, params = made(task, variant)
    data = control_oracle.by_step(f"gymnax_{task}")
    shown = [i for i, kind in enumerate(SEEN[task]) if kind == variant.lower()]
    actions = data.actions if data.actions.dtype == np.float32 else data.actions.astype(np.int32)
    first, (obs, state, reward, terminated, _), truncated = steps_from(
        env, params, data.state[data.before], data.time, actions
    )
    close(first, data.obs[data.before][:, shown])
    close(obs, data.obs[data.after][:, shown])
    close(np.stack([getattr(state, name) for name in state_fields(task)], 1), data.state[data.after])
    close(reward, data.rewards)
    np.testing.assert_array_equal(terminated, data.terminated)
    np.testing.assert_array_equal(truncated, data.truncated)
    assert data.terminated.any() != (task == "Pendulum-v1") and data.truncated.any() or task == "Acrobot-v1"


@pytest.mark.parametrize("wall", [False, True])
def test_the_wall_of_mountain_car_continuous_is_that_of_gymnax_or_of_gymnasium(wall):
    env, params = made(CONTINUOUS, "P", gymnasium_wall=wall)
    data = control_oracle.load(f"classic_control/compare_{CONTINUOUS}")
    whose = "gymnasium" if wall else "gymnax"
    states, rewards, done = (getattr(data, f"{whose}_{name}") for name in ("obs", "rewards", "done"))
    steps = states[:, :-1].reshape(-1, 2), np.zeros(rewards.size, np.int32), data.actions.reshape(-1, 1)
    _, (_, state, reward, terminated, info), _ = steps_from(env, params, *steps)
    close(np.stack([state.position, state.velocity], 1), states[:, 1:].reshape(-1, 2), 1e-6)
    close(reward, rewards.ravel(), 1e-6)
    terminated = terminated.reshape(rewards.shape)
    np.testing.assert_array_equal(np.where(terminated.any(1), terminated.argmax(1) + 1, 0), done)
    np.testing.assert_array_equal(info["episode_success"], terminated.ravel())
    assert np.abs(data.gymnax_obs - data.gymnasium_obs).max() > 0.1


@pytest.mark.parametrize("task", SHOWN)
def test_hidden_entries_are_left_out_or_zero(task):
    for variant in "PV":
        env, params = made(task, variant)
        zeroed, _ = made(task, variant, zero_hidden=True)
        values = np.linspace(0.01, 0.05, len(state_fields(task)), dtype=np.float32)
        shown = np.array([kind == variant.lower() for kind in SEEN[task]])
        part, whole = (each.reset_to({"state": values}, params)[0] for each in (env, zeroed))
        assert part.shape == env.observation_space(params).shape == (shown.sum(),)
        assert whole.shape == zeroed.observation_space(params).shape == shown.shape
        np.testing.assert_array_equal(whole[shown], part)
        assert (whole[~shown] == 0).all() and (part != 0).all()
        inner = envs.make(f"gymnax/{task}")[0].observation_space(params)
        np.testing.assert_array_equal(env.observation_space(params).low, inner.low[shown])
        np.testing.assert_array_equal(env.observation_space(params).high, inner.high[shown])


@pytest.mark.parametrize("task", SHOWN)
def test_a_reset_is_a_draw_of_gymnax_and_a_start_from_it(task):
    env, params = made(task, "P")
    key = jax.random.key(3)
    obs, state = env.reset_env(key, params)
    layout = env.draw_layout(key, params)
    again, same = env.reset_to(layout, params)
    assert state.time == 0
    np.testing.assert_array_equal(obs, again)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state, same))
    theirs = envs.make(f"gymnax/{task}")[0].reset_env(key, params)[1]
    np.testing.assert_array_equal(layout["state"], state_values(task, theirs))


@pytest.mark.parametrize(
    ("wall", "force", "expected"),
    [(False, 1.0, 82.95), (True, 1.0, 89.36), (False, 0.6, 95.55), (True, 0.6, 95.60)],
)
def test_pushing_in_the_direction_of_motion_needs_no_memory(wall, force, expected):
    env, params = made(CONTINUOUS, "V", gymnasium_wall=wall)
    policy = lambda keys, obs, state: force * jnp.where(obs >= 0, 1.0, -1.0)  # noqa: E731
    mean, _ = mean_return(env, params, policy, 400, 250)
    assert abs(mean - expected) < 0.2


@pytest.mark.parametrize(
    ("task", "steps"),
    [("CartPole-v1", 200), *(pytest.param(task, 999, marks=pytest.mark.slow) for task in SHOWN)],
)
def test_random_actions_return_what_is_known(task, steps):
    env, params = made(task, "P")
    mean, error = mean_return(env, params, uniform(env, params), 2048, steps)
    known = envs.reference(f"gymnax/{task}-P")["random"]["value"]
    assert abs(mean - known) <= 4 * error + 0.06  # the known one is rounded and was measured too


@pytest.mark.parametrize("task", [pytest.param(task, marks=slow_if(task != "CartPole-v1")) for task in SHOWN])
def test_single_steps_equal_a_scan_of_many_at_once(task):
    assert_single_steps_equal_a_scan(*made(task, "V"))


def test_known_returns_are_those_of_the_default_physics():
    for task, variant in VARIANTS:
        known = envs.reference(f"gymnax/{task}-{variant}", zero_hidden=True)
        assert set(known) == {"random", "without_memory", "with_memory"}
        assert all(set(each) == {"value", "mark", "note"} for each in known.values())
        order = [known[name]["value"] for name in ("random", "without_memory", "with_memory")]
        assert order == sorted(order)
        full = envs.reference(f"gymnax/{task}")
        assert full["without_memory"] == full["with_memory"]
    assert envs.reference("gymnax/CartPole-v1-P")["without_memory"]["value"] == 54
    assert envs.reference("gymnax/CartPole-v1-P", gravity=5.0) is None
    assert envs.reference("gymnax/Pendulum-v1-P", max_steps_in_episode=100) is None
    assert envs.reference("gymnax/Breakout-MinAtar") is None


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        (
            "gymnax/CartPole-v1-X",
            {},
            "env.id='gymnax/CartPole-v1-X': not known .did you mean .*gymnax/CartPole-v1-P",
        ),
        ("gymnax/CartPole-v1", {"zero_hidden": True}, "env.zero_hidden=True: not an option of gymnax/CartPole-v1"),
        ("gymnax/CartPole-v1-P", {"gymnasium_wall": True}, "env.gymnasium_wall=True: not an option of"),
        ("gymnax/Pendulum-v1-V", {"zero_hidden": 1}, "env.zero_hidden=1: must be of type bool"),
        ("gymnax/Pendulum-v1-V", {"max_steps_in_episode": 0}, "env.max_steps_in_episode=0: must be at least 1"),
    ],
)
def test_bad_input_is_one_line(env_id, options, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        envs.make(env_id, **options)
    assert "\n" not in str(error.value)
