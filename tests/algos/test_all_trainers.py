"""What every trainer must do, whatever its algorithm; each test fails when the fault it names is put back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks.normalization import RunningStatistics
from tests.algos.toy import next_observation
from tests.algos.trainers import (
    CASES,
    cases,
    cases_and_cores,
    compiled,
    leaves,
    on_toy,
    set_last_layers,
    small_config,
    trained,
)

# Ten steps with a reward of 7 in each, four episodes in every rollout of an environment.
SEVENS = dict(reward=7.0, num_steps=40, total_timesteps=4 * 40 * 3, previous_action_reward=True)
# Rewards and statistics that depend on what is observed.
ACTIONS = dict(actor_scale=1.0)


@cases()
def test_advantages_match_a_slow_loop(case):
    advantages = on_toy(case, gamma=0.9, gae_lambda=0.8).trainer.advantages
    rng = np.random.default_rng(0)
    steps, batch_size = 40, 6
    terminated = rng.random((steps, batch_size)) < 0.15
    truncated = (rng.random((steps, batch_size)) < 0.15) & ~terminated
    value, final_value, reward = rng.normal(size=(3, steps, batch_size))
    last_value = rng.normal(size=batch_size)
    kind = case.module.Transition
    known = dict(value=value, terminated=terminated, truncated=truncated, final_value=final_value)
    batch = kind(**dict.fromkeys(kind._fields) | known)
    ours = advantages(jax.tree.map(jnp.asarray, batch), jnp.asarray(reward), jnp.asarray(last_value))

    expected = np.zeros((steps, batch_size))
    for b in range(batch_size):
        for t in range(steps):
            # Sum (gamma lambda)^k delta_{t+k} up to the end of the episode or of the rollout.
            for k in range(t, steps):
                if terminated[k, b]:
                    following = 0.0
                elif truncated[k, b]:
                    following = final_value[k, b]
                else:
                    following = value[k + 1, b] if k + 1 < steps else last_value[b]
                delta = reward[k, b] + 0.9 * following - value[k, b]
                expected[t, b] += (0.9 * 0.8) ** (k - t) * delta
                if terminated[k, b] or truncated[k, b]:
                    break
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@cases_and_cores("ppo_continuous", "ppo_discrete", "a2c_discrete", "pqn")
def test_the_final_observation_is_valued_through_the_memory(case, core):
    """Values equal those of stepping the agent by hand over the rollout, and one step further where it ends.

    The same program serves both kinds of actions in A2C, so one is enough here.
    """
    built = on_toy(case, max_steps=5, core=core)
    state = built.init(jax.random.key(0))
    moved = RunningStatistics(mean=jnp.full(3, 0.5), variance=jnp.full(3, 4.0), count=jnp.float32(9))
    state = state.replace(obs_statistics=moved)
    after, batch, last_value = built.collect(state, jax.random.key(1))
    assert batch.truncated.sum() == 4 * 3 and not batch.terminated.any()
    np.testing.assert_array_equal(batch.reset[1:], batch.truncated[:-1])
    assert batch.reset[0].all() and not after.stream.reset.any()
    carry, key, continued = built.trainer.initial_carry(4), jax.random.key(0), jnp.zeros(4, bool)
    for t in range(16):
        carry, _, value = built.act(state, carry, batch.raw_obs[t], batch.reset[t], key)
        np.testing.assert_allclose(value, batch.value[t], atol=1e-5)
        if batch.truncated[t].any() or t == 15:
            _, _, final_value = built.act(state, carry, next_observation(batch.raw_obs[t]), continued, key)
            where = np.asarray(batch.truncated[t]) | (t == 15)
            np.testing.assert_allclose(batch.final_value[t][where], final_value[where], atol=1e-5)
    np.testing.assert_allclose(last_value, final_value, atol=1e-5)
    for a, b in zip(jax.tree.leaves(carry), jax.tree.leaves(after.stream.carry), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@cases(*CASES)
def test_the_environment_receives_the_stored_action(case):
    """The reward of this toy is the action: as stored, a continuous one clipped to [-1, 1]."""
    built = on_toy(case, **ACTIONS)
    _, batch, _ = built.collect(built.init(jax.random.key(0)), jax.random.key(1))
    if case.num_actions:
        assert batch.action.shape == (16, 4) and set(np.unique(batch.action)) == {0, 1, 2}
        np.testing.assert_array_equal(batch.reward, batch.action)
    else:
        assert np.abs(batch.action).max() > 1, "stored actions must not be clipped"
        np.testing.assert_array_equal(batch.reward, np.clip(batch.action[..., 0], -1, 1))


@cases()
def test_the_value_under_truncation_is_that_of_an_endless_task(case):
    """Reward 1 for ever with a time limit of 5: V = 1 / (1 - gamma); as a termination it would be below 2.5."""
    settings = dict(reward=1.0, max_steps=5, gamma=0.8, gae_lambda=0.9, normalize_rewards=False, num_envs=8)
    settings |= dict(learning_rate=3e-3, total_timesteps=8 * 16 * 150, ent_coef=0.0)
    if not case.has_minibatches:  # one gradient step a rollout instead of four
        settings |= dict(learning_rate=1e-2, total_timesteps=8 * 16 * 300)
    built, state, _ = trained(case, **settings)
    _, batch, _ = built.collect(state, jax.random.key(1))
    assert float(batch.value.mean()) == pytest.approx(5.0, rel=0.1)


@cases()
def test_a_termination_cuts_the_bootstrap(case):
    """Every step terminates: V = 1, whatever gamma is."""
    settings = dict(reward=1.0, termination=1.0, normalize_rewards=False, learning_rate=3e-3, ent_coef=0.0)
    updates = 100 if case.has_minibatches else 300
    built, state, _ = trained(case, total_timesteps=4 * 16 * updates, **settings)
    _, batch, _ = built.collect(state, jax.random.key(1))
    assert float(batch.value.mean()) == pytest.approx(1.0, abs=0.1)


@cases()
def test_raw_returns_are_reported_whatever_is_normalised(case):
    built, state, metrics = trained(case, **SEVENS)
    np.testing.assert_allclose(metrics["episode_return"], 70.0)
    np.testing.assert_allclose(metrics["episode_length"], 10.0)
    np.testing.assert_allclose(metrics["episodes"], 16.0)
    evaluated = built.evaluate(state, jax.random.key(1), False)
    np.testing.assert_array_equal(evaluated["episode_return"], [70.0] * 3)
    np.testing.assert_array_equal(evaluated["episode_length"], [10.0] * 3)


@cases()
def test_what_the_environment_reports_of_an_episode_is_that_of_its_last_step(case):
    """1 in the step that ends the episode, 0.25 in those before it."""
    built, state, metrics = trained(case, **SEVENS)
    np.testing.assert_allclose(metrics["episode_success"], 1.0)
    evaluated = built.evaluate(state, jax.random.key(1), False)
    np.testing.assert_array_equal(evaluated["episode_success"], [1.0] * 3)


@cases()
def test_evaluated_episodes_end_one_by_one(case):
    """Episodes of random length with a reward of 1 a step: the sums stop at each episode's own end."""
    built = on_toy(case, reward=1.0, termination=0.3, eval_episodes=64)
    evaluated = built.evaluate(built.init(jax.random.key(0)), jax.random.key(1), False)
    lengths = evaluated["episode_length"]
    np.testing.assert_array_equal(evaluated["episode_return"], lengths)
    np.testing.assert_array_equal(evaluated["episode_success"] == 1.0, lengths == 10)
    assert lengths.min() == 1 and lengths.max() <= 10
    expected = (1 - 0.7**10) / 0.3
    assert float(lengths.mean()) == pytest.approx(expected, abs=4 * 2.6 / 8)  # four standard errors


