"""Encoder, memory core and heads, joined."""

from typing import Any

import distrax
import flax.linen as nn
import jax

from networks.precision import product_precision


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
