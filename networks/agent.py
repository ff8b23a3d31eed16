"""The whole agent: encoder, memory core and heads joined, chosen by the spaces of its observations and actions."""

import math
from collections.abc import Callable
from typing import Any, Protocol

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from networks import make_core
from networks.encoders import ConvEncoder, MLPEncoder
from networks.heads import CategoricalHead, GaussianHead, ValueHead
from networks.precision import product_precision


class AgentSettings(Protocol):
    """The fields of a trainer's Config that an agent is built from."""

    core: dict[str, Any]
    encoder_widths: tuple[int, ...]
    conv_channels: tuple[int, ...]
    conv_kernels: tuple[int, ...]
    conv_strides: tuple[int, ...]
    actor_hidden: int
    critic_hidden: int
    head_activation: str
    head_scale: float
    actor_scale: float
    critic_scale: float


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
        obs_space: gymnax space of observations; bytes [height, width, channels] are images, which convolutions
            encode, everything else is flattened.
        action_space: gymnax space: Discrete gives a categorical policy, a Box a Gaussian one.

    Raises:
        ValueError: settings that do not fit the spaces.
    """
    head = {"activation": getattr(nn, settings.head_activation), "hidden_scale": settings.head_scale}
    if isinstance(action_space, spaces.Discrete):
        actor = CategoricalHead(settings.actor_hidden, action_space.n, settings.actor_scale, **head)
    else:
        size = math.prod(action_space.shape)
        actor = GaussianHead(settings.actor_hidden, size, settings.actor_scale, **head)
    return ActorCritic(
        encoder=_encoder(settings, obs_space),
        core=make_core(**settings.core),
        actor=actor,
        critic=ValueHead(settings.critic_hidden, settings.critic_scale, **head),
    )


def _encoder(settings: AgentSettings, obs_space: Any) -> nn.Module:
    if not (obs_space.dtype == jnp.uint8 and len(obs_space.shape) == 3):
        return MLPEncoder(settings.encoder_widths)
    if widths := settings.encoder_widths:
        raise ValueError(f"encoder_widths={widths}: must be empty for images, which conv_channels encode")
    side = min(obs_space.shape[:2])
    for kernel, stride in zip(settings.conv_kernels, settings.conv_strides, strict=True):
        side = (side - kernel) // stride + 1
    if side < 1:
        size = f"{obs_space.shape[0]} x {obs_space.shape[1]}"
        raise ValueError(
            f"conv_kernels={settings.conv_kernels}: must be kernels that fit into observations of {size}"
        )
    return ConvEncoder(settings.conv_channels, settings.conv_kernels, settings.conv_strides)


def action_for_env(action_space: Any) -> Callable[[jax.Array], jax.Array]:
    """The function from a policy's actions [B, ...] to what an environment receives.

    A discrete action stays as it is; a continuous one gets the space's shape and is clipped to its bounds.
    """
    if isinstance(action_space, spaces.Discrete):
        return lambda action: action
    return lambda action: jnp.clip(
        action.reshape(-1, *action_space.shape), action_space.low, action_space.high
    )
