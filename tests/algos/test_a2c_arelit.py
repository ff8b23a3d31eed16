"""What A2C adds to what every trainer does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import a2c_arelit
from algos.presets import PRESETS
from tests.algos.toy import Toy, environment_is
from tests.algos.trainers import CASES, cases, on_toy, set_last_layers, small_config
from tests.marks import around_every_core

both = cases("a2c_discrete", "a2c_continuous")
LOGITS = np.array([0.0, 1.0, -1.0])


def rollout(case):
    """(built, state, batch) of a policy that does not depend on what it sees: softmax(LOGITS) or N(0.3, 2)."""
    built = on_toy(case, max_steps=1000, vf_coef=0.3, ent_coef=0.0)
    state = built.init(jax.random.key(0))
    constant = {"logits": LOGITS} if case.num_actions else {"mean": 0.3, "log_std": np.log(2.0)}
    state = state.replace(params=set_last_layers(state.params, "actor", **constant))
    return built, state, built.collect(state, jax.random.key(5))[1]


def gradient_of(built, state, batch, advantage, target):
    gradient = jax.jit(jax.grad(built.trainer.loss, has_aux=True))
    return gradient(state.params, built.trainer.initial_carry(4), batch, advantage, target)


@around_every_core("core")
def test_learning_sees_the_values_of_acting(core):
    # Episodes of 5 steps put resets inside the rollout; from the second rollout on the memory is not empty.
    built = on_toy(CASES["a2c_discrete"], max_steps=5, termination=0.1, core=core)
    state = built.init(jax.random.key(0))
    for _ in range(3):
        state, metrics = built.update(state)
        assert metrics["initial_value_error"] < 1e-4


@both
def test_the_policy_gradient_is_that_of_the_stored_action(case):
    """-E[A d log pi(a)] with the stored, unclipped actions and the advantages as they are."""
    built, state, batch = rollout(case)
    advantage = np.square(np.asarray(batch.action, np.float32).reshape(batch.value.shape) + 0.5)
    gradient, metrics = gradient_of(built, state, batch, advantage, batch.value)
    action, head = np.asarray(batch.action), gradient["params"]["actor"]
    if case.num_actions:
        log_p = LOGITS - np.log(np.exp(LOGITS).sum())
        slopes = {"logits": np.eye(3)[action] - np.exp(log_p)}
        log_prob = log_p[action]
    else:
        z = (action - 0.3) / 2.0
        slopes = {"mean": z / 2.0, "log_std": z**2 - 1}
        log_prob = (-0.5 * z**2 - np.log(2.0) - 0.5 * np.log(2 * np.pi))[..., 0]
        assert np.abs(action).max() > 1
    assert float(metrics["policy_loss"]) == pytest.approx(-(log_prob * advantage).mean(), rel=1e-4)
    for name, slope in slopes.items():
        expected = -(advantage[..., None] * slope).mean((0, 1))
        assert np.abs(expected).max() > 0.05
        np.testing.assert_allclose(head[name]["Dense_1"]["bias"], expected, atol=1e-5)


@both
def test_advantages_are_not_normalised(case):
    built, state, batch = rollout(case)
    advantage = jax.random.normal(jax.random.key(2), batch.value.shape)
    one, ten = (gradient_of(built, state, batch, k * advantage, batch.value)[0] for k in (1, 10))
    for a, b in zip(jax.tree.leaves(one["params"]["actor"]), jax.tree.leaves(ten["params"]["actor"]), strict=True):
        np.testing.assert_allclose(10 * a, b, atol=1e-4)


@both
def test_the_value_loss_is_the_squared_error(case):
    """Not halved; its gradient with respect to the value's bias is vf_coef * 2 (V - target)."""
    built, state, batch = rollout(case)
    target = batch.value + jax.random.normal(jax.random.key(2), batch.value.shape) + 0.5
    gradient, metrics = gradient_of(built, state, batch, 0 * target, target)
    error = np.asarray(batch.value - target)
    assert float(metrics["value_loss"]) == pytest.approx((error**2).mean(), rel=1e-4)
    assert float(metrics["loss"]) == pytest.approx(0.3 * (error**2).mean(), rel=1e-4)
    bias = gradient["params"]["critic"]["value"]["Dense_1"]["bias"]
    assert float(bias[0]) == pytest.approx(0.3 * 2 * error.mean(), rel=1e-3)


