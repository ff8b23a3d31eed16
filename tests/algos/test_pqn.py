"""What PQN adds to what every trainer does.

Values under truncation and an evaluation that leaves the state untouched are tested in test_all_trainers.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import networks
from algos import pqn_arelit
from algos.presets import PRESETS
from tests.algos.toy import Toy, environment_is
from tests.algos.trainers import CASES, leaves, on_toy, set_last_layers, small_config
from tests.marks import slow_if

PQN = CASES["pqn"]
ONE_SEQUENCE = dict(sequence_length=16, num_minibatches=1, update_epochs=1)
Q = np.array([0.5, 2.0, 1.0])


def constant_q(state, q=Q):
    """The state with Q values that do not depend on what is seen."""
    return state.replace(params=set_last_layers(state.params, "q", q=q))


def batch_of(built, **known):
    """(transitions [T, B] of these arrays, a reward of their shape, a last value [B])."""
    kind = pqn_arelit.Transition
    return kind(**dict.fromkeys(kind._fields) | {name: jnp.asarray(x) for name, x in known.items()})


# ------------------------------------------------------------------------------------------------------------
# Returns


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.0])
def test_targets_are_lambda_returns(decay):
    """Lambda 0: r + gamma max Q(s'); lambda 1: all rewards up to an end or the rollout's, and max Q there."""
    built = on_toy(PQN, gamma=0.9, gae_lambda=decay)
    rng = np.random.default_rng(0)
    steps, envs = 30, 5
    terminated = rng.random((steps, envs)) < 0.15
    truncated = rng.random((steps, envs)) < 0.15  # where both are set, terminated wins
    value, final_value, reward = rng.normal(size=(3, steps, envs))
    last_value = rng.normal(size=envs)
    batch = batch_of(built, value=value, terminated=terminated, truncated=truncated, final_value=final_value)
    ours = batch.value + built.trainer.advantages(batch, jnp.asarray(reward), jnp.asarray(last_value))
    assert (terminated & truncated).any() and (terminated | truncated)[-1].any() and not terminated[-1].all()

    def following(t, b):  # (max Q(s_{t+1}), whether the episode and the rollout go on)
        if terminated[t, b]:
            return 0.0, False
        if truncated[t, b]:
            return final_value[t, b], False
        return (last_value[b], False) if t + 1 == steps else (value[t + 1, b], True)

    for b in range(envs):
        for t in range(steps):
            expected, weight, k = 0.0, 1.0, t
            while True:
                next_value, goes_on = following(k, b)
                expected += weight * (reward[k, b] + 0.9 * (1 - decay * goes_on) * next_value)
                if not goes_on or decay == 0:
                    break
                weight, k = weight * 0.9 * decay, k + 1
            assert float(ours[t, b]) == pytest.approx(expected, abs=1e-4)


def test_an_update_moves_q_to_the_lambda_returns_of_the_scaled_reward(scale=3.0):
    """With Q = 0 the loss of a single gradient step is half the mean square of the known returns."""
    built = on_toy(
        PQN, reward=1.0, max_steps=1000, gamma=0.5, gae_lambda=1.0, normalize_rewards=False, reward_scale=scale,
        learning_rate=1e-3, max_grad_norm=1e6, **ONE_SEQUENCE,
    )  # fmt: skip
    state = constant_q(built.init(jax.random.key(0)), 0.0)
    after, metrics = built.update(state)
    returns = scale * (1 - 0.5 ** np.arange(16, 0, -1)) / (1 - 0.5)
    assert float(metrics["loss"]) == pytest.approx(0.5 * (returns**2).mean(), rel=1e-4)
    # RAdam's first steps are the gradient itself times the learning rate: it does not trust the variance yet.
    _, batch, _ = built.collect(state.replace(key=jax.random.split(state.key, 3)[0]),
                                jax.random.split(state.key, 3)[1])  # fmt: skip
    chosen = np.eye(3)[np.asarray(batch.action)]
    gradient = -(returns[:, None, None] * chosen).mean((0, 1))
    bias = after.params["params"]["q"]["q"]["Dense_1"]["bias"]
    np.testing.assert_allclose(bias, -1e-3 * gradient, rtol=1e-3)


# ------------------------------------------------------------------------------------------------------------
# Loss


def test_the_loss_is_half_the_squared_error_of_the_action_taken():
    """Its gradient with respect to the bias of action a is the mean of (Q(a) - target) where a was taken."""
    built = on_toy(PQN, max_steps=1000, **ONE_SEQUENCE)
    state = constant_q(built.init(jax.random.key(0)))
    _, batch, _ = built.collect(state, jax.random.key(1))
    target = jax.random.normal(jax.random.key(2), batch.value.shape)
    gradient, metrics = jax.jit(jax.grad(built.trainer.loss, has_aux=True))(
        state.params, built.trainer.initial_carry(4), batch, target
    )
    action = np.asarray(batch.action)
    error = Q[action] - np.asarray(target)
    assert float(metrics["loss"]) == pytest.approx(0.5 * (error**2).mean(), rel=1e-4)
    assert float(metrics["q_value"]) == pytest.approx(Q[action].mean(), rel=1e-5)
    expected = (error[..., None] * np.eye(3)[action]).mean((0, 1))
    np.testing.assert_allclose(gradient["params"]["q"]["q"]["Dense_1"]["bias"], expected, atol=1e-5)


def test_no_gradient_passes_through_targets():
    """An update's gradient is that of the loss with the targets as numbers, though they come from Q itself."""
    built = on_toy(PQN, max_steps=5, termination=0.1, normalize_rewards=False, max_grad_norm=1e6, **ONE_SEQUENCE)
    state = built.init(jax.random.key(0))
    state, rollout = jax.jit(built.trainer.collect)(state, jax.random.key(1))
    batch = rollout.transitions
    target = batch.value + built.trainer.advantages(batch, batch.reward, rollout.last_value)
    carry = jax.tree.map(lambda x: x[0], rollout.start_carries)
    learned = batch._replace(info=None, raw_obs=None)
    gradient = jax.grad(built.trainer.loss, has_aux=True)(state.params, carry, learned, jnp.array(target))[0]
    _, metrics = jax.jit(built.trainer.learn)(state, rollout, jax.random.key(2))
    assert float(metrics["grad_norm"]) == pytest.approx(float(optax.global_norm(gradient)), rel=1e-4)


@pytest.mark.parametrize("burn_in", [0, 6])
def test_burn_in_renews_the_memory_without_gradient_or_loss(burn_in):
    built = on_toy(PQN, core="gru", max_steps=1000, burn_in=burn_in, **ONE_SEQUENCE)
    state = built.init(jax.random.key(0))
    _, batch, _ = built.collect(state, jax.random.key(1))
    batch = batch._replace(reset=jnp.zeros_like(batch.reset))  # the empty memory stays, and is not cleared
    carry = built.trainer.initial_carry(4)
    target = jax.random.normal(jax.random.key(2), batch.value.shape)

    @jax.jit
    @jax.grad
    def slope(inputs):  # of the loss by what is seen, by the memory at the start and by the targets
        obs, carry, target = inputs
        return built.trainer.loss(state.params, carry, batch._replace(obs=obs), target)[0]

    of_obs, of_carry, of_target = slope((batch.obs, carry, target))
    assert not np.any(of_obs[:burn_in]) and not np.any(of_target[:burn_in])
    assert np.all(np.abs(of_obs[burn_in:]).max((1, 2)) > 0) and np.all(np.abs(of_target[burn_in:]) > 0)
    assert any(np.any(x) for x in jax.tree.leaves(of_carry)) == (burn_in == 0)
    # Burn-in is in the memory: what follows has the values of acting, and others with another memory.
    loss = jax.jit(built.trainer.loss)
    assert loss(state.params, carry, batch, target)[1]["value_error"] < 1e-5
    other = jax.tree.map(lambda x: x + 1.0, carry)
    assert loss(state.params, other, batch, target)[1]["value_error"] > 1e-4


@pytest.mark.parametrize("core", [pytest.param(core, marks=slow_if(core != "gru")) for core in networks.CORES])
def test_learning_sees_the_q_values_of_acting(core):
    # Episodes of 5 steps put resets inside sequences of 8; from the second sequence on the memory is not empty.
    built = on_toy(PQN, max_steps=5, termination=0.1, core=core, update_epochs=1)
    state = built.init(jax.random.key(0))
    for _ in range(3):
        before = state
        state, metrics = built.update(state)
        assert metrics["initial_value_error"] < 1e-4
    # Every action's: a segment at once and step by step.
    carry = before.stream.carry
    obs = jax.random.normal(jax.random.key(3), (6, 4, 3))
    reset = jnp.zeros((6, 4), bool).at[2].set(True).at[4, 1].set(True)
    forward = jax.jit(built.trainer.forward)
    whole = forward(before, carry, obs, reset)[1].preferences
    for t in range(6):
        carry, policy, value = forward(before, carry, obs[t : t + 1], reset[t : t + 1])
        np.testing.assert_allclose(policy.preferences[0], whole[t], atol=1e-4)
        np.testing.assert_allclose(value, policy.preferences.max(-1), rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------
# Exploration


def test_epsilon_falls_linearly_over_its_share_of_the_run_and_stays():
    built = on_toy(PQN, epsilon_start=0.9, epsilon_end=0.1, anneal_epsilon=0.5, total_timesteps=4 * 16 * 8)
    _, metrics = built.train(jax.random.key(0))
    np.testing.assert_allclose(metrics["epsilon"], [0.9, 0.7, 0.5, 0.3, 0.1, 0.1, 0.1, 0.1], rtol=1e-5)


def test_without_annealing_epsilon_is_at_its_end_from_the_start_on():
    built = on_toy(PQN, epsilon_start=0.9, epsilon_end=0.1, anneal_epsilon=0.0)
    _, metrics = built.update(built.init(jax.random.key(0)))
    assert float(metrics["epsilon"]) == pytest.approx(0.1)


def test_actions_are_random_with_the_probability_of_every_environment():
    """epsilon^(1 + 2 i / (B - 1)) of draws among all actions, the best one among them; else the best one."""
    built = on_toy(
        PQN, num_envs=3, num_steps=2048, sequence_length=2048, num_minibatches=1, max_steps=10**6,
        epsilon_start=0.6, epsilon_end=0.6, epsilon_spread=2.0, total_timesteps=3 * 2048,
    )  # fmt: skip
    state = constant_q(built.init(jax.random.key(0)))
    _, batch, _ = built.collect(state, jax.random.key(1))
    epsilon = 0.6 ** np.array([1.0, 2.0, 3.0])
    for action in range(3):
        expected = epsilon / 3 + (1 - epsilon) * (action == Q.argmax())
        error = 4 * np.sqrt(expected * (1 - expected) / 2048)
        assert np.all(np.abs(np.mean(batch.action == action, axis=0) - expected) < error)


def test_what_acts_outside_of_training_is_greedy():
    """Drawn or not: epsilon is of the rollouts alone. The reward of this toy is the action."""
    built = on_toy(PQN, epsilon_end=1.0)
    state = constant_q(built.init(jax.random.key(0)))
    before = [np.array(x) for x in leaves(state)]
    for deterministic in (True, False):
        evaluated = built.evaluate(state, jax.random.key(1), deterministic)
        np.testing.assert_array_equal(evaluated["episode_return"], [10.0] * 3)
    for a, b in zip(before, leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------------------------------
# Agent and settings


def test_the_encoder_and_the_head_have_layer_norm():
    with environment_is(Toy(num_actions=3)):
        trainer = pqn_arelit.make_train(small_config(pqn_arelit, encoder_widths=(8, 8)))
    params = jax.eval_shape(trainer.init, jax.random.key(0)).params["params"]
    assert {"LayerNorm_0", "LayerNorm_1"} <= set(params["encoder"]) and "LayerNorm_0" in params["q"]["q"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"burn_in": 8}, "burn_in=8: must be below sequence_length=8"),
        ({"burn_in": -1}, "burn_in=-1"),
        ({"sequence_length": 5}, "sequence_length=5"),
        ({"num_minibatches": 7}, "num_minibatches=7"),
        ({"epsilon_start": 1.5}, "epsilon_start=1.5"),
        ({"epsilon_end": -0.1}, "epsilon_end=-0.1"),
        ({"anneal_epsilon": 2.0}, "anneal_epsilon=2.0"),
        ({"epsilon_spread": -1.0}, "epsilon_spread=-1.0"),
        ({"reward_scale": 0.0}, "reward_scale=0.0"),
    ],
)
def test_a_bad_config_names_the_field(settings, field):
    with pytest.raises(ValueError, match=field):
        small_config(pqn_arelit, **settings)


@pytest.mark.slow
def test_the_published_craftax_configuration_trains():
    """One update of the core, head and encoder as published; fewer environments and steps."""
    pytest.importorskip("craftax", reason="needs the extra craftax: pip install -e '.[craftax]'")
    sizes = dict(num_envs=2, num_steps=4, sequence_length=4, num_minibatches=2, update_epochs=1, total_timesteps=8)
    trainer = pqn_arelit.make_train(pqn_arelit.Config(**PRESETS["pqn_arelit"]["craftax-pqn"] | sizes))
    state, metrics = jax.jit(lambda key: trainer.update(trainer.init(key)))(jax.random.key(0))
    assert metrics["grad_norm"] > 0 and float(metrics["initial_value_error"]) < 1e-4 and state.update == 1
