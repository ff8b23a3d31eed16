"""The whole agent: encoder, memory core and heads joined, chosen by the spaces of its observations and actions."""

import math
from collections.abc import Callable
from typing import Any, Protocol

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from networks import make_core
from networks.encoders import ConvEncoder, MLPEncoder
from networks.heads import LOG_STD_MAX, LOG_STD_MAX_IN_RANGE, CategoricalHead, GaussianHead, QHead, ValueHead
from networks.precision import product_precision


class CoreSettings(Protocol):
    """The fields of a trainer's Config that every agent is built from."""

    core: dict[str, Any]
    encoder_widths: tuple[int, ...]
    conv_channels: tuple[int, ...]
    conv_kernels: tuple[int, ...]
    conv_strides: tuple[int, ...]


class AgentSettings(CoreSettings, Protocol):
    """Those that an ActorCritic is built from."""

    actor_hidden: int
    critic_hidden: int
    head_activation: str
    head_scale: float
    actor_scale: float
    critic_scale: float


class QSettings(CoreSettings, Protocol):
    """Those that a QAgent is built from."""

    q_hidden: int


class ActorCritic(nn.Module):
    """Actor and critic on one shared memory core.

    encoder: [T, B, ...] -> [T, B, d].  core: a memory core (see networks).  actor: [T, B, d] -> distribution.
    critic: [T, B, d] -> [T, B].
    """

    encoder: nn.Module
    core: nn.Module
    actor: nn.Module
    critic: nn.Module

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Any:
        return self.core.initialize_carry(batch_shape)

    def __call__(
        self, carry: Any, obs: jax.Array, resets: jax.Array
    ) -> tuple[Any, distrax.Distribution, jax.Array]:
        """obs: [T, B, ...]; resets: [T, B] bool, true where the observation starts an episode.

        Returns (carry, distribution over actions [T, B, ...], values [T, B]).
        """
        with jax.default_matmul_precision(product_precision()):
            carry, features = self.core(carry, self.encoder(obs), resets)
            return carry, self.actor(features), self.critic(features)


def make_agent(settings: AgentSettings, obs_space: Any, action_space: Any) -> ActorCritic:
    """An ActorCritic for the spaces of an environment.

    Args:
        settings: sizes and scales, a trainer's Config.
        obs_space: gymnax space of observations; see `is_image` for what convolutions encode, everything else is
            flattened.
        action_space: gymnax space: Discrete gives a categorical policy, a Box a Gaussian one.

    Raises:
        ValueError: settings that do not fit the spaces.
    """
    encoder, core = make_encoder(settings, obs_space), make_core(**settings.core)
    head = {"activation": getattr(nn, settings.head_activation), "hidden_scale": settings.head_scale}
    critic = ValueHead(settings.critic_hidden, settings.critic_scale, **head)
    if isinstance(action_space, spaces.Discrete):
        categorical = CategoricalHead(settings.actor_hidden, action_space.n, settings.actor_scale, **head)
        return ActorCritic(encoder, core, categorical, critic)
    _, _, has_range = _range(action_space)
    gaussian = GaussianHead(
        settings.actor_hidden,
        math.prod(action_space.shape),
        settings.actor_scale,
        log_std_max=LOG_STD_MAX_IN_RANGE if has_range.all() else LOG_STD_MAX,
        **head,
    )
    return ActorCritic(encoder, core, gaussian, critic)


class QAgent(nn.Module):
    """Q values on a memory core; its policy is the greedy one.

    encoder: [T, B, ...] -> [T, B, d].  core: a memory core (see networks).  q: [T, B, d] -> [T, B, actions].
    """

    encoder: nn.Module
    core: nn.Module
    q: nn.Module

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Any:
        return self.core.initialize_carry(batch_shape)

    def __call__(self, carry: Any, obs: jax.Array, resets: jax.Array) -> tuple[Any, distrax.Greedy, jax.Array]:
        """obs: [T, B, ...]; resets: [T, B] bool, true where the observation starts an episode.

        Returns (carry, greedy distribution over actions [T, B] whose `preferences` are the Q values
        [T, B, actions], its value max Q [T, B]).
        """
        with jax.default_matmul_precision(product_precision()):
            carry, features = self.core(carry, self.encoder(obs), resets)
            q = self.q(features)
            return carry, distrax.Greedy(q), q.max(-1)