def test_targets_are_lambda_returns():
    """G_t = r + gamma ((1 - lambda) V(s_{t+1}) + lambda G_{t+1}), r alone at an end, V(final) at a time limit."""
    built = on_toy(CASES["a2c_discrete"], reward=2.0, max_steps=5, termination=0.1, gamma=0.9, gae_lambda=0.7)
    state = built.init(jax.random.key(0))
    _, batch, last_value = built.collect(state, jax.random.key(1))
    targets = np.asarray(built.trainer.advantages(batch, batch.reward, last_value) + batch.value)
    value, final_value = np.asarray(batch.value), np.asarray(batch.final_value)
    assert batch.terminated.any() and batch.truncated.any()
    following_return = following_value = np.asarray(last_value)
    for t in reversed(range(16)):
        continued = np.where(batch.truncated[t], final_value[t], 0.3 * following_value + 0.7 * following_return)
        following_return = 2.0 + 0.9 * np.where(batch.terminated[t], 0.0, continued)
        np.testing.assert_allclose(targets[t], following_return, rtol=1e-5)
        following_value = value[t]


@both
def test_an_update_is_one_gradient_step_on_lambda_returns(case):
    """With V = 0 everywhere and a reward of 1 the mean squared target is known: the targets reach the loss."""
    built = on_toy(
        case, reward=1.0, max_steps=1000, gamma=0.5, gae_lambda=1.0, normalize_rewards=False, learning_rate=1e-3
    )
    state = built.init(jax.random.key(0))
    start = set_last_layers(state.params, "critic", value=0.0)
    after, metrics = built.update(state.replace(params=start))
    returns = (1 - 0.5 ** np.arange(16, 0, -1)) / (1 - 0.5)
    assert float(metrics["value_loss"]) == pytest.approx((returns**2).mean(), rel=1e-4)
    changed = after.params["params"]["critic"]["value"]["Dense_1"]["bias"]
    assert float(changed[0]) == pytest.approx(1e-3, rel=1e-3)  # Adam's first step: the learning rate, upwards


def small_halfcheetah():
    """The published configuration, its core, heads and normalisation as they are; fewer environments and steps."""
    sizes = dict(num_envs=2, num_steps=4, total_timesteps=8)
    return a2c_arelit.make_train(a2c_arelit.Config(**PRESETS["a2c_arelit"]["halfcheetah-relit"] | sizes)).train


def test_the_published_halfcheetah_configuration_fits_together():
    """Traced only: compiling the simulator takes longer than all other tests of A2C."""
    state, metrics = jax.eval_shape(small_halfcheetah(), jax.random.key(0))
    assert state.stream.obs.shape == (2, 17) and metrics["loss"].shape == (1,)


@pytest.mark.slow
def test_the_published_halfcheetah_configuration_trains():
    state, metrics = jax.jit(small_halfcheetah())(jax.random.key(0))
    assert metrics["episodes"][0] == 0
    for name, value in metrics.items():
        assert np.isfinite(value).all() or name.startswith("episode_"), name  # NaN where no episode ended
    assert metrics["grad_norm"][0] > 0 and state.obs_statistics.count == 8


def test_both_kinds_of_actions_are_drawn_with_the_right_head():
    for num_actions, head in ((3, {"logits"}), (0, {"mean", "log_std"})):
        with environment_is(Toy(num_actions=num_actions)):
            trainer = a2c_arelit.make_train(small_config(a2c_arelit))
        params = jax.eval_shape(trainer.init, jax.random.key(0)).params["params"]
        assert set(params["actor"]) == head
        shapes = {layer["Dense_1"]["kernel"].shape for layer in params["actor"].values()}
        assert shapes == {(16, num_actions or 1)} and jnp.ndim(params["critic"]["value"]["Dense_1"]["bias"]) == 1
