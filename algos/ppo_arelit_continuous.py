"""PPO with a recurrent memory core and a Gaussian policy, for continuous control under partial observability.

The core is AReLiT (arXiv 2310.15719) or any other of `networks`; PPO follows Schulman et al. (2017), with whole
sequences as minibatches, each starting from the memory that acting had there. Environment step, memory core and
update are one compiled program.

    python algos/ppo_arelit_continuous.py                                   # a double pendulum, velocities hidden
    python algos/ppo_arelit_continuous.py --core.name feedforward           # the same without memory
    python algos/ppo_arelit_continuous.py --preset hopper-P --num-seeds 4
    python algos/ppo_arelit_continuous.py --preset halfcheetah-arelit --total-timesteps 1000000

Several seeds as one program, without the command line:

    train = make_train(Config(total_timesteps=100_000)).train
    states, metrics = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 4))
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

import envs
import networks
from algos import harness
from networks.actor_critic import ActorCritic
from networks.batching import any_in_batch, repeat_until
from networks.encoders import MLPEncoder
from networks.heads import GaussianHead, ValueHead
from networks.normalization import RunningStatistics

# --------------------------------------------------------------------------------------------------------------
# Config


@dataclass(frozen=True)
class Config:
    """PPO for continuous actions. Lengths are in environment steps unless they say otherwise."""

    # Run
    seed: int = 0
    """First seed; the others are seed + 1, seed + 2, ..."""
    num_seeds: int = 1
    """Seeds trained side by side in one program."""
    total_timesteps: int = 1_000_000
    """Environment steps a seed, rounded up to whole updates."""
    eval_episodes: int = 32
    """Fresh episodes of every evaluation."""
    run_dir: str = ""
    """Where the run is written; empty: runs/<algorithm>-<environment>-<core>-s<seed>-<time>."""
    resume: str = ""
    """Run directory to continue; needs no other flag."""
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    """Also log to Weights & Biases."""

    # Environment
    env: dict[str, Any] = field(default_factory=lambda: {"id": "brax/inverted_double_pendulum-P"})
    """Environment id and its options."""
    num_envs: int = 32
    """Environments a seed."""
    previous_action_reward: bool = False
    """Append the previous action and reward to the observation."""

    # Core
    core: dict[str, Any] = field(
        default_factory=lambda: {
            "name": "arelit",
            "n_layers": 2,
            "d_model": 64,
            "d_head": 32,
            "d_ffc": 64,
            "n_heads": 2,
            "eta": 2,
            "r": 2,
        }
    )
    """Memory core and its hyperparameters."""
    encoder_widths: tuple[int, ...] = ()
    """Widths of a Dense + relu encoder before the core; none: the observation itself."""
    actor_hidden: int = 128
    """Width of the policy head's hidden layer."""
    critic_hidden: int = 128
    """Width of the value head's hidden layer."""
    actor_scale: float = 0.01
    """Gain of the policy head's last layer at the start (published: sqrt 2)."""
    critic_scale: float = 1.0
    """Gain of the value head's last layer at the start (published: sqrt 2)."""

    # Algorithm
    num_steps: int = 128
    """Steps of every environment between updates."""
    sequence_length: int = 32
    """Steps of a training sequence; divides num_steps."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    anneal_learning_rate: bool = True
    """Lower the learning rate linearly to zero over the run."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this global norm."""
    gamma: float = 0.99
    """Discount a step."""
    gae_lambda: float = 0.95
    """Decay of generalised advantage estimation."""
    update_epochs: int = 4
    """Passes over every rollout."""
    num_minibatches: int = 8
    """Minibatches a pass; divides num_envs x num_steps / sequence_length."""
    clip_eps: float = 0.2
    """Range of the probability ratio."""
    value_clip: float = 0.0
    """Range of the new value around the old; 0: unclipped."""
    target_kl: float = 0.0
    """No further gradient step of an update once its approximate KL exceeds this; 0: no limit."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    normalize_observations: bool = True
    """Normalise observations by running statistics."""
    normalize_rewards: bool = True
    """Divide rewards by the running standard deviation of the discounted return."""
    normalization_clip: float = 10.0
    """Range of normalised observations and rewards."""

    def __post_init__(self) -> None:
        for name, key in (("env", "id"), ("core", "name")):
            _require(key in getattr(self, name), name, getattr(self, name), f"a dictionary with {key!r}")
        sizes = "num_envs num_steps sequence_length num_minibatches update_epochs eval_episodes"
        sizes += " actor_hidden critic_hidden num_seeds"
        for name in sizes.split():
            _require(1 <= getattr(self, name) <= 2**20, name, getattr(self, name), "from 1 to 2^20")
        most = 2**30 // self.num_envs
        _require(self.num_steps <= most, "num_steps", self.num_steps, f"at most 2^30 / num_envs = {most}")
        _require(1 <= self.total_timesteps <= 10**15, "total_timesteps", self.total_timesteps, "from 1 to 10^15")
        last_seed = self.seed + self.num_seeds - 1
        _require(0 <= self.seed <= last_seed < 2**31, "seed", self.seed, "from 0, and the last seed below 2^31")
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, float):
                in_range = value == 0 or 1e-37 < abs(value) < 1e38  # not NaN, and a float32
                _require(in_range, entry.name, value, "a finite number within the range of float32")
        for name in "learning_rate adam_eps max_grad_norm normalization_clip clip_eps".split():
            _require(getattr(self, name) > 0, name, getattr(self, name), "greater than 0")
        for name in "actor_scale critic_scale value_clip target_kl vf_coef ent_coef".split():
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("gamma", "gae_lambda"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        widths = self.encoder_widths
        _require(all(1 <= width <= 2**16 for width in widths), "encoder_widths", widths, "all from 1 to 2^16")
        steps, length = self.num_steps, self.sequence_length
        _require(steps % length == 0, "sequence_length", length, f"a divisor of num_steps={steps}")
        sequences = self.num_envs * steps // length
        allowed = f"a divisor of num_envs x num_steps / sequence_length = {sequences}"
        _require(sequences % self.num_minibatches == 0, "num_minibatches", self.num_minibatches, allowed)

    @property
    def num_updates(self) -> int:
        return -(-self.total_timesteps // (self.num_envs * self.num_steps))


def _require(holds: bool, name: str, value: Any, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value}: must be {allowed}")


def _brax_preset(task: str, **settings: Any) -> dict[str, Any]:
    core = {"name": "arelit", "n_layers": 2, "d_model": 128, "d_head": 32, "d_ffc": 128, "n_heads": 4}
    return {
        "env": {"id": f"brax/{task}"},
        "core": core | {"eta": 4, "r": 2},
        "total_timesteps": 5_000_000,
        **settings,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # The published configuration; HalfCheetah-v4 there is Brax's halfcheetah here.
    "halfcheetah-arelit": {
        "env": {"id": "brax/halfcheetah"},
        "core": {
            "name": "arelit",
            "n_layers": 3,
            "d_model": 128,
            "d_head": 64,
            "d_ffc": 128,
            "n_heads": 1,
            "eta": 4,
            "r": 2,
        },
        "total_timesteps": 100_000_000,
        "num_envs": 8,
        "num_steps": 512,
        "sequence_length": 512,
        "learning_rate": 1e-4,
        "anneal_learning_rate": False,
        "num_minibatches": 4,
        "update_epochs": 10,
        "max_grad_norm": 0.25,
        "actor_scale": math.sqrt(2),
        "critic_scale": math.sqrt(2),
    },
    **{
        task + hidden: _brax_preset(task + hidden)
        for task in ("ant", "hopper", "walker2d")
        for hidden in ("", "-P", "-V")
    },
}

# --------------------------------------------------------------------------------------------------------------
# Runner state


@struct.dataclass
class RunnerState:
    """Everything a run needs to go on: nothing else is carried from one update to the next."""

    params: Any
    opt_state: optax.OptState
    obs_statistics: RunningStatistics  # of raw observations
    return_statistics: RunningStatistics  # of the discounted return, by which rewards are scaled
    discounted_return: jax.Array  # [B]
    env_state: Any
    obs: jax.Array  # [B, D], raw
    reset: jax.Array  # [B], true where obs starts an episode
    carry: Any  # the core's memory before obs
    key: jax.Array
    update: jax.Array  # finished updates, int32


class Transition(NamedTuple):
    """One step of all environments; a rollout stacks them to [T, B, ...]."""

    obs: jax.Array  # normalised, as the policy saw it
    reset: jax.Array
    action: jax.Array  # as drawn, before clipping
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array  # raw
    terminated: jax.Array
    truncated: jax.Array
    final_value: jax.Array  # V(final observation) where truncated, and all over the last step; else not to be used
    raw_obs: jax.Array | None  # for the statistics; None without them
    info: dict[str, jax.Array]


class Trainer(NamedTuple):
    """The run as pure functions, and the steps of an update on their own."""

    init: Callable  # key -> state
    update: Callable  # state -> (state, metrics)
    evaluate: Callable  # (state, key, deterministic) -> returns and lengths of fresh episodes
    train: Callable  # key -> (state, metrics [num_updates])
    act: Callable  # (state, carry, obs, reset, key, deterministic) -> (carry, action, value)
    forward: Callable  # (state, carry, obs [T, B, ...], reset [T, B]) -> (carry, policy's distribution, value)
    initial_carry: Callable  # batch size -> carry
    collect: Callable  # (state, key) -> (state, batch, carries at sequence starts, last value)
    advantages: Callable  # (batch, reward, last value) -> advantages
    loss: Callable  # (params, carry, batch, advantage, target) -> (loss, metrics)
    num_updates: int
    env: Any
    env_params: Any


def make_train(config: Config) -> Trainer:
    """Build the trainer. Raises ValueError for a config that cannot run, before anything is traced."""
    env, env_params = envs.make(config.env["id"], **{k: v for k, v in config.env.items() if k != "id"})
    limit = getattr(env_params, "max_steps_in_episode", 1)
    _require(limit >= 1, "env: max steps of an episode", limit, "at least 1, for evaluations play to the end")
    if config.previous_action_reward:
        env = envs.PreviousActionReward(env)
    action_space = env.action_space(env_params)
    if not hasattr(action_space, "low"):
        raise ValueError(f"env.id={config.env['id']!r}: must be an environment with continuous actions")
    obs_space = env.observation_space(env_params)

    # No start state serves twice in a rollout as long as episodes last 16 steps or more on average.
    start_states = max(config.num_envs, config.num_envs * config.num_steps // 16)
    vec_env = envs.vectorize(env, config.num_envs, start_states)
    agent = ActorCritic(
        encoder=MLPEncoder(config.encoder_widths),
        core=networks.make_core(**config.core),
        actor=GaussianHead(config.actor_hidden, math.prod(action_space.shape), config.actor_scale),
        critic=ValueHead(config.critic_hidden, config.critic_scale),
    )
    num_sequences = config.num_envs * config.num_steps // config.sequence_length
    # The learning rate multiplies in `update`, where the run's progress is known.
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=config.adam_eps)
    )

    def normalize(statistics: RunningStatistics, obs: jax.Array) -> jax.Array:
        return statistics.normalize(obs, config.normalization_clip) if config.normalize_observations else obs

    def to_env(action: jax.Array) -> jax.Array:
        """What the environment receives of an action [B, A]: in its bounds and shape."""
        return jnp.clip(action.reshape(-1, *action_space.shape), action_space.low, action_space.high)

    def init(key: jax.Array) -> RunnerState:
        key, params_key, env_key = jax.random.split(key, 3)
        obs, env_state = vec_env.reset(env_key, env_params)
        carry = agent.initialize_carry((config.num_envs,))
        reset = jnp.ones(config.num_envs, bool)
        params = agent.init(params_key, carry, obs[None], reset[None])
        return RunnerState(
            params=params,
            opt_state=optimizer.init(params),
            obs_statistics=RunningStatistics.create(obs_space.shape),
            return_statistics=RunningStatistics.create(()),
            discounted_return=jnp.zeros(config.num_envs),
            env_state=env_state,
            obs=obs,
            reset=reset,
            carry=carry,
            key=key,
            update=jnp.zeros((), jnp.int32),
        )

    # ----------------------------------------------------------------------------------------------------------
    # Collect

    def collect(state: RunnerState, key: jax.Array) -> tuple[RunnerState, Transition, Any, jax.Array]:
        """One rollout with frozen parameters and statistics.

        Returns the state after it, transitions [T, B, ...], the memory at the start of every sequence
        [T / sequence_length, B, ...], and the value of the observation after the last step [B].
        """

        def policy(carry, obs, reset):
            obs = normalize(state.obs_statistics, obs)
            carry, distribution, value = agent.apply(state.params, carry, obs[None], reset[None])
            return carry, obs, distribution, value[0]

        def step(loop, inputs):
            env_state, raw_obs, reset, carry = loop
            key, is_last = inputs
            action_key, env_key = jax.random.split(key)
            carry, obs, distribution, value = policy(carry, raw_obs, reset)
            action, log_prob = distribution.sample_and_log_prob(seed=action_key)
            action, log_prob = action[0], log_prob[0]
            next_obs, env_state, reward, terminated, truncated, info = vec_env.step(
                env_key, env_state, to_env(action), env_params
            )
            # A time limit is no end of the task: its return is bootstrapped from the final observation, which
            # the core sees after all before it and without a reset. Few steps need this second forward pass; the
            # rollout's last step is one, for its return is bootstrapped likewise.
            final_obs = info.pop("final_observation")
            final_value = jax.lax.cond(
                any_in_batch(truncated) | is_last,
                lambda: policy(carry, final_obs, jnp.zeros_like(truncated))[3],
                lambda: jnp.zeros_like(value),
            )
            seen = raw_obs if config.normalize_observations else None
            transition = Transition(
                obs, reset, action, log_prob, value, reward, terminated, truncated, final_value, seen, info
            )
            return (env_state, next_obs, terminated | truncated, carry), transition

        def sequence(loop, inputs):
            start_carry = loop[3]
            loop, transitions = jax.lax.scan(step, loop, inputs)
            return loop, (start_carry, transitions)

        refresh_key, key = jax.random.split(key)
        env_state = vec_env.refresh(refresh_key, state.env_state, env_params)
        shape = (config.num_steps // config.sequence_length, config.sequence_length)
        is_last = (jnp.arange(config.num_steps) == config.num_steps - 1).reshape(shape)
        loop = (env_state, state.obs, state.reset, state.carry)
        inputs = (jax.random.split(key, shape), is_last)
        (env_state, obs, reset, carry), (start_carries, batch) = jax.lax.scan(sequence, loop, inputs)
        batch = jax.tree.map(lambda x: x.reshape(config.num_steps, *x.shape[2:]), batch)  # [T, B, ...]
        state = state.replace(env_state=env_state, obs=obs, reset=reset, carry=carry)
        return state, batch, start_carries, batch.final_value[-1]

    # ----------------------------------------------------------------------------------------------------------
    # Normalise

    def update_statistics(state: RunnerState, batch: Transition) -> tuple[RunnerState, jax.Array]:
        """Learn from the rollout's raw observations and rewards; returns rewards scaled for learning [T, B]."""
        if config.normalize_observations:
            state = state.replace(obs_statistics=state.obs_statistics.update(batch.raw_obs))
        if not config.normalize_rewards:
            return state, batch.reward

        def discount(discounted_return, step):
            reward, done = step
            discounted_return = config.gamma * discounted_return + reward
            return jnp.where(done, 0.0, discounted_return), discounted_return

        done = batch.terminated | batch.truncated
        running, returns = jax.lax.scan(discount, state.discounted_return, (batch.reward, done))
        statistics = state.return_statistics.update(returns)
        state = state.replace(return_statistics=statistics, discounted_return=running)
        return state, statistics.scale(batch.reward, config.normalization_clip)

    # ----------------------------------------------------------------------------------------------------------
    # Advantages

    def advantages(batch: Transition, reward: jax.Array, last_value: jax.Array) -> jax.Array:
        """Generalised advantage estimation (Schulman et al., 2016) [T, B].

        A termination cuts the bootstrap; a truncation bootstraps from V(final observation).
        """
        next_value = jnp.concatenate([batch.value[1:], last_value[None]])
        next_value = jnp.where(batch.truncated, batch.final_value, next_value)
        next_value = jnp.where(batch.terminated, 0.0, next_value)
        delta = reward + config.gamma * next_value - batch.value
        done = batch.terminated | batch.truncated

        def step(following, step):
            delta, done = step
            advantage = delta + config.gamma * config.gae_lambda * jnp.where(done, 0.0, following)
            return advantage, advantage

        return jax.lax.scan(step, jnp.zeros_like(last_value), (delta, done), reverse=True)[1]

    # ----------------------------------------------------------------------------------------------------------
    # Loss

    def loss(params, carry, batch: Transition, advantage, target) -> tuple[jax.Array, dict[str, jax.Array]]:
        """PPO's clipped objective on sequences [S, N, ...], each from its own memory [N, ...]."""
        _, distribution, value = agent.apply(params, carry, batch.obs, batch.reset)
        log_ratio = distribution.log_prob(batch.action) - batch.log_prob
        ratio = jnp.exp(log_ratio)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        clipped_ratio = jnp.clip(ratio, 1 - config.clip_eps, 1 + config.clip_eps)
        policy_loss = -jnp.minimum(ratio * advantage, clipped_ratio * advantage).mean()
        squared_error = jnp.square(value - target)
        if config.value_clip > 0:
            near_old = batch.value + jnp.clip(value - batch.value, -config.value_clip, config.value_clip)
            squared_error = jnp.maximum(squared_error, jnp.square(near_old - target))
        value_loss = 0.5 * squared_error.mean()
        entropy = distribution.entropy().mean()
        total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
        return total, {
            "loss": total,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": (ratio - 1 - log_ratio).mean(),
            "clip_fraction": (jnp.abs(ratio - 1) > config.clip_eps).mean(),
            "ratio_error": jnp.abs(ratio - 1).max(),
        }

    # ----------------------------------------------------------------------------------------------------------
    # Update

    def update(state: RunnerState) -> tuple[RunnerState, dict[str, jax.Array]]:
        """One rollout and its gradient steps. Metrics are scalars; episode_* mean nothing where episodes is 0."""
        key, collect_key, shuffle_key = jax.random.split(state.key, 3)
        state, batch, start_carries, last_value = collect(state.replace(key=key), collect_key)
        state, reward = update_statistics(state, batch)
        advantage = advantages(batch, reward, last_value)
        target = advantage + batch.value

        def to_sequences(x):  # [T, B, ...] -> [S, T / S * B, ...]
            x = x.reshape(-1, config.sequence_length, *x.shape[1:])
            return jnp.moveaxis(x, 1, 0).reshape(config.sequence_length, num_sequences, *x.shape[3:])

        learned = batch._replace(raw_obs=None, info=None)
        sequences = jax.tree.map(to_sequences, (learned, advantage, target))
        carries = jax.tree.map(lambda x: x.reshape(num_sequences, *x.shape[2:]), start_carries)
        progress = state.update / float(config.num_updates) if config.anneal_learning_rate else 0.0
        learning_rate = config.learning_rate * (1 - progress)

        def gradient_step(loop, indices):
            params, opt_state, stopped = loop
            minibatch = jax.tree.map(lambda x: jnp.take(x, indices, axis=1, mode="clip"), sequences)
            carry = jax.tree.map(lambda x: jnp.take(x, indices, axis=0, mode="clip"), carries)
            minibatch, carry = envs.over_devices(minibatch, axis=1), envs.over_devices(carry, axis=0)
            gradient, metrics = jax.grad(loss, has_aux=True)(params, carry, *minibatch)
            changes, new_opt_state = optimizer.update(gradient, opt_state, params)
            new_params = jax.tree.map(lambda param, change: param - learning_rate * change, params, changes)
            new = (new_params, new_opt_state)
            if config.target_kl > 0:
                stopped |= metrics["approx_kl"] > config.target_kl
                new = jax.tree.map(lambda a, b: jnp.where(stopped, a, b), (params, opt_state), new)
            metrics |= {"grad_norm": optax.global_norm(gradient), "stopped": stopped.astype(jnp.float32)}
            return (*new, stopped), metrics

        orders = jax.vmap(lambda k: jax.random.permutation(k, num_sequences))(
            jax.random.split(shuffle_key, config.update_epochs)
        )
        indices = orders.reshape(config.update_epochs * config.num_minibatches, -1)
        loop = (state.params, state.opt_state, jnp.zeros((), bool))
        (params, opt_state, _), metrics = jax.lax.scan(gradient_step, loop, indices)

        initial_ratio_error = metrics.pop("ratio_error")[0]
        metrics = jax.tree.map(jnp.mean, metrics)
        metrics |= {"initial_ratio_error": initial_ratio_error, "learning_rate": jnp.asarray(learning_rate)}
        done = batch.terminated | batch.truncated
        episodes = done.sum()
        metrics["episodes"] = episodes.astype(jnp.float32)
        for name, values in batch.info.items():
            if name.startswith("episode_"):
                metrics[name] = jnp.where(done, values, 0).sum() / jnp.maximum(episodes, 1)
        return state.replace(params=params, opt_state=opt_state, update=state.update + 1), metrics

    # ----------------------------------------------------------------------------------------------------------
    # Evaluate

    def forward(state: RunnerState, carry, obs, reset):
        """Policy and values over a segment of raw observations [T, B, ...], the same as acting step by step."""
        return agent.apply(state.params, carry, normalize(state.obs_statistics, obs), reset)

    def act(state: RunnerState, carry, obs, reset, key, deterministic: bool = False):
        """One step of the current policy on raw observations [B, ...].

        Returns (carry, actions as the environment takes them [B, ...], values [B]).
        """
        carry, distribution, value = forward(state, carry, obs[None], reset[None])
        action = distribution.mode() if deterministic else distribution.sample(seed=key)
        return carry, to_env(action[0]), value[0]

    def evaluate(state: RunnerState, key: jax.Array, deterministic: bool = False) -> dict[str, jax.Array]:
        """Raw return, length and what else the environment reports of eval_episodes fresh episodes [E].

        The statistics are frozen.
        """
        num_episodes = config.eval_episodes
        reset_key, key = jax.random.split(key)
        obs, env_state = jax.vmap(env.reset_env, in_axes=(0, None))(
            jax.random.split(reset_key, num_episodes), env_params
        )
        step_env = jax.vmap(env.step_env, in_axes=(0, 0, 0, None))
        is_truncated = jax.vmap(env.is_truncated, in_axes=(0, None))

        def step(loop):
            key, obs, env_state, carry, first, done, episode = loop
            key, action_key, env_key = jax.random.split(key, 3)
            carry, action, _ = act(state, carry, obs, first, action_key, deterministic)
            env_keys = jax.random.split(env_key, num_episodes)
            obs, env_state, reward, terminated, info = step_env(env_keys, env_state, action, env_params)
            report = {name: info[name] for name in episode if name in info} | {
                "episode_return": episode["episode_return"] + reward,
                "episode_length": episode["episode_length"] + 1,
            }
            episode = jax.tree.map(lambda old, new: jnp.where(done, old, new), episode, report)
            done |= terminated.astype(bool) | is_truncated(env_state, env_params)
            return key, obs, env_state, carry, jnp.zeros_like(first), done, episode

        false = jnp.zeros(num_episodes, bool)
        carry = agent.initialize_carry((num_episodes,))
        # What the environment reports: traced on a single one, for the names only.
        single_state = jax.tree.map(lambda x: x[0], env_state)
        action = jax.eval_shape(env.action_space(env_params).sample, key)
        info = jax.eval_shape(env.step_env, key, single_state, action, env_params)[4]
        names = ["episode_return", "episode_length", *(name for name in info if name.startswith("episode_"))]
        episode = {name: jnp.zeros(num_episodes) for name in names}
        loop = (key, obs, env_state, carry, ~false, false, episode)
        limit = env_params.max_steps_in_episode if envs.lives_on_host(env) else None
        return repeat_until(lambda loop: loop[5].all(), step, loop, limit)[6]

    def train(key: jax.Array) -> tuple[RunnerState, dict[str, jax.Array]]:
        """The whole run as one scan; metrics [num_updates]."""
        return jax.lax.scan(lambda state, _: update(state), init(key), length=config.num_updates)

    return Trainer(
        init=init,
        update=update,
        evaluate=evaluate,
        train=train,
        act=act,
        forward=forward,
        initial_carry=lambda batch: agent.initialize_carry((batch,)),
        collect=collect,
        advantages=advantages,
        loss=loss,
        num_updates=config.num_updates,
        env=env,
        env_params=env_params,
    )


def main() -> None:
    harness.main(Config, PRESETS, make_train, doc=__doc__, algo="ppo_arelit_continuous")


if __name__ == "__main__":
    main()
