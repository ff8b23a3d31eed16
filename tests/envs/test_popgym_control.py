"""POPGym's control tasks: steps against the original, noise, and the known returns."""

import functools

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.classic_control import state_fields, state_values
from envs.popgym_control import IDS
from tests.envs import control_oracle
from tests.envs.rollouts import assert_single_steps_equal_a_scan, mean_return, uniform
from tests.marks import slow_if

# One of every class; levels differ in two numbers, which a test of its own compares with the recordings'.
DEFAULT = (
    "popgym/PositionOnlyCartPoleHard",
    "popgym/VelocityOnlyCartPoleEasy",
    "popgym/NoisyPositionOnlyCartPoleMedium",
    "popgym/PositionOnlyPendulumMedium",
    "popgym/NoisyPositionOnlyPendulumHard",
)
every_id = pytest.mark.parametrize(
    "env_id", [pytest.param(each, marks=slow_if(each not in DEFAULT)) for each in IDS]
)


def task_of(env_id):
    return "CartPole-v1" if "CartPole" in env_id else "Pendulum-v1"


@functools.cache
def recorded(env_id):
    data = control_oracle.by_step(env_id.replace("popgym/", "popgym_"))
    data.limit = np.array([episode["limit"] for episode in data.meta["episodes"]])[data.episode]
    data.noisy = hasattr(data, "noise")
    return data


def layout(data, rows):
    return {name: getattr(data, name)[rows] for name in ("state", *["noise"] * data.noisy)}


@every_id
def test_every_recorded_step_is_repeated(env_id):
    env, params = envs.make(env_id)
    data = recorded(env_id)

    @jax.jit
    @jax.vmap
    def step(start, time, action, limit, noise):
        limited = params.replace(max_steps_in_episode=limit)
        _, state = env.reset_to(start, limited)
        state = state.replace(time=time)
        if data.noisy:
            out = env.step_with(noise, state, action, limited)
        else:
            out = env.step_env(jax.random.key(0), state, action, limited)
        return out, env.is_truncated(out[1], limited)

    noise = data.noise[data.after] if data.noisy else np.zeros_like(data.obs[data.after])
    actions = data.actions if data.actions.dtype == np.float32 else data.actions.astype(np.int32)
    out, truncated = step(layout(data, data.before), data.time, actions, data.limit, noise)
    obs, state, reward, terminated, _ = jax.tree.map(np.asarray, out)
    after = np.stack([getattr(state, name) for name in state_fields(task_of(env_id))], 1)
    theirs = data.state[data.after]
    # An angle of many turns is known to float32's precision only, at the start of the step and at its end.
    angle = np.abs(data.state[data.after][:, :1]) if "Pendulum" in env_id else 0
    assert (np.abs(after - theirs) <= 1e-6 * np.maximum(1, np.abs(theirs))).all()
    assert (np.abs(obs - data.obs[data.after]) <= 1e-6 + 2.0**-23 * angle).all()
    np.testing.assert_allclose(reward, data.rewards, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(terminated, data.terminated)
    np.testing.assert_array_equal(truncated, data.truncated)
    first, _ = jax.vmap(lambda start: env.reset_to(start, params))(layout(data, data.first))
    np.testing.assert_allclose(first, data.obs[data.first], rtol=0, atol=1e-6)


@pytest.mark.parametrize("env_id", IDS)
def test_limits_and_noise_are_the_originals(env_id):
    data = recorded(env_id)
    expected = {"max_episode_length": data.meta["max_episode_length"]}
    assert envs.options(env_id) == expected | ({"noise_sigma": data.meta["noise_sigma"]} if data.noisy else {})
    if data.noisy:
        count = data.noise.size
        assert abs(data.noise.std() / data.meta["noise_sigma"] - 1) < 4 / np.sqrt(2 * count)


def test_the_recordings_hold_what_the_replay_is_to_prove():
    for env_id in IDS:
        data = recorded(env_id)
        cart = "CartPole" in env_id
        assert data.terminated.any() == cart and data.truncated.any()
        assert (data.terminated & data.truncated).any() == cart
        if data.noisy and not env_id.endswith("CartPoleEasy"):
            space = envs.make(env_id)[0].observation_space()
            assert (np.abs(data.obs) == space.high).any()  # clipped; noise of 0.1 does not get there


def test_the_first_observation_alone_shows_positions_where_velocities_are_shown():
    env, params = envs.make("popgym/VelocityOnlyCartPoleEasy")
    values = jnp.array([0.01, -0.02, 0.03, 0.04])
    first, state = env.reset_to({"state": values}, params)
    np.testing.assert_array_equal(first, values[jnp.array([0, 2])])
    obs, state, *_ = env.step_env(jax.random.key(0), state, 1, params)
    np.testing.assert_array_equal(obs, [state.x_dot, state.theta_dot])


@pytest.mark.parametrize(
    ("env_id", "start"),
    [
        ("popgym/NoisyPositionOnlyCartPoleMedium", [0.0, 0.0, 0.0, 0.0]),
        ("popgym/NoisyPositionOnlyPendulumEasy", [np.pi / 4, 0.0]),
    ],
)
def test_noise_is_normal_independent_and_drawn_for_every_observation(env_id, start):
    sigma, n = 0.05, 4096  # too small to reach the bounds from these starts
    env, params = envs.make(env_id, noise_sigma=sigma)
    state = env.reset_to({"state": np.array(start), "noise": np.zeros(2)}, params)[1]
    action = jnp.zeros(env.action_space(params).shape, env.action_space(params).dtype)
    clean = env.step_with(jnp.zeros(2), state, action, params)[0]

    @jax.jit
    @jax.vmap
    def draws(key):
        first = env.draw_layout(key, params)["noise"]
        return jnp.concatenate([first, env.step_env(key, state, action, params)[0] - clean])

    noise = np.asarray(draws(jax.random.split(jax.random.key(1), n)))
    for column in noise.T:
        assert abs(column.mean()) < 4 * sigma / np.sqrt(n)
        assert abs(column.std() / sigma - 1) < 4 / np.sqrt(2 * n)
        assert abs((np.abs(column) < 0.6745 * sigma).mean() - 0.5) < 2 / np.sqrt(n)
    correlations = np.corrcoef(noise.T)
    for pair in ((0, 1), (2, 3)):  # the two entries of one observation
        assert abs(correlations[pair]) < 4 / np.sqrt(n)


@pytest.mark.parametrize("env_id", [pytest.param(each, marks=slow_if(each not in DEFAULT[2:4])) for each in IDS])
def test_a_reset_is_a_draw_and_a_start_from_it(env_id):
    env, params = envs.make(env_id)
    key = jax.random.key(4)
    drawn = env.draw_layout(key, params)
    mine, theirs = env.reset_env(key, params), env.reset_to(drawn, params)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), mine, theirs))
    starts = jax.vmap(env.draw_layout, (0, None))(jax.random.split(key, 512), params)["state"]
    physics, physics_params = gymnax.make(task_of(env_id))
    theirs = jax.vmap(physics.reset_env, (0, None))(jax.random.split(key, 512), physics_params)[1]
    bound = jnp.abs(jax.vmap(lambda s: state_values(task_of(env_id), s))(theirs)).max(0)
    np.testing.assert_allclose(jnp.abs(starts).max(0), bound, rtol=0.05)