@cases()
def test_rewards_are_scaled_by_the_deviation_of_the_discounted_return(case):
    _, state, _ = trained(case, **SEVENS)
    returns, running = [], 0.0
    for _ in range(10):
        running = 0.99 * running + 7.0
        returns.append(running)
    assert float(state.return_statistics.variance) == pytest.approx(np.var(returns), rel=1e-4)


@cases()
def test_evaluation_uses_the_statistics_of_training(case):
    """Other statistics, other actions: the reward of this toy is the action."""
    built = on_toy(case, **ACTIONS)
    state, _ = built.update(built.init(jax.random.key(0)))
    moved = state.replace(obs_statistics=state.obs_statistics.replace(mean=state.obs_statistics.mean + 3))
    as_learned, otherwise = (built.evaluate(s, jax.random.key(1), True)["episode_return"] for s in (state, moved))
    assert np.abs(as_learned - otherwise).max() > 1e-3


@cases()
def test_evaluation_leaves_the_training_state_untouched(case):
    built = on_toy(case, **ACTIONS)
    state, _ = built.update(built.init(jax.random.key(0)))
    before = [np.array(x) for x in leaves(state)]
    first = built.evaluate(state, jax.random.key(1), True)
    for a, b in zip(before, leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
    second = built.evaluate(state, jax.random.key(1), True)
    np.testing.assert_array_equal(first["episode_return"], second["episode_return"])


@cases()
def test_observations_of_the_rollout_change_the_statistics_after_it(case):
    built = on_toy(case, **ACTIONS)
    state = built.init(jax.random.key(0))
    after, batch, _ = built.collect(state, jax.random.key(1))
    np.testing.assert_array_equal(after.obs_statistics.mean, state.obs_statistics.mean)
    np.testing.assert_array_equal(batch.obs, np.clip(batch.raw_obs, -10, 10))  # by the statistics before it
    updated, _ = built.update(state)
    assert updated.obs_statistics.count == 64
    assert np.abs(updated.obs_statistics.mean).max() > 0.01


@cases()
def test_only_what_episodes_tell_is_nan_when_none_ends(case):
    _, _, metrics = trained(case, max_steps=1000, anneal_learning_rate=True, learning_rate=0.3)
    assert metrics["episodes"].sum() == 0
    told = {"episode_return", "episode_length", "episode_success"}
    for name, values in metrics.items():
        assert (np.isnan(values) if name in told else np.isfinite(values)).all(), name
    assert told < set(metrics)


@cases()
def test_the_learning_rate_falls_to_zero_over_the_run(case):
    _, _, metrics = trained(case, max_steps=1000, anneal_learning_rate=True, learning_rate=0.3)
    np.testing.assert_allclose(metrics["learning_rate"], [0.3, 0.2, 0.1], rtol=1e-6)


@cases(*(name for name in CASES if name != "pqn"))
def test_the_entropy_bonus_is_subtracted_from_the_loss(case):
    """Without advantages and values the loss is -ent_coef * entropy, so that descent raises the entropy."""
    built = on_toy(case, ent_coef=0.25, vf_coef=0.0)
    state = built.init(jax.random.key(0))
    if case.num_actions:
        logits = np.array([0.0, 1.0, -1.0])
        params = set_last_layers(state.params, "actor", logits=logits)
        p = np.exp(logits) / np.exp(logits).sum()
        expected = -(p * np.log(p)).sum()
        slope = ("logits", -p * (np.log(p) + expected))  # of the entropy
    else:
        params = set_last_layers(state.params, "actor", mean=0.3, log_std=np.log(2.0))
        expected = 0.5 * np.log(2 * np.pi * np.e * 4.0)
        slope = ("log_std", np.ones(1))
    _, batch, _ = built.collect(state, jax.random.key(1))
    gradient, metrics = jax.jit(jax.grad(built.trainer.loss, has_aux=True))(
        params, built.trainer.initial_carry(4), batch, 0 * batch.value, batch.value
    )
    assert float(metrics["entropy"]) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["loss"]) == pytest.approx(-0.25 * expected, rel=1e-5)
    bias = gradient["params"]["actor"][slope[0]]["Dense_1"]["bias"]
    np.testing.assert_allclose(bias, -0.25 * slope[1], atol=1e-6)