def make_q_agent(settings: QSettings, obs_space: Any, action_space: spaces.Discrete) -> QAgent:
    """A QAgent for the spaces of an environment; encoder and head have layer norm. As make_agent otherwise."""
    encoder = make_encoder(settings, obs_space, layer_norm=True)
    return QAgent(encoder, make_core(**settings.core), QHead(settings.q_hidden, action_space.n))


def make_encoder(settings: CoreSettings, obs_space: Any, layer_norm: bool = False) -> nn.Module:
    """The encoder for a gymnax space of observations. Raises ValueError for settings that do not fit it."""
    if not is_image(settings, obs_space):
        return MLPEncoder(settings.encoder_widths, layer_norm)
    if widths := settings.encoder_widths:
        raise ValueError(f"encoder_widths={widths}: must be empty for images, which conv_channels encode")
    if not _kernels_fit(settings, obs_space.shape):
        shape = " x ".join(map(str, obs_space.shape))
        raise ValueError(
            f"conv_kernels={settings.conv_kernels}: must fit, with conv_strides={settings.conv_strides}, into "
            f"observations of {shape}, which are taken as [height, width, channels]"
        )
    return ConvEncoder(settings.conv_channels, settings.conv_kernels, settings.conv_strides, layer_norm)


def is_image(settings: CoreSettings, obs_space: Any) -> bool:
    """Whether observations go through convolutions.

    They do if they are bytes [height, width, channels] or [height, width], or floats [height, width, channels]
    in [0, 1] that are as large as the kernels demand: smaller ones, such as planes of a board game, are flattened.
    """
    if obs_space.dtype == jnp.uint8:
        return len(obs_space.shape) in (2, 3)
    in_range = jnp.issubdtype(obs_space.dtype, jnp.floating) and len(obs_space.shape) == 3
    in_range = in_range and bool(np.all(obs_space.low == 0) and np.all(obs_space.high == 1))
    return in_range and _kernels_fit(settings, obs_space.shape)


def _kernels_fit(settings: CoreSettings, shape: tuple[int, ...]) -> bool:
    side = min(shape[:2])
    for kernel, stride in zip(settings.conv_kernels, settings.conv_strides, strict=True):
        side = (side - kernel) // stride + 1
    return side >= 1


UNBOUNDED = 1e30
"""Bounds beyond this are none: such as the largest float32, by which some environments mean infinity."""


def action_for_env(action_space: Any) -> Callable[[jax.Array], jax.Array]:
    """The function from a policy's actions [B, ...] to what an environment receives.

    A discrete action stays as it is. A continuous one gets the space's shape; where the space has a finite range,
    [-1, 1] is mapped to it, for that is where a Gaussian policy begins; then it is clipped to the bounds.
    """
    if isinstance(action_space, spaces.Discrete):
        return lambda action: action
    center, half, _ = _range(action_space)

    is_there_already = (center == 0).all() and (half == 1).all()

    def to_env(action: jax.Array) -> jax.Array:
        action = action.reshape(-1, *action_space.shape)
        action = action if is_there_already else center + half * action
        return jnp.clip(action, action_space.low, action_space.high)

    return to_env


def _range(action_space: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre and half width of every action's range, 0 and 1 where it has none, and whether it has one."""
    low, high = (np.broadcast_to(np.float64(x), action_space.shape) for x in (action_space.low, action_space.high))
    has_range = (np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED)
    with np.errstate(invalid="ignore"):
        center, half = np.where(has_range, (low + high) / 2, 0.0), np.where(has_range, (high - low) / 2, 1.0)
    return center.astype(np.float32), half.astype(np.float32), has_range
