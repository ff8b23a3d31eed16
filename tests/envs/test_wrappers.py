"""PreviousActionReward: what is appended, and when it is zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from tests.envs.toy import Toy


def test_action_and_raw_reward_are_appended_and_the_start_has_zeros():
    env = envs.PreviousActionReward(Toy())
    params = env.default_params
    obs, state = env.reset_env(jax.random.key(0), params)
    assert obs.shape == (5,) and obs[0] != 0
    np.testing.assert_array_equal(obs[3:], [0.0, 0.0])
    obs, state, *_ = env.step_env(jax.random.key(1), state, jnp.array([-0.25]), params)
    np.testing.assert_array_equal(obs[3:], [-0.25, 7.0])


def test_a_continuous_action_is_the_one_the_environment_received():
    env = envs.PreviousActionReward(Toy())
    _, state = env.reset_env(jax.random.key(0), env.default_params)
    obs, *_ = env.step_env(jax.random.key(1), state, jnp.array([3.0]), env.default_params)
    assert obs[3] == 1.0


def test_a_discrete_action_is_one_hot():
    env, params = envs.make("gymnax/CartPole-v1")
    wrapped = envs.PreviousActionReward(env)
    obs, state = wrapped.reset_env(jax.random.key(0), params)
    np.testing.assert_array_equal(obs[4:], [0.0, 0.0, 0.0])
    for action, hot in ((0, [1.0, 0.0]), (1, [0.0, 1.0])):
        obs, state, *_ = wrapped.step_env(jax.random.key(0), state, action, params)
        np.testing.assert_array_equal(obs[4:6], hot)
        assert obs[6] == 1.0


def test_the_final_observation_has_them_and_the_next_first_one_has_not():
    env = envs.PreviousActionReward(Toy(2, 3))
    vec = envs.VectorEnv(env, 3, 16)
    key, action = jax.random.key(0), jnp.array([[0.25], [0.5], [0.75]])
    _, state = vec.reset(key, env.default_params)
    for _ in range(2):
        obs, state, _, terminated, _, info = vec.step(key, state, action, env.default_params)
    assert terminated.all()
    np.testing.assert_array_equal(info["final_observation"][:, 3:], [[0.25, 7.0], [0.5, 7.0], [0.75, 7.0]])
    np.testing.assert_array_equal(obs[:, 3:], 0.0)


def test_the_space_has_the_bounds_of_its_parts():
    env, params = envs.make("gymnax/CartPole-v1")
    space = envs.PreviousActionReward(env).observation_space(params)
    inner = env.observation_space(params)
    np.testing.assert_array_equal(space.low, [*inner.low, 0.0, 0.0, -np.inf])
    np.testing.assert_array_equal(space.high, [*inner.high, 1.0, 1.0, np.inf])


def test_an_observation_that_is_the_number_of_a_state_keeps_its_place():
    env, params = envs.make("gymnax/FrozenLake-misc")  # states 0 to 15, actions 0 to 3
    wrapped = envs.PreviousActionReward(env)
    space = wrapped.observation_space(params)
    np.testing.assert_array_equal(space.low, [0.0] * 5 + [-np.inf])
    np.testing.assert_array_equal(space.high, [15.0] + [1.0] * 4 + [np.inf])
    _, state = wrapped.reset_env(jax.random.key(0), params)
    obs, state, *_ = wrapped.step_env(jax.random.key(1), state, 2, params)
    np.testing.assert_array_equal(obs, [state.position, 0.0, 0.0, 1.0, 0.0, 0.0])


def test_what_the_wrapped_environment_offers_is_still_there():
    env, params = envs.make("brax/inverted_pendulum-P", episode_length=4)
    wrapped = envs.PreviousActionReward(env)
    assert wrapped.name == "brax/inverted_pendulum-P" and wrapped.num_actions == 1
    assert wrapped.task == "inverted_pendulum" and wrapped.render == env.render
    with pytest.raises(AttributeError):
        _ = wrapped.nothing_of_the_kind


def test_a_discrete_observation_is_one_hot():
    env, params = envs.make("gymnax/FrozenLake-misc")
    wrapped = envs.one_hot(env, params)
    space, count = wrapped.observation_space(params), env.observation_space(params).n
    assert space.shape == (count,) and space.contains(jnp.zeros(count))
    key = jax.random.key(0)
    (number, state), (obs, _) = env.reset_env(key, params), wrapped.reset_env(key, params)
    np.testing.assert_array_equal(obs, np.eye(count)[int(number)])
    for action in (0, 1, 2, 3):
        number, obs = env.step_env(key, state, action, params)[0], wrapped.step_env(key, state, action, params)[0]
        np.testing.assert_array_equal(obs, np.eye(count)[int(number)])


def test_categories_are_one_hot_kind_by_kind_and_amounts_stay():
    env, params = envs.make("MiniGrid-MemoryS7-v0", agent_view_size=3)
    wrapped = envs.one_hot(env, params)
    symbols, _ = env.reset_env(jax.random.key(0), params)
    obs, _ = wrapped.reset_env(jax.random.key(0), params)
    kinds = env.observation_categories
    assert obs.shape == wrapped.observation_space(params).shape == (3, 3, sum(kinds))
    expected = np.concatenate([np.eye(n)[np.asarray(symbols)[..., i]] for i, n in enumerate(kinds)], axis=-1)
    np.testing.assert_array_equal(obs, expected)
    plain, params = envs.make("gymnax/CartPole-v1")
    assert envs.one_hot(plain, params) is plain
