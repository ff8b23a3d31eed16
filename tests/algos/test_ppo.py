"""What PPO adds to what every trainer does, for both kinds of actions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.algos.trainers import cases, cases_and_cores, on_toy, small_config

both = cases("ppo_continuous", "ppo_discrete")


@cases_and_cores("ppo_continuous", "ppo_discrete")
def test_the_ratio_is_one_before_the_first_gradient_step(case, core):
    # Episodes of 5 steps put resets inside sequences of 8; from the second sequence on the memory is not empty.
    built = on_toy(case, max_steps=5, termination=0.1, core=core, update_epochs=1)
    state = built.init(jax.random.key(0))
    for _ in range(3):
        state, metrics = built.update(state)
        assert metrics["initial_ratio_error"] < 1e-4


@both
def test_the_objective_is_clipped(case):
    """Where the ratio left the range to the advantage's good side there is no gradient any more."""
    built = on_toy(case, sequence_length=16, clip_eps=0.1, vf_coef=0.0)
    state = built.init(jax.random.key(0))
    _, batch, _ = built.collect(state, jax.random.key(1))
    # Of mean 0 and deviation 1, so that normalising changes nothing.
    advantage = jnp.where(jnp.arange(16)[:, None] % 2 == 0, 1.0, -1.0) * jnp.ones_like(batch.value)
    carry = built.trainer.initial_carry(4)

    @jax.jit
    def gradient(ratio):
        """The policy gradient's norm and the loss if the ratio of every action is as given."""
        stored = batch._replace(log_prob=batch.log_prob - jnp.log(ratio))
        slope, metrics = jax.grad(built.trainer.loss, has_aux=True)(
            state.params, carry, stored, advantage, batch.value
        )
        return optax.global_norm(slope["params"]["actor"]), metrics

    better, worse = jnp.where(advantage > 0, 1.2, 0.8), jnp.where(advantage > 0, 0.8, 1.2)
    slope, metrics = gradient(better)
    assert slope < 1e-6
    assert float(metrics["policy_loss"]) == pytest.approx(-(1.1 - 0.9) / 2, abs=1e-5)
    assert metrics["clip_fraction"] == 1.0
    slope, metrics = gradient(worse)
    assert slope > 1e-3
    assert float(metrics["policy_loss"]) == pytest.approx(-(0.8 - 1.2) / 2, abs=1e-5)
    slope, metrics = gradient(jnp.full_like(advantage, 1.05))
    assert slope > 1e-3
    assert metrics["clip_fraction"] == 0.0
    assert float(metrics["approx_kl"]) == pytest.approx(0.05 - np.log(1.05), abs=1e-5)


@both
def test_the_scale_of_advantages_does_not_matter(case):
    built = on_toy(case, sequence_length=16, clip_eps=0.1, vf_coef=0.0)
    state = built.init(jax.random.key(0))
    _, batch, _ = built.collect(state, jax.random.key(1))
    advantage = jax.random.normal(jax.random.key(2), batch.value.shape)
    gradient = jax.jit(jax.grad(built.trainer.loss, has_aux=True))
    carry = built.trainer.initial_carry(4)
    one, ten = (gradient(state.params, carry, batch, k * advantage + k, batch.value)[0] for k in (1, 10))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(ten), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@both
def test_the_value_loss_is_half_the_squared_error(case):
    built = on_toy(case, sequence_length=16, clip_eps=0.1, vf_coef=0.0)
    state = built.init(jax.random.key(0))
    _, batch, _ = built.collect(state, jax.random.key(1))
    _, metrics = built.trainer.loss(
        state.params, built.trainer.initial_carry(4), batch, 0 * batch.value, batch.value + 3.0
    )
    assert float(metrics["value_loss"]) == pytest.approx(4.5, rel=1e-4)


@both
def test_value_clipping_is_around_the_old_value(case):
    """A value that moved towards its target by more than the clip gets no gradient any more."""
    built = on_toy(case, value_clip=0.1, sequence_length=16)
    state = built.init(jax.random.key(0))
    _, batch, _ = built.collect(state, jax.random.key(1))
    carry, advantage = built.trainer.initial_carry(4), jnp.zeros_like(batch.value)

    @jax.jit
    def value_gradient(old_value, target):
        gradient = jax.grad(built.trainer.loss, has_aux=True)(
            state.params, carry, batch._replace(value=old_value), advantage, target
        )[0]
        return optax.global_norm(gradient["params"]["critic"])

    value = batch.value
    assert value_gradient(value - 0.5, value + 1.0) < 1e-6  # moved up by 0.5, target further up: clipped
    assert value_gradient(value, value + 1.0) > 1e-3  # not moved yet
    assert value_gradient(value + 0.5, value + 1.0) > 1e-3  # moved the wrong way: not clipped


@both
def test_the_target_kl_stops_an_update(case):
    """The first of 16 gradient steps starts from a KL of 0, the second exceeds any target: one is taken."""
    built = on_toy(case, target_kl=1e-9, update_epochs=8, learning_rate=1e-2)
    state, metrics = built.update(built.init(jax.random.key(0)))
    assert optax.tree_utils.tree_get(state.opt_state, "count") == 1
    assert metrics["stopped"] == 15 / 16


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"num_minibatches": 7}, "num_minibatches=7"),
        ({"sequence_length": 5}, "sequence_length=5"),
        ({"clip_eps": float("inf")}, "clip_eps=inf"),
        ({"clip_eps": 0.0}, "clip_eps=0.0"),
        ({"value_clip": -1.0}, "value_clip=-1.0"),
        ({"target_kl": -1.0}, "target_kl=-1.0"),
        ({"update_epochs": 0}, "update_epochs=0"),
    ],
)
@both
def test_a_bad_config_names_the_field(case, settings, field):
    with pytest.raises(ValueError, match=field):
        small_config(case.module, **settings)
