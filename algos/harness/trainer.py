"""What every trainer is made of: the contract between a trainer's file, the run loop and the scripts.

T steps of a rollout, B environments, L steps of a sequence, N sequences of a minibatch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

import envs
from algos.harness import evaluation
from algos.harness.fields import require
from networks.agent import is_image


@struct.dataclass
class Stream:
    """What passes from one environment step to the next; every leaf leads with the environments [B, ...].

    The run loop lays exactly this over devices, and restarts exactly this where environments live on the host.
    """

    env_state: Any  # of the batched environment
    obs: jax.Array  # [B, ...], raw
    reset: jax.Array  # [B] bool, true where obs starts an episode
    carry: Any  # the core's memory before obs
    discounted_return: jax.Array  # [B], of the rewards so far, by which rewards are scaled


class Rollout(NamedTuple):
    """What `collect` returns."""

    transitions: Any  # the trainer's Transition, every leaf [T, B, ...]
    start_carries: Any  # the core's memory at the start of every sequence [T / L, B, ...]
    last_value: jax.Array  # [B], of the observation after the last step


class Gradient(NamedTuple):
    """What an update learns from: gradient steps, each on some sequences of some environment steps."""

    steps: int
    length: int
    sequences: int


class Trainer(NamedTuple):
    """A run as pure functions of one seed, and the steps of an update on their own.

    `state` is the trainer's RunnerState, with fields params, stream, obs_statistics, key and update (int32,
    finished updates). Each line ends with who needs it.
    """

    config: Any  # the Config: loop, scripts
    env: Any  # gymnax Environment, with its wrappers: evaluation, benchmark, diagnose, export
    env_params: Any  # of env: the same
    num_updates: int  # of the whole run: loop
    gradient: Gradient  # benchmark
    init: Callable[..., Any]  # key -> state: loop, sweep, benchmark
    update: Callable[..., Any]  # state -> (state, metrics, each a scalar): loop, sweep, benchmark
    train: Callable[..., Any]  # key -> (state, metrics [num_updates]), the whole run as one scan: Python API
    collect: Callable[..., Any]  # (state, key) -> (state, Rollout): update, tests, benchmark
    learn: Callable[..., Any]  # (state, Rollout, key) -> (state, metrics): update, benchmark
    advantages: Callable[..., Any]  # (transitions, reward [T, B], last value [B]) -> [T, B]: tests
    loss: Callable[..., Any]  # (params, carry [N, ...], transitions [L, N], ...) -> (loss, metrics): tests
    act: Callable[..., Any]  # (state, carry, obs, reset, key, deterministic) -> (carry, action, value): evaluation
    forward: Callable[..., Any]  # (state, carry, obs [T, B, ...], reset) -> (carry, policy, value): diagnose
    initial_carry: Callable[..., Any]  # number of environments -> carry: evaluation, diagnose, export

    @property
    def lives_on_host(self) -> bool:
        """Whether the environment is no JAX program: loop, scripts."""
        return envs.lives_on_host(self.env)

    def evaluate(
        self, state: Any, key: jax.Array, deterministic: bool = False, num_episodes: int | None = None
    ) -> dict[str, jax.Array]:
        """What fresh episodes were worth, see evaluation.evaluate; None: eval_episodes of them. Loop, scripts."""
        count = self.config.eval_episodes if num_episodes is None else num_episodes
        # JAX refuses host calls in a while_loop under vmap.
        limit = self.env_params.max_steps_in_episode if self.lives_on_host else None
        return evaluation.evaluate(self, state, key, count, deterministic, limit)


def make_env(config: Any) -> tuple[Any, Any, envs.VectorEnv | envs.HostVectorEnv]:
    """The environment of a Config with its wrappers, its parameters, and the batched form that `collect` steps.

    Raises:
        ValueError: an unknown environment or option, or one that no trainer can play.
    """
    env, env_params = envs.make(config.env["id"], **{k: v for k, v in config.env.items() if k != "id"})
    limit = getattr(env_params, "max_steps_in_episode", 1)
    require(limit >= 1, "env: max steps of an episode", limit, "at least 1, for evaluations play to the end")
    env = envs.one_hot(env, env_params)
    if config.previous_action_reward:
        image = is_image(config, env.observation_space(env_params))
        require(not image, "previous_action_reward", True, "false where observations are images")
        env = envs.PreviousActionReward(env)
    # No start state serves twice in a rollout as long as episodes last 16 steps or more on average.
    start_states = max(config.num_envs, config.num_envs * config.num_steps // 16)
    return env, env_params, envs.vectorize(env, config.num_envs, start_states)


def episode_metrics(transitions: Any) -> dict[str, jax.Array]:
    """The number of episodes that ended in a rollout, and the means over them of what environments report.

    The means are NaN where `episodes` is 0.
    """
    done = transitions.terminated | transitions.truncated  # [T, B]
    episodes = done.sum(dtype=jnp.float32)

    def mean(values: jax.Array) -> jax.Array:  # in float32: sums of many lengths do not fit into an int32
        total = jnp.where(done, values, 0).sum(dtype=jnp.float32)
        return jnp.where(episodes > 0, total / jnp.maximum(episodes, 1), jnp.nan)

    reported = {name: values for name, values in transitions.info.items() if name.startswith("episode_")}
    return {"episodes": episodes, **{name: mean(values) for name, values in reported.items()}}