@cases(*CASES)
def test_one_dimensional_actions_and_one_environment(case):
    config = small_config(case.module, env={"id": case.env_id}, num_envs=1, total_timesteps=32)
    built = compiled(case.module.make_train(config))
    state, metrics = built.train(jax.random.key(0))
    assert metrics["loss"].shape == (2,)
    assert state.stream.obs.shape[0] == 1
    assert np.isfinite(metrics["loss"]).all()
    carry, reset = built.trainer.initial_carry(1), jnp.zeros(1, bool)
    _, action, value = built.act(state, carry, state.stream.obs, reset, jax.random.key(0))
    assert action.shape == ((1,) if case.num_actions else (1, 1)) and value.shape == (1,)


@cases("ppo_continuous", "ppo_discrete", "a2c_discrete", "pqn", slow=["ppo_discrete", "pqn"])
def test_vmapped_training_equals_single_runs(case):
    built = on_toy(case, core="arelit", max_steps=5, total_timesteps=64)
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    states, metrics = jax.jit(jax.vmap(built.trainer.train))(keys)
    for k in range(3):
        state, one = built.train(jax.random.key(k))
        np.testing.assert_array_equal(
            jax.random.key_data(state.key), jax.random.key_data(jax.tree.map(lambda x, k=k: x[k], states.key))
        )
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(states.params), strict=True):
            np.testing.assert_allclose(a, b[k], atol=1e-5)
        np.testing.assert_allclose(one["episode_return"], metrics["episode_return"][k], rtol=1e-5)
    assert np.abs(states.stream.obs[0] - states.stream.obs[1]).max() > 1e-3, "seeds must differ"
