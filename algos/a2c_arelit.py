"""A2C with a recurrent memory core, for discrete or continuous actions under partial observability.

The core is AReLiT (arXiv 2310.15719) or any other of `networks`; A2C follows Mnih et al. (2016) with
lambda-returns as the paper uses it: one gradient step a rollout, through the whole rollout. Environment step,
memory core and update are one compiled program.

    python algos/a2c_arelit.py                                              # a T-Maze with a corridor of 20
    python algos/a2c_arelit.py --core.name feedforward                      # the same without memory
    python algos/a2c_arelit.py --preset tmaze-arelit --env.corridor-len 120
    python algos/a2c_arelit.py --preset halfcheetah-relit --total-timesteps 1000000

Several seeds as one program, without the command line:

    train = make_train(Config(total_timesteps=100_000)).train
    states, metrics = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 4))
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from gymnax.environments import spaces

import envs
import networks
from algos import harness
from networks.actor_critic import ActorCritic
from networks.batching import any_in_batch, repeat_until
from networks.encoders import ConvEncoder, MLPEncoder
from networks.heads import CategoricalHead, GaussianHead, ValueHead
from networks.normalization import RunningStatistics

# --------------------------------------------------------------------------------------------------------------
# Config


@dataclass(frozen=True)
class Config:
    """A2C. Lengths are in environment steps unless they say otherwise."""

    # Run
    seed: int = 0
    """First seed; the others are seed + 1, seed + 2, ..."""
    num_seeds: int = 1
    """Seeds trained side by side in one program."""
    total_timesteps: int = 2_000_000
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
    env: dict[str, Any] = field(default_factory=lambda: {"id": "TMaze-v2", "corridor_len": 20})
    """Environment id and its options."""
    num_envs: int = 16
    """Environments a seed."""
    previous_action_reward: bool = False
    """Append the previous action and reward to the observation."""

    # Core
    core: dict[str, Any] = field(
        default_factory=lambda: {
            "name": "arelit",
            "n_layers": 1,
            "d_model": 32,
            "d_head": 16,
            "d_ffc": 32,
            "n_heads": 2,
            "eta": 2,
            "r": 2,
        }
    )
    """Memory core and its hyperparameters."""
    encoder_widths: tuple[int, ...] = ()
    """Widths of a Dense + relu encoder of observations that are no images; none: the observation itself."""
    conv_channels: tuple[int, ...] = (32, 64, 64)
    """Channels of the convolutions that encode images: observations of bytes [height, width, channels]."""
    conv_kernels: tuple[int, ...] = (8, 4, 3)
    """Their kernel sizes."""
    conv_strides: tuple[int, ...] = (4, 2, 1)
    """Their strides."""
    actor_hidden: int = 32
    """Width of the policy head's hidden layer."""
    critic_hidden: int = 32
    """Width of the value head's hidden layer."""
    head_activation: Literal["tanh", "relu"] = "tanh"
    """Activation of both heads' hidden layers."""
    head_scale: float = math.sqrt(2)
    """Gain of both heads' hidden layers at the start."""
    actor_scale: float = math.sqrt(2)
    """Gain of the policy head's last layer at the start."""
    critic_scale: float = math.sqrt(2)
    """Gain of the value head's last layer at the start."""

    # Algorithm
    num_steps: int = 64
    """Steps of every environment between updates."""
    learning_rate: float = 2e-3
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
    """Decay of the lambda-returns."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    normalize_observations: bool = False
    """Normalise observations by running statistics."""
    normalize_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return."""
    normalization_clip: float = 10.0
    """Range of normalised observations and rewards."""

    def __post_init__(self) -> None:
        for name, key in (("env", "id"), ("core", "name")):
            _require(key in getattr(self, name), name, getattr(self, name), f"a dictionary with {key!r}")
        sizes = "num_envs num_steps eval_episodes"
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
        for name in "learning_rate adam_eps max_grad_norm normalization_clip".split():
            _require(getattr(self, name) > 0, name, getattr(self, name), "greater than 0")
        for name in "head_scale actor_scale critic_scale vf_coef ent_coef".split():
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("gamma", "gae_lambda"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        for name in "encoder_widths conv_channels conv_kernels conv_strides".split():
            sizes = getattr(self, name)
            _require(all(1 <= size <= 2**16 for size in sizes), name, sizes, "all from 1 to 2^16")
        for name in ("conv_kernels", "conv_strides"):
            sizes, layers = getattr(self, name), len(self.conv_channels)
            _require(len(sizes) == layers, name, sizes, f"as many as conv_channels: {layers}")

    @property
    def num_updates(self) -> int:
        return -(-self.total_timesteps // (self.num_envs * self.num_steps))


def _require(holds: bool, name: str, value: Any, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value}: must be {allowed}")


CORES = {
    "arelit": {"name": "arelit", "n_layers": 4, "d_model": 128, "d_head": 64, "d_ffc": 128, "n_heads": 4}
    | {"eta": 4, "r": 2},
    "relit": {"name": "relit", "n_layers": 4, "d_model": 128, "d_head": 64, "d_ffc": 128, "n_heads": 4}
    | {"nu": 2, "update_rule": "projected_sigmoid", "kernel": "pp_relu"},
    "gtrxl128": {"name": "gtrxl", "n_layers": 4, "d_model": 128, "d_head": 64, "n_heads": 4, "memory_len": 128},
    "gtrxl256": {"name": "gtrxl", "n_layers": 4, "d_model": 128, "d_head": 64, "n_heads": 4, "memory_len": 256},
    "lstm": {"name": "lstm", "n_layers": 1, "d_model": 600},
    "gru": {"name": "gru", "n_layers": 1, "d_model": 680},
}


PUBLISHED = {
    "num_envs": 8,
    "num_steps": 256,
    "learning_rate": 1e-4,
    "anneal_learning_rate": False,
    "ent_coef": 0.001,
    "actor_hidden": 128,
    "critic_hidden": 128,
}


def _tmaze_preset(core: str, **settings: Any) -> dict[str, Any]:
    return {
        "env": {"id": "TMaze-v2", "corridor_len": 160},
        "core": CORES[core],
        "total_timesteps": 5_000_000,
        **PUBLISHED,
        **settings,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # The published configurations.
    "tmaze-arelit": _tmaze_preset("arelit"),
    "tmaze-relit": _tmaze_preset("relit"),
    "tmaze-gtrxl128": _tmaze_preset("gtrxl128", learning_rate=5e-4, ent_coef=0.01),
    "tmaze-gtrxl256": _tmaze_preset("gtrxl256", learning_rate=5e-4),
    "tmaze-lstm": _tmaze_preset("lstm"),
    "tmaze-gru": _tmaze_preset("gru", learning_rate=5e-4, ent_coef=0.01),
    # Of the fork for continuous actions: its own T-Maze, and HalfCheetah-v4, which is Brax's halfcheetah here.
    "tmazeours-arelit": _tmaze_preset("arelit", env={"id": "TMazeOurs", "corridor_len": 160}),
    "halfcheetah-relit": {
        "env": {"id": "brax/halfcheetah"},
        "core": CORES["relit"],
        "total_timesteps": 100_000_000,
        **PUBLISHED,
        # Not said for A2C; as the fork's PPO.
        "normalize_observations": True,
        "normalize_rewards": True,
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
    collect: Callable  # (state, key) -> (state, batch, last value)
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
        image = env.observation_space(env_params).dtype == jnp.uint8
        _require(not image, "previous_action_reward", True, "false where observations are bytes")
        env = envs.PreviousActionReward(env)
    action_space = env.action_space(env_params)
    discrete = isinstance(action_space, spaces.Discrete)
    obs_space = env.observation_space(env_params)
    if obs_space.dtype == jnp.uint8 and len(obs_space.shape) == 3:
        widths = config.encoder_widths
        _require(not widths, "encoder_widths", widths, "empty for images, which conv_channels encode")
        side = min(obs_space.shape[:2])
        for kernel, stride in zip(config.conv_kernels, config.conv_strides, strict=True):
            side = (side - kernel) // stride + 1
        allowed = f"kernels that fit into observations of {obs_space.shape[0]} x {obs_space.shape[1]}"
        _require(side >= 1, "conv_kernels", config.conv_kernels, allowed)
        encoder = ConvEncoder(config.conv_channels, config.conv_kernels, config.conv_strides)
    else:
        encoder = MLPEncoder(config.encoder_widths)

    # No start state serves twice in a rollout as long as episodes last 16 steps or more on average.
    start_states = max(config.num_envs, config.num_envs * config.num_steps // 16)
    vec_env = envs.vectorize(env, config.num_envs, start_states)
    head = {"activation": getattr(nn, config.head_activation), "hidden_scale": config.head_scale}
    if discrete:
        actor = CategoricalHead(config.actor_hidden, action_space.n, config.actor_scale, **head)
    else:
        actor = GaussianHead(config.actor_hidden, math.prod(action_space.shape), config.actor_scale, **head)
    agent = ActorCritic(
        encoder=encoder,
        core=networks.make_core(**config.core),
        actor=actor,
        critic=ValueHead(config.critic_hidden, config.critic_scale, **head),
    )
    # The learning rate multiplies in `update`, where the run's progress is known.
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=config.adam_eps)
    )

    def normalize(statistics: RunningStatistics, obs: jax.Array) -> jax.Array:
        return statistics.normalize(obs, config.normalization_clip) if config.normalize_observations else obs

    def to_env(action: jax.Array) -> jax.Array:
        """What the environment receives of an action [B, ...]: a continuous one in its bounds and shape."""
        if discrete:
            return action
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

    def collect(state: RunnerState, key: jax.Array) -> tuple[RunnerState, Transition, jax.Array]:
        """One rollout with frozen parameters and statistics.

        Returns the state after it, transitions [T, B, ...], and the value of the observation after the last step
        [B].
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
            action = distribution.sample(seed=action_key)[0]
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
                obs, reset, action, value, reward, terminated, truncated, final_value, seen, info
            )
            return (env_state, next_obs, terminated | truncated, carry), transition

        refresh_key, key = jax.random.split(key)
        env_state = vec_env.refresh(refresh_key, state.env_state, env_params)
        loop = (env_state, state.obs, state.reset, state.carry)
        steps = jnp.arange(config.num_steps)
        inputs = (jax.random.split(key, config.num_steps), steps == config.num_steps - 1)
        (env_state, obs, reset, carry), batch = jax.lax.scan(step, loop, inputs)
        state = state.replace(env_state=env_state, obs=obs, reset=reset, carry=carry)
        return state, batch, batch.final_value[-1]

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
        """Lambda-returns minus values [T, B] (Sutton and Barto, 2018, sec. 12.8).

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
        """A2C's objective on sequences [T, B, ...], each from its own memory [B, ...]."""
        _, distribution, value = agent.apply(params, carry, batch.obs, batch.reset)
        policy_loss = -(distribution.log_prob(batch.action) * advantage).mean()
        value_loss = jnp.square(value - target).mean()
        entropy = distribution.entropy().mean()
        total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
        return total, {
            "loss": total,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "initial_value_error": jnp.abs(value - batch.value).max(),  # acting and learning agree
        }

    # ----------------------------------------------------------------------------------------------------------
    # Update

    def update(state: RunnerState) -> tuple[RunnerState, dict[str, jax.Array]]:
        """One rollout and its gradient step. Metrics are scalars; episode_* mean nothing where episodes is 0."""
        key, collect_key = jax.random.split(state.key)
        start_carry = state.carry
        state, batch, last_value = collect(state.replace(key=key), collect_key)
        state, reward = update_statistics(state, batch)
        advantage = advantages(batch, reward, last_value)
        target = advantage + batch.value
        learned = batch._replace(raw_obs=None, info=None)
        progress = state.update / float(config.num_updates) if config.anneal_learning_rate else 0.0
        learning_rate = config.learning_rate * (1 - progress)

        gradient, metrics = jax.grad(loss, has_aux=True)(state.params, start_carry, learned, advantage, target)
        changes, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(lambda param, change: param - learning_rate * change, state.params, changes)

        metrics |= {"grad_norm": optax.global_norm(gradient), "learning_rate": jnp.asarray(learning_rate)}
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
    harness.main(Config, PRESETS, make_train, doc=__doc__, algo="a2c_arelit")


if __name__ == "__main__":
    main()
