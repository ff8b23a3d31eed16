"""What is PPO's alone with discrete actions."""

import jax
import numpy as np
import pytest

from algos import ppo_arelit
from algos.presets import PRESETS
from tests.algos.trainers import CASES, on_toy, set_last_layers


def test_the_gradient_is_that_of_the_stored_action():
    """d loss / d logits = -E[A (onehot(a) - softmax(logits))], with the stored actions and normalised A.

    Drawing new actions in the loss would give another sum, of the order of its noise around 0.
    """
    built = on_toy(CASES["ppo_discrete"], max_steps=1000, num_envs=16, sequence_length=16, vf_coef=0.0)
    logits = np.array([0.0, 1.0, -1.0])
    state = built.init(jax.random.key(0))
    state = state.replace(params=set_last_layers(state.params, "actor", logits=logits))
    _, batch, _ = built.collect(state, jax.random.key(5))
    advantage = np.asarray(batch.action == 1, np.float32)
    gradient, metrics = jax.jit(jax.grad(built.trainer.loss, has_aux=True))(
        state.params, built.trainer.initial_carry(16), batch, advantage, batch.value
    )
    normalised = (advantage - advantage.mean()) / advantage.std()
    p = np.exp(logits) / np.exp(logits).sum()
    expected = -(normalised[..., None] * (np.eye(3)[np.asarray(batch.action)] - p)).mean((0, 1))
    assert expected[1] < -0.3, "descent must make the action with the advantage more probable"
    slope = gradient["params"]["actor"]["logits"]["Dense_1"]["bias"]
    np.testing.assert_allclose(slope, expected, atol=1e-5)
    assert abs(float(metrics["approx_kl"])) < 1e-6
    np.testing.assert_allclose(batch.log_prob, np.log(p)[np.asarray(batch.action)], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["craftax-arelit", "craftax-gtrxl128"])
def test_the_published_craftax_configurations_train(preset):
    """One update of the core, heads and encoder as published; fewer environments and steps."""
    pytest.importorskip("craftax", reason="needs the extra craftax: pip install -e '.[craftax]'")
    sizes = dict(num_envs=2, num_steps=4, sequence_length=4, num_minibatches=2, update_epochs=1, total_timesteps=8)
    trainer = ppo_arelit.make_train(ppo_arelit.Config(**PRESETS["ppo_arelit"][preset] | sizes))
    state = jax.jit(trainer.init)(jax.random.key(0))
    after, metrics = jax.jit(trainer.update)(state)
    for name, value in metrics.items():
        assert np.isfinite(value).all(), name
    assert metrics["grad_norm"] > 0 and float(metrics["initial_ratio_error"]) < 1e-4
    assert state.stream.obs.shape == (2, 8268) and after.update == 1
