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

from algos import harness  # isort: skip  # before JAX, of whose variables it says which are unusable
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from gymnax.environments import spaces

import envs
from algos import presets
from algos.harness import fields
from algos.harness.trainer import Gradient, Rollout, Stream, Trainer, episode_metrics, make_env
from networks.agent import action_for_env, make_agent
from networks.batching import any_in_batch
from networks.heads import policy_metrics
from networks.normalization import RunningStatistics

# --------------------------------------------------------------------------------------------------------------
# Config


@dataclass(frozen=True)
class Config:
    """PPO for continuous actions. Lengths are in environment steps unless they say otherwise."""

    # Run
    seed: fields.Seed = 0
    """First seed; the others are seed + 1, seed + 2, ..."""
    num_seeds: fields.Count = 1
    """Seeds trained side by side in one program."""
    total_timesteps: fields.Steps = 1_000_000
    """Environment steps per seed, rounded up to whole updates."""
    eval_episodes: fields.Count = 32
    """Fresh episodes of every evaluation."""
    run_dir: str = ""
    """Where the run is written; empty: runs/<algorithm>-<environment>-<core>-s<seed>-<time>."""
    resume: str = ""
    """Run directory to continue; needs no other flag."""
    init_from: str = ""
    """Run directory whose parameters and observation statistics a new run starts from."""
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    """Also log to Weights & Biases."""

    # Environment
    env: fields.Environment = field(default_factory=lambda: {"id": "brax/inverted_double_pendulum-P"})
    """Environment id and its options."""
    num_envs: fields.Count = 32
    """Environments per seed."""
    previous_action_reward: bool = False
    """Append the previous action and reward to the observation."""

    # Core
    core: fields.Core = field(default_factory=lambda: presets.ARELIT_CONTROL)
    """Memory core and its hyperparameters."""
    encoder_widths: fields.Sizes = ()
    """Widths of a Dense + relu encoder of observations that are no images; none: the observation itself."""
    conv_channels: fields.Sizes = (32, 64, 64)
    """Channels of the convolutions that encode images [height, width, channels], bytes or floats in [0, 1]."""
    conv_kernels: fields.Sizes = (8, 4, 3)
    """Their kernel sizes."""
    conv_strides: fields.Sizes = (4, 2, 1)
    """Their strides."""
    actor_hidden: fields.Count = 128
    """Width of the policy head's hidden layer."""
    critic_hidden: fields.Count = 128
    """Width of the value head's hidden layer."""
    head_activation: Literal["tanh", "relu"] = "tanh"
    """Activation of both heads' hidden layers."""
    head_scale: fields.NonNegative = math.sqrt(2)
    """Gain of both heads' hidden layers at the start."""
    actor_scale: fields.NonNegative = 0.01
    """Gain of the policy head's last layer at the start (published: sqrt 2)."""
    critic_scale: fields.NonNegative = 1.0
    """Gain of the value head's last layer at the start (published: sqrt 2)."""

    # Algorithm
    num_steps: fields.Count = 128
    """Steps of every environment between updates."""
    sequence_length: fields.Count = 32
    """Steps of a training sequence; divides num_steps."""
    learning_rate: Annotated[fields.Positive, fields.TRACED] = 3e-4
    """Adam's step size."""
    anneal_learning_rate: bool = True
    """Lower the learning rate linearly to zero over the run."""
    adam_eps: Annotated[fields.Positive, fields.TRACED] = 1e-8
    """Adam's epsilon."""
    max_grad_norm: Annotated[fields.Positive, fields.TRACED] = 0.5
    """Gradients are scaled down to this global norm."""
    gamma: Annotated[fields.Fraction, fields.TRACED] = 0.99
    """Discount per step."""
    gae_lambda: Annotated[fields.Fraction, fields.TRACED] = 0.95
    """Decay of generalised advantage estimation."""
    update_epochs: fields.Count = 4
    """Passes over every rollout."""
    num_minibatches: fields.Count = 8
    """Minibatches of a pass; divides num_envs x num_steps / sequence_length."""
    clip_eps: Annotated[fields.Positive, fields.TRACED] = 0.2
    """Range of the probability ratio."""
    value_clip: fields.NonNegative = 0.0
    """Range of the new value around the old; 0: unclipped."""
    target_kl: fields.NonNegative = 0.0
    """No further gradient step of an update once its approximate KL exceeds this; 0: no limit."""
    vf_coef: Annotated[fields.NonNegative, fields.TRACED] = 0.5
    """Weight of the value loss, half the squared error (A2C weighs the whole)."""
    ent_coef: Annotated[fields.NonNegative, fields.TRACED] = 0.0
    """Weight of the entropy bonus."""
    normalize_observations: bool = True
    """Normalise observations by running statistics."""
    normalize_rewards: bool = True
    """Divide rewards by the running standard deviation of the discounted return."""
    normalization_clip: Annotated[fields.Positive, fields.TRACED] = 10.0
    """Range of normalised observations and rewards."""

    def __post_init__(self) -> None:
        fields.check_fields(self)
        last_seed = self.seed + self.num_seeds - 1
        fields.require(last_seed < 2**31, "seed", self.seed, "such that the last seed is below 2^31")
        most = 2**30 // self.num_envs
        fields.require(self.num_steps <= most, "num_steps", self.num_steps, f"at most 2^30 / num_envs = {most}")
        layers = len(self.conv_channels)
        for name in ("conv_kernels", "conv_strides"):
            sizes = getattr(self, name)
            fields.require(len(sizes) == layers, name, sizes, f"as many as conv_channels: {layers}")
        steps, length = self.num_steps, self.sequence_length
        fields.require(steps % length == 0, "sequence_length", length, f"a divisor of num_steps={steps}")
        sequences = self.num_envs * steps // length
        allowed = f"a divisor of num_envs x num_steps / sequence_length = {sequences}"
        fields.require(sequences % self.num_minibatches == 0, "num_minibatches", self.num_minibatches, allowed)
        # Advantages are normalised over a minibatch: that of a single transition would always be 0.
        several = length * sequences > self.num_minibatches
        fields.require(several, "num_minibatches", self.num_minibatches, "fewer than num_envs x num_steps")

    @property
    def num_updates(self) -> int:
        return -(-self.total_timesteps // (self.num_envs * self.num_steps))


# --------------------------------------------------------------------------------------------------------------
# Runner state


@struct.dataclass
class RunnerState:
    """Everything a run needs to go on: nothing else is carried from one update to the next."""

    params: Any
    opt_state: optax.OptState
    obs_statistics: RunningStatistics  # of raw observations
    return_statistics: RunningStatistics  # of the discounted return, by which rewards are scaled
    stream: Stream
    key: jax.Array
    update: jax.Array  # finished updates, int32


class Transition(NamedTuple):
    """One step of all environments; a rollout stacks them to [T, B, ...]."""

    obs: jax.Array  # normalised, as the policy saw it
    reset: jax.Array
    action: jax.Array  # as drawn; the environment receives action_for_env of it
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array  # raw
    terminated: jax.Array
    truncated: jax.Array
    final_value: jax.Array  # V(final observation) where truncated, and all over the last step; else not to be used
    raw_obs: jax.Array | None  # for the statistics; None without them
    info: dict[str, jax.Array] | None


def make_train(config: Config) -> Trainer:
    """Build the trainer. Raises ValueError for a config that cannot run, before anything is traced."""
    env, env_params, vec_env = make_env(config)
    obs_space, action_space = env.observation_space(env_params), env.action_space(env_params)
    if not isinstance(action_space, spaces.Box):
        raise ValueError(f"env.id={config.env['id']!r}: must be an environment with continuous actions")
    agent = make_agent(config, obs_space, action_space)
    to_env = action_for_env(action_space)
    num_sequences = config.num_envs * config.num_steps // config.sequence_length
    num_gradient_steps = config.update_epochs * config.num_minibatches
    # The learning rate multiplies in `learn`, where the run's progress is known.
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=config.adam_eps)
    )

    def normalize(statistics: RunningStatistics, obs: jax.Array) -> jax.Array:
        return statistics.normalize(obs, config.normalization_clip) if config.normalize_observations else obs

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
            stream=Stream(env_state, obs, reset, carry, discounted_return=jnp.zeros(config.num_envs)),
            key=key,
            update=jnp.zeros((), jnp.int32),
        )

    # ----------------------------------------------------------------------------------------------------------
    # Collect

    def collect(state: RunnerState, key: jax.Array) -> tuple[RunnerState, Rollout]:
        """One rollout with frozen parameters and statistics. Returns the state after it, and the rollout."""

        def policy(carry, raw_obs, reset):
            obs = normalize(state.obs_statistics, raw_obs)
            carry, distribution, value = agent.apply(state.params, carry, obs[None], reset[None])
            return carry, obs, distribution, value[0]

        def step(stream, inputs):
            key, is_last = inputs
            action_key, env_key = jax.random.split(key)
            carry, obs, distribution, value = policy(stream.carry, stream.obs, stream.reset)
            actions, log_probs = distribution.sample_and_log_prob(seed=action_key)  # [1, B]
            action, log_prob = actions[0], log_probs[0]
            next_obs, env_state, reward, terminated, truncated, info = vec_env.step(
                env_key, stream.env_state, to_env(action), env_params
            )
            final_obs = info.pop("final_observation")

            def value_of_final_obs():
                _, _, _, value = policy(carry, final_obs, jnp.zeros_like(truncated))
                return value

            # A time limit is no end of the task: its return is bootstrapped from the final observation, which
            # the core sees after all before it and without a reset. Few steps need this second forward pass; the
            # rollout's last step is one, for its return is bootstrapped likewise.
            needed = any_in_batch(truncated) | is_last
            final_value = jax.lax.cond(needed, value_of_final_obs, lambda: jnp.zeros_like(value))
            raw = stream.obs if config.normalize_observations else None
            transition = Transition(
                obs, stream.reset, action, log_prob, value, reward, terminated, truncated, final_value, raw, info
            )
            stream = stream.replace(env_state=env_state, obs=next_obs, reset=terminated | truncated, carry=carry)
            return stream, transition

        def sequence(stream, inputs):
            start_carry = stream.carry
            stream, transitions = jax.lax.scan(step, stream, inputs)
            return stream, (start_carry, transitions)

        refresh_key, key = jax.random.split(key)
        env_state = vec_env.refresh(refresh_key, state.stream.env_state, env_params)
        stream = state.stream.replace(env_state=env_state)
        shape = (config.num_steps // config.sequence_length, config.sequence_length)
        is_last = (jnp.arange(config.num_steps) == config.num_steps - 1).reshape(shape)
        stream, (start_carries, sequences) = jax.lax.scan(
            sequence, stream, (jax.random.split(key, shape), is_last)
        )
        transitions = jax.tree.map(lambda x: x.reshape(config.num_steps, *x.shape[2:]), sequences)  # [T, B, ...]
        rollout = Rollout(transitions, start_carries, last_value=transitions.final_value[-1])
        return state.replace(stream=stream), rollout

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
        running, returns = jax.lax.scan(discount, state.stream.discounted_return, (batch.reward, done))
        statistics = state.return_statistics.update(returns)
        stream = state.stream.replace(discounted_return=running)
        reward = statistics.scale(batch.reward, config.normalization_clip)
        return state.replace(return_statistics=statistics, stream=stream), reward

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

        _, advantage = jax.lax.scan(step, jnp.zeros_like(last_value), (delta, done), reverse=True)
        return advantage

    # ----------------------------------------------------------------------------------------------------------
    # Loss

    def loss(params, carry, batch: Transition, advantage, target) -> tuple[jax.Array, dict[str, jax.Array]]:
        """PPO's clipped objective on sequences [L, N, ...], each from its own memory [N, ...]."""
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
        of_policy = policy_metrics(distribution)
        total = policy_loss + config.vf_coef * value_loss - config.ent_coef * of_policy["entropy"]
        return total, {
            "loss": total,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            **of_policy,
            "approx_kl": (ratio - 1 - log_ratio).mean(),
            "clip_fraction": (jnp.abs(ratio - 1) > config.clip_eps).mean(),
            "ratio_error": jnp.abs(ratio - 1).max(),
        }

    # ----------------------------------------------------------------------------------------------------------
    # Update

    def learn(state: RunnerState, rollout: Rollout, key: jax.Array) -> tuple[RunnerState, dict[str, jax.Array]]:
        """The gradient steps of one rollout. Metrics are scalars; episode_* are NaN where none ended."""
        batch = rollout.transitions
        state, reward = update_statistics(state, batch)
        advantage = advantages(batch, reward, rollout.last_value)
        target = advantage + batch.value

        def to_sequences(x):  # [T, B, ...] -> [L, T / L * B, ...]
            x = x.reshape(-1, config.sequence_length, *x.shape[1:])
            return jnp.moveaxis(x, 1, 0).reshape(config.sequence_length, num_sequences, *x.shape[3:])

        learned = batch._replace(raw_obs=None, info=None)
        sequences = jax.tree.map(to_sequences, (learned, advantage, target))
        carries = jax.tree.map(lambda x: x.reshape(num_sequences, *x.shape[2:]), rollout.start_carries)
        progress = state.update / float(config.num_updates) if config.anneal_learning_rate else 0.0
        learning_rate = config.learning_rate * jnp.maximum(1 - progress, 0.0)  # never below 0 beyond the run

        def gradient_step(learner, indices):
            params, opt_state, stopped = learner
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

        epoch_keys = jax.random.split(key, config.update_epochs)
        orders = jax.vmap(lambda key: jax.random.permutation(key, num_sequences))(epoch_keys)
        indices = orders.reshape(num_gradient_steps, -1)
        learner = (state.params, state.opt_state, jnp.zeros((), bool))
        (params, opt_state, _), metrics = jax.lax.scan(gradient_step, learner, indices)

        ratio_errors = metrics.pop("ratio_error")
        metrics = jax.tree.map(jnp.mean, metrics)
        metrics |= {"initial_ratio_error": ratio_errors[0], "learning_rate": jnp.asarray(learning_rate)}
        state = state.replace(params=params, opt_state=opt_state, update=state.update + 1)
        return state, metrics | episode_metrics(batch)

    def update(state: RunnerState) -> tuple[RunnerState, dict[str, jax.Array]]:
        """One rollout and its gradient steps."""
        key, collect_key, learn_key = jax.random.split(state.key, 3)
        state, rollout = collect(state.replace(key=key), collect_key)
        return learn(state, rollout, learn_key)

    def train(key: jax.Array) -> tuple[RunnerState, dict[str, jax.Array]]:
        """The whole run as one scan; metrics [num_updates]."""
        return jax.lax.scan(lambda state, _: update(state), init(key), length=config.num_updates)

    # ----------------------------------------------------------------------------------------------------------
    # Act

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

    return Trainer(
        config=config,
        env=env,
        env_params=env_params,
        num_updates=config.num_updates,
        gradient=Gradient(num_gradient_steps, config.sequence_length, num_sequences // config.num_minibatches),
        init=init,
        update=update,
        train=train,
        collect=collect,
        learn=learn,
        advantages=advantages,
        loss=loss,
        act=act,
        forward=forward,
        initial_carry=lambda num_envs: agent.initialize_carry((num_envs,)),
    )


def main() -> None:
    harness.main(Config, make_train, doc=__doc__, algo="ppo_arelit_continuous")


if __name__ == "__main__":
    main()
