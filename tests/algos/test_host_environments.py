"""Trainers on environments of the host do what they do on the same environment as a JAX program."""

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

import envs
from algos import ppo_arelit
from algos.harness import episode
from algos.harness.loop import begin_episodes
from tests.algos.toy import environment_is
from tests.algos.trainers import cases, compiled, leaves, small_config, small_core
from tests.envs.host_environments import LIMIT

MODULE = "tests.envs.host_environments"


@struct.dataclass
class Steps:
    time: jax.Array


class Twin(environment.Environment):
    """host_environments.undrawn as a JAX program."""

    def __init__(self, continuous):
        self.continuous = continuous

    def _see(self, time):
        return jnp.stack([time, time % 2, 0 * time, 0 * time]).astype(jnp.float32)

    def reset_env(self, key, params):
        return self._see(jnp.int32(0)), Steps(jnp.int32(0))

    def step_env(self, key, state, action, params):
        reward = action.reshape(-1)[0].astype(jnp.float32)
        return self._see(state.time + 1), Steps(state.time + 1), reward, jnp.zeros((), bool), {}

    def is_truncated(self, state, params):
        return state.time >= LIMIT

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,)) if self.continuous else spaces.Discrete(3)

    def observation_space(self, params):
        return spaces.Box(-10.0, 10.0, (4,))


def host_env(function, **options):
    return {"id": f"host/{MODULE}:{function}", "max_steps_in_episode": LIMIT, "workers": 2, **options}


@cases("ppo_discrete", "a2c_continuous", "ppo_continuous", slow=["ppo_discrete", "ppo_continuous"])
def test_updates_and_evaluation_are_those_on_the_twin(case):
    """Rewards, resets, the bootstrap from the final observation through the memory: all in the parameters."""
    settings = dict(core=small_core("gru"), previous_action_reward=True)
    continuous = not case.num_actions
    config = small_config(case.module, **settings)
    with environment_is(Twin(continuous)):
        twin = compiled(case.module.make_train(config))
    env = host_env("undrawn_continuous" if continuous else "undrawn")
    host = compiled(case.module.make_train(small_config(case.module, env=env, **settings)))
    states, evaluations = [], []
    for built in (twin, host):
        state = built.init(jax.random.key(0))
        for _ in range(2):
            state, metrics = built.update(state)
        assert metrics["episodes"] > 0
        states.append(state)
        evaluations.append(built.evaluate(state, jax.random.key(1), False))
    for one, other in zip(*(jax.tree.leaves(state.params) for state in states), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert evaluations[0].keys() == evaluations[1].keys()
    for name, values in evaluations[0].items():
        np.testing.assert_allclose(values, evaluations[1][name], rtol=1e-4, atol=1e-5, err_msg=name)
    host.trainer.env.workers.close()


@pytest.fixture(scope="module")
def cart_pole():
    """PPO on a real gymnasium environment, CartPole without its velocities."""
    env = {"id": f"gymnasium/{MODULE}:CartPoleP-v1", "max_steps_in_episode": 40, "workers": 2}
    built = compiled(ppo_arelit.make_train(small_config(ppo_arelit, env=env, core=small_core("gru"))))
    yield built
    built.trainer.env.workers.close()


def two_updates(built, key):
    state = built.init(key)
    state, _ = built.update(state)
    return built.update(state)


def test_two_seeds_in_one_program_are_two_single_runs(cart_pole):
    seeds = jax.random.split(jax.random.key(3), 2)
    trainer = cart_pole.trainer
    init, update = jax.jit(jax.vmap(trainer.init)), jax.jit(jax.vmap(trainer.update))
    state, _ = update(init(seeds))
    together, metrics = update(state)
    played = jax.jit(jax.vmap(lambda state, key: trainer.evaluate(state, key, True)))(together, seeds)
    for index in range(2):
        alone, alone_metrics = two_updates(cart_pole, seeds[index])
        assert alone_metrics["episodes"] == metrics["episodes"][index] > 0
        np.testing.assert_array_equal(together.stream.obs[index], alone.stream.obs)
        assert played["episode_length"].shape == (2, 3) and (played["episode_length"] >= 5).all()
        for one, other in zip(jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(one[index], other, rtol=1e-4, atol=1e-5)


def test_a_run_reproduces_from_its_key_and_evaluations_leave_it_alone(cart_pole):
    one, _ = two_updates(cart_pole, jax.random.key(0))
    state, _ = cart_pole.update(cart_pole.init(jax.random.key(0)))
    first = cart_pole.evaluate(state, jax.random.key(1), False)
    again = cart_pole.evaluate(state, jax.random.key(1), False)
    other, _ = cart_pole.update(state)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert first["episode_length"].shape == (3,) and (first["episode_return"] == first["episode_length"]).all()
    # The names of the environments, state.stream.env_state.env.slot, count on.
    for name in ("params", "opt_state", "obs_statistics"):
        jax.tree.map(np.testing.assert_array_equal, getattr(one, name), getattr(other, name))
    for name in ("obs", "carry"):
        jax.tree.map(np.testing.assert_array_equal, getattr(one.stream, name), getattr(other.stream, name))


def test_a_restored_state_goes_on_with_new_episodes(cart_pole):
    """As a resumed run does: all but the running episodes is kept, and what follows depends on the keys only."""
    state, _ = cart_pole.update(cart_pole.init(jax.random.key(0)))
    continued = []
    for _ in range(2):
        restored = begin_episodes(state, cart_pole.init(jax.random.key(5)))
        assert restored.stream.reset.all() and (restored.stream.discounted_return == 0).all()
        for name in ("params", "opt_state", "obs_statistics", "return_statistics", "key", "update"):
            assert getattr(restored, name) is getattr(state, name)
        assert restored.stream.carry is state.stream.carry
        continued.append(cart_pole.update(restored)[0])
    jax.tree.map(np.testing.assert_array_equal, continued[0].params, continued[1].params)
    with pytest.raises(Exception, match="must be each of the 4 environments that the last reset made"):
        jax.block_until_ready(cart_pole.update(state))  # its environments are gone


def test_images_reach_the_convolutions_and_episode_gif(tmp_path):
    env = host_env("image")
    settings = dict(conv_channels=(4,), conv_kernels=(4,), conv_strides=(2,), normalize_observations=False)
    built = compiled(ppo_arelit.make_train(small_config(ppo_arelit, env=env, **settings)))
    state = built.init(jax.random.key(0))
    assert state.stream.obs.dtype == jnp.uint8 and "Conv_0" in state.params["params"]["encoder"]
    state, metrics = built.update(state)
    assert all(np.isfinite(leaf).all() for leaf in leaves(state)) and metrics["episodes"] > 0
    assert envs.lives_on_host(built.trainer.env)
    episode.record(built.trainer, state, jax.random.key(0), tmp_path / "episode.gif")
    frames = iio.imread(tmp_path / "episode.gif")  # brighter by 40 in every step
    np.testing.assert_array_equal(frames[:, 0, 0, 0], 40 * np.arange(LIMIT + 1))
    built.trainer.env.workers.close()
