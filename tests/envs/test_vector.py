"""VectorEnv: fresh starts without a reset in the step, true last observations, raw returns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from tests.envs.toy import Toy

B = 4


def rollout(vec, params, key, steps, refreshes=1):
    """Runs `refreshes` rollouts: (first observation, state, outputs [refreshes * steps, B, ...])."""
    first, state = vec.reset(key, params)

    def step(state, key):
        obs, state, reward, terminated, truncated, info = vec.step(
            key, state, jnp.zeros((vec.num_envs, 1)), params
        )
        return state, {"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated, **info}

    def collect(state, key):
        key_refresh, key_steps = jax.random.split(key)
        state = vec.refresh(key_refresh, state, params)
        return jax.lax.scan(step, state, jax.random.split(key_steps, steps))

    state, out = jax.lax.scan(collect, state, jax.random.split(jax.random.fold_in(key, 1), refreshes))
    out = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)
    return first, state, out


def run(env, steps, pool_size=64, refreshes=1, seed=0, num_envs=B):
    vec = envs.VectorEnv(env, num_envs, pool_size)
    fn = jax.jit(lambda key: rollout(vec, env.default_params, key, steps, refreshes))
    return jax.tree.map(np.asarray, fn(jax.random.key(seed)))


def test_the_first_states_differ_between_environments():
    first, _, _ = run(Toy(), steps=1)
    assert len(np.unique(first[:, 0])) == B


def test_no_start_is_used_twice_while_the_pool_lasts():
    first, state, out = run(Toy(1, 5), steps=20, pool_size=64, refreshes=3)
    done = out["terminated"] | out["truncated"]
    assert done.sum() > 64 and done[-20:].sum() == state.used <= 64
    starts = np.concatenate([first[:, 0], out["obs"][done][:, 0]])
    assert len(np.unique(starts)) == len(starts)


def test_an_exhausted_pool_is_used_again_from_its_beginning():
    _, state, out = run(Toy(1, 2), steps=3, pool_size=B * 2)
    starts = out["obs"][..., 0]  # every step ends an episode: [3, B]
    np.testing.assert_array_equal(starts[2], starts[0])
    assert len(np.unique(starts[:2])) == 2 * B and state.used == 3 * B


def test_returns_are_sums_of_raw_rewards():
    _, _, out = run(Toy(), steps=30)
    np.testing.assert_array_equal(out["truncated"].any(1), np.arange(1, 31) % 10 == 0)
    ended = out["truncated"]
    np.testing.assert_array_equal(out["episode_return"][ended], 70.0)
    np.testing.assert_array_equal(out["episode_length"][ended], 10)
    np.testing.assert_array_equal(out["episode_return"][:10, 0], 7.0 * np.arange(1, 11))


def test_the_final_observation_is_the_last_one_of_the_episode_that_ends():
    first, _, out = run(Toy(1, 5), steps=20)
    start, time = first[:, 0].copy(), np.zeros(B)
    for t in range(20):
        time += 1
        np.testing.assert_array_equal(out["final_observation"][t, :, 0], start)
        np.testing.assert_array_equal(out["final_observation"][t, :, 1], time)
        np.testing.assert_array_equal(out["reported"][t], start)
        np.testing.assert_array_equal(out["episode_length"][t], time)
        done = out["terminated"][t] | out["truncated"][t]
        np.testing.assert_array_equal(out["obs"][t][~done], out["final_observation"][t][~done])
        np.testing.assert_array_equal(out["obs"][t][done][:, 1:], 0.0)
        assert not np.isin(out["obs"][t][done][:, 0], start).any()
        start[done], time[done] = out["obs"][t][done][:, 0], 0


def test_termination_wins_over_truncation():
    _, _, out = run(Toy(10, 11), steps=20)
    assert out["terminated"].sum() == 2 * B and not out["truncated"].any()


def test_the_time_limit_is_a_truncation_only():
    _, _, out = run(Toy(), steps=20)
    assert out["truncated"].sum() == 2 * B and not out["terminated"].any()


def test_every_environment_and_step_has_its_own_randomness():
    _, _, out = run(Toy(), steps=9)
    assert len(np.unique(out["obs"][..., 2])) == 9 * B


def test_seeds_under_vmap_equal_single_runs():
    env = Toy(1, 5)
    vec = envs.VectorEnv(env, B, 64)

    def fn(key):
        return rollout(vec, env.default_params, key, 20)

    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    together = jax.jit(jax.vmap(fn))(keys)
    alone = jax.tree.map(lambda *x: jnp.stack(x), *[jax.jit(fn)(key) for key in keys])
    jax.tree.map(np.testing.assert_array_equal, together, alone)
    assert len(np.unique(together[0][..., 0])) == 3 * B


def test_a_step_contains_no_reset():
    env = Toy()
    vec = envs.VectorEnv(env, B, 8)
    key, params = jax.random.key(0), env.default_params
    _, state = jax.eval_shape(vec.reset, key, params)
    assert env.reset_calls == 1
    jax.eval_shape(vec.refresh, key, state, params)
    assert env.reset_calls == 2
    jax.eval_shape(vec.step, key, state, jnp.zeros((B, 1)), params)
    assert env.reset_calls == 2


def test_one_environment_keeps_its_axis():
    first, _, out = run(Toy(1, 5), steps=6, num_envs=1)
    assert first.shape == (1, 3) and out["reward"].shape == (6, 1) and out["obs"].shape == (6, 1, 3)


@pytest.mark.parametrize("sizes", [(0, 4), (4, 0), (-1, 4)])
def test_counts_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match=r"^(num_envs|pool_size)=(0|-1): must be at least 1$"):
        envs.VectorEnv(Toy(), *sizes)
