"""Many episodes at once, and single steps against them."""

import jax
import jax.numpy as jnp
import numpy as np


def mean_return(env, params, policy, episodes, steps):
    """Mean and standard error of the returns of episodes that all end within `steps`.

    `policy` maps (keys [episodes], observations, states) to actions [episodes, ...].
    """

    @jax.jit
    def run(key):
        start_key, key = jax.random.split(key)
        obs, state = jax.vmap(env.reset_env, (0, None))(jax.random.split(start_key, episodes), params)

        def step(carry):
            t, obs, state, running, total = carry
            act_keys, env_keys = jax.random.split(jax.random.fold_in(key, t), (2, episodes))
            action = policy(act_keys, obs, state)
            obs, state, reward, terminated, _ = jax.vmap(env.step_env, (0, 0, 0, None))(
                env_keys, state, action, params
            )
            total += reward * running
            running &= ~(terminated | jax.vmap(env.is_truncated, (0, None))(state, params))
            return t + 1, obs, state, running, total

        carry = jnp.int32(0), obs, state, jnp.ones(episodes, bool), jnp.zeros(episodes)
        return jax.lax.while_loop(lambda carry: carry[3].any() & (carry[0] < steps), step, carry)[3:]

    running, total = run(jax.random.key(5))
    assert not running.any()
    total = np.asarray(total, np.float64)
    return total.mean(), total.std() / np.sqrt(episodes)


def uniform(env, params):
    """The policy of random actions."""
    sample = jax.vmap(env.action_space(params).sample)
    return lambda keys, obs, state: sample(keys)


def assert_single_steps_equal_a_scan(env, params, episodes=2, steps=12):
    """Random steps one by one give what a scan over many environments gives."""
    keys = jax.random.split(jax.random.key(0), (steps, episodes))
    actions = jax.vmap(jax.vmap(env.action_space(params).sample))(keys)

    @jax.jit
    def scanned():
        def step(state, inputs):
            obs, state, *rest = jax.vmap(env.step_env, (0, 0, 0, None))(inputs[0], state, inputs[1], params)
            return state, (obs, *rest)

        obs, state = jax.vmap(env.reset_env, (0, None))(keys[0], params)
        return obs, jax.lax.scan(step, state, (keys, actions))[1]

    first, out = jax.tree.map(np.asarray, scanned())
    reset, single = jax.jit(env.reset_env), jax.jit(env.step_env)
    for b in range(episodes):
        obs, state = reset(keys[0, b], params)
        np.testing.assert_allclose(obs, first[b], rtol=1e-6, atol=1e-6)
        for t in range(steps):
            obs, state, *rest = single(keys[t, b], state, actions[t, b], params)
            for mine, theirs in zip(jax.tree.leaves((obs, *rest)), jax.tree.leaves(out), strict=True):
                np.testing.assert_allclose(mine, theirs[t, b], rtol=1e-5, atol=1e-5)
