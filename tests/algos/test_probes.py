"""Trainers solve the probe environments with every core, and cannot without memory where it decides."""

import jax
import numpy as np
import pytest

import networks
from algos import a2c_arelit, ppo_arelit, pqn_arelit
from tests.algos.probes import use_probe

pytestmark = pytest.mark.slow

CORES = {
    "arelit": dict(n_layers=1, d_model=32, d_head=8, d_ffc=32, n_heads=2, eta=2, r=2),
    # A head whose nu relus are all off for what is seen at the end reads nothing, for ever: with nu 2 and two
    # heads that is one seed in sixteen.
    "relit": dict(n_layers=1, d_model=32, d_head=8, d_ffc=32, n_heads=4, nu=4),
    "gtrxl": dict(n_layers=1, d_model=32, d_head=8, n_heads=2, memory_len=8),
    "lstm": dict(n_layers=1, d_model=32),
    "gru": dict(n_layers=1, d_model=32),
    "mingru": dict(n_layers=1, d_model=32, d_inner=32, d_ffc=32),
    "lru": dict(n_layers=1, d_model=32, d_state=32),
    "s5": dict(n_layers=1, d_model=32, d_state=32),
    "rtu": dict(n_layers=1, d_model=32, d_state=32, d_ffc=32),
    "ffm": dict(n_layers=1, d_model=32, d_memory=8, n_contexts=2),
    "mamba2": dict(n_layers=1, d_model=32, n_heads=2, d_head=16, d_state=8),
    "gated_deltanet": dict(n_layers=1, d_model=32, n_heads=2, d_key=8, d_value=16),
    "mlstm": dict(n_layers=1, d_model=32, n_heads=2, d_head=16),
    "frame_stack": dict(n_layers=1, d_model=32, n_frames=8),
    "memory_trace": dict(n_layers=2, d_model=32, horizon=8, episodic=True),
    "feedforward": dict(n_layers=1, d_model=32),
}
GAMMA = 0.8


def trained(algo, core, num_updates, **changes):
    """(trainer, state) after num_updates rollouts of 16 environments x 40 steps; changes: to the core."""
    settings = dict(
        core={"name": core, **CORES[core], **changes},
        num_envs=16,
        num_steps=40,
        total_timesteps=16 * 40 * num_updates,
        eval_episodes=400,
        gamma=GAMMA,
        learning_rate=3e-3,
        anneal_learning_rate=True,
    )
    if algo is pqn_arelit:
        settings |= dict(q_hidden=32, epsilon_end=0.05, anneal_epsilon=0.3)
    else:
        settings |= dict(actor_hidden=32, critic_hidden=32, ent_coef=0.01)
    if algo is not a2c_arelit:
        settings |= dict(sequence_length=20, num_minibatches=4, update_epochs=4)
        settings["total_timesteps"] //= 4 if algo is ppo_arelit else 2
    trainer = algo.make_train(algo.Config(**settings))
    key = jax.random.key(0)
    # Compiled as conftest has it, ReLiT's would run five times as long: over a minute.
    train = jax.jit(trainer.train).lower(key).compile(compiler_options={"xla_backend_optimization_level": 1})
    return trainer, train(key)[0]


def values(algo, trainer, state):
    """(batch of a rollout, its values [T, B])."""
    batch = jax.jit(trainer.collect)(state, jax.random.key(1))[1].transitions
    return batch, np.asarray(batch.value)


both = pytest.mark.parametrize("algo", [a2c_arelit, ppo_arelit], ids=["a2c", "ppo"])
# PQN hands a core its memory as PPO does: with AReLiT and GRU alone.
with_cores = pytest.mark.parametrize(
    ("algo", "core"),
    [
        *(pytest.param(a2c_arelit, core, id=f"a2c-{core}") for core in networks.CORES),
        *(pytest.param(ppo_arelit, core, id=f"ppo-{core}") for core in networks.CORES),
        *(pytest.param(pqn_arelit, core, id=f"pqn-{core}") for core in ("arelit", "gru")),
    ],
)


@with_cores
def test_the_value_of_a_single_step_is_its_reward(monkeypatch, algo, core):
    use_probe(monkeypatch, "value_only")
    _, value = values(algo, *trained(algo, core, 200))
    np.testing.assert_allclose(value, 1.0, atol=0.1)


@with_cores
def test_the_value_follows_the_observation(monkeypatch, algo, core):
    use_probe(monkeypatch, "reward_by_observation")
    batch, value = values(algo, *trained(algo, core, 400))
    np.testing.assert_allclose(value, batch.obs[..., 0], atol=0.15)


@with_cores
def test_the_value_of_an_endless_task_is_bootstrapped_through_truncations(monkeypatch, algo, core):
    use_probe(monkeypatch, "truncation", limit=5)
    _, value = values(algo, *trained(algo, core, 600))
    assert value.mean() == pytest.approx(1 / (1 - GAMMA), rel=0.1)


@with_cores
@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_cue_is_recalled_after_some_steps(monkeypatch, algo, core, length):
    use_probe(monkeypatch, "recall", length=length)
    trainer, state = trained(algo, core, 800)
    returns = np.asarray(jax.jit(trainer.evaluate)(state, jax.random.key(1))["episode_return"])
    if core == "feedforward" and length > 1:
        assert abs(returns.mean()) < 0.2  # four standard errors of a coin
    else:
        assert returns.mean() > 0.95


@both
def test_a_cue_older_than_the_frames_is_lost(monkeypatch, algo):
    use_probe(monkeypatch, "recall", length=5)
    trainer, state = trained(algo, "frame_stack", 800, n_frames=4)
    returns = np.asarray(jax.jit(trainer.evaluate)(state, jax.random.key(1))["episode_return"])
    assert abs(returns.mean()) < 0.2  # four standard errors of a coin