@pytest.mark.parametrize(
    "env_id", [pytest.param(each, marks=slow_if(each != "popgym/VelocityOnlyCartPoleEasy")) for each in IDS]
)
def test_random_actions_return_what_is_known(env_id):
    env, params = envs.make(env_id)
    mean, error = mean_return(env, params, uniform(env, params), 2048, params.max_steps_in_episode)
    assert abs(mean - envs.reference(env_id)["random"]["value"]) <= 4 * error + 0.0005


@pytest.mark.parametrize("level", ["Easy", pytest.param("Hard", marks=pytest.mark.slow)])
def test_feedback_of_the_state_balances_the_pole_until_the_limit(level):
    env, params = envs.make(f"popgym/PositionOnlyCartPole{level}")

    def policy(keys, obs, state):
        return (state.theta + 0.35 * state.theta_dot + 0.05 * state.x + 0.12 * state.x_dot > 0).astype(int)

    mean, _ = mean_return(env, params, policy, 64, params.max_steps_in_episode)
    assert abs(mean - 1) < 1e-5


def test_always_left_returns_the_share_of_nine_or_ten_steps():
    env, params = envs.make("popgym/PositionOnlyCartPoleMedium")
    mean, _ = mean_return(env, params, lambda keys, obs, state: jnp.zeros(len(keys), int), 512, 20)
    assert abs(400 * mean - 9.5) < 0.25


@pytest.mark.parametrize("env_id", [pytest.param(each, marks=slow_if(each != DEFAULT[2])) for each in DEFAULT])
def test_single_steps_equal_a_scan_of_many_at_once(env_id):
    assert_single_steps_equal_a_scan(*envs.make(env_id))


def test_known_returns():
    for env_id in IDS:
        known = envs.reference(env_id)
        order = [known[name]["value"] for name in ("random", "without_memory", "with_memory")]
        assert order == sorted(order) and all(-1 <= value <= 1 for value in order)
        assert envs.reference(env_id, max_episode_length=7) is None
    assert envs.reference("popgym/VelocityOnlyCartPoleHard")["without_memory"]["value"] == 0.82


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("popgym-PositionOnlyCartPoleEasy-v0", {}, "env.id=.*did you mean .*popgym/PositionOnlyCartPoleEasy"),
        ("popgym/VelocityOnlyCartpoleEasy", {}, "env.id=.*did you mean popgym/VelocityOnlyCartPoleEasy"),
        (
            "popgym/PositionOnlyCartPoleEasy",
            {"noise_sigma": 0.1},
            "env.noise_sigma=0.1: not an option of popgym/Pos",
        ),
        (
            "popgym/PositionOnlyCartPoleEasy",
            {"max_episode_length": 0},
            "env.max_episode_length=0: must be at least 1",
        ),
        (
            "popgym/NoisyPositionOnlyPendulumEasy",
            {"noise_sigma": -0.1},
            "env.noise_sigma=-0.1: must be at least 0",
        ),
    ],
)
def test_bad_input_is_one_line(env_id, options, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        envs.make(env_id, **options)
    assert "\n" not in str(error.value)
