"""What is PPO's alone with continuous actions."""

import jax
import numpy as np
import pytest

from tests.algos.trainers import CASES, compiled, on_toy, set_last_layers, small_config


def test_the_gradient_is_that_of_the_stored_unclipped_action():
    """With advantage = action, the policy gradient with respect to the mean is -1 in units of the deviation.

    Normalised advantages are (action - mean) / std, so d loss / d mean = -E[(a - mean)^2] / std^3 = -1 / std.
    Drawing new actions in the loss would give 0; clipped ones would give less.
    """
    sizes = dict(num_envs=64, num_steps=64, sequence_length=64, total_timesteps=64 * 64)
    built = on_toy(CASES["ppo_continuous"], max_steps=1000, vf_coef=0.0, **sizes)
    state = built.init(jax.random.key(0))
    params = set_last_layers(state.params, "actor", mean=0.3, log_std=np.log(2.0))
    state = state.replace(params=params)
    _, batch, _ = built.collect(state, jax.random.key(5))
    actions = batch.action[..., 0]
    assert abs(float(actions.std()) - 2.0) < 0.1, "stored actions must not be clipped to [-1, 1]"
    gradient, metrics = jax.jit(jax.grad(built.trainer.loss, has_aux=True))(
        params, built.trainer.initial_carry(64), batch, actions, batch.value
    )
    head = gradient["params"]["actor"]
    assert float(head["mean"]["Dense_1"]["bias"][0]) == pytest.approx(-0.5, abs=0.03)  # -1 / std
    # A larger deviation is better or worse to no first order: E[z (z^2 - 1)] = 0.
    assert abs(float(head["log_std"]["Dense_1"]["bias"][0])) < 0.1
    assert metrics["approx_kl"] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_one_environment_of_a_physics_simulator_trains():
    config = small_config(
        CASES["ppo_continuous"].module, env={"id": "brax/inverted_pendulum-P"}, num_envs=1, total_timesteps=32
    )
    state, metrics = compiled(CASES["ppo_continuous"].module.make_train(config)).train(jax.random.key(0))
    assert metrics["loss"].shape == (2,) and state.stream.obs.shape[0] == 1
    assert np.isfinite(metrics["loss"]).all()
