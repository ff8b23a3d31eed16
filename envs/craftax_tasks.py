"""Craftax (arXiv 2402.16801) as gymnax environments: an open world in which 67 (Classic: 22) achievements pay.

Ids are `craftax/` and Craftax's own names. Needs the extra `craftax`.

| environment     | actions | symbolic observation | pixel observation     | time limit |
|-----------------|---------|----------------------|-----------------------|------------|
| Craftax         | 43      | float32 [8268]       | uint8 [130, 110, 3]   | 100000     |
| Craftax-Classic | 17      | float32 [1345]       | uint8 [63, 63, 3]     | 10000      |

The first -Pixels environment that is made, or the first picture that is drawn, of Craftax and of
Craftax-Classic has Craftax prepare its textures, which takes about a minute (Classic: 15 s) and says so on the
standard error. Craftax keeps them in its own installed package, which must be writable that once.

Differences from Craftax 1.6: no auto-reset; the time limit is a truncation, not part of the termination; pixels
are bytes (Craftax: the same divided by 255, not rounded); `info` holds `episode_achievements`, the number of
achievements unlocked in the episode so far, in place of one entry for each achievement.
"""

import contextlib
import functools
import importlib.util
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import environment, spaces

from envs.checks import check_positive

IDS = (
    "craftax/Craftax-Symbolic-v1",
    "craftax/Craftax-Pixels-v1",
    "craftax/Craftax-Classic-Symbolic-v1",
    "craftax/Craftax-Classic-Pixels-v1",
)


def options(env_id: str) -> dict[str, Any]:
    """Fields of Craftax's EnvParams, with its defaults.

    `max_timesteps` is the time limit and `day_length` the length of a day, in steps; `always_diamond` makes sure
    that there is a diamond in the world (Craftax: on its first level).
    """
    # Written down here so that they can be listed where Craftax is not installed.
    if _is_classic(env_id):
        return {"max_timesteps": 10_000, "day_length": 300, "always_diamond": True}
    return {"max_timesteps": 100_000, "day_length": 300, "always_diamond": False}


def make(env_id: str, **options: Any):
    """Builds `craftax/<name>`; see `envs.make`.

    Raises:
        ValueError: Craftax is not installed, or a count below 1.
    """
    for name in ("max_timesteps", "day_length"):
        check_positive(f"env.{name}", options[name])
    if importlib.util.find_spec("craftax") is None:
        command = "pip install -c constraints.txt -e '.[craftax]'"
        raise ValueError(f"env.id={env_id!r}: needs the package craftax; to install it: {command}")
    env = CraftaxTask(env_id)
    return env, env.default_params.replace(**options)


def _is_classic(env_id: str) -> bool:
    return "-Classic-" in env_id


class CraftaxTask(environment.Environment):
    """One of Craftax's environments. States and parameters are Craftax's own EnvState and EnvParams.

    Args:
        env_id: one of `IDS`.
    """

    def __init__(self, env_id: str):
        super().__init__()
        from craftax.craftax_env import make_craftax_env_from_name

        self.env_id = env_id
        self.pixels = "-Pixels-" in env_id
        with contextlib.redirect_stdout(sys.stderr):  # notices about textures
            self.craftax_env = make_craftax_env_from_name(env_id.removeprefix("craftax/"), auto_reset=False)

    @property
    def name(self) -> str:
        return self.env_id

    @property
    def default_params(self):
        return self.craftax_env.default_params

    @property
    def num_actions(self) -> int:
        return self.craftax_env.num_actions

    def action_space(self, params=None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params=None) -> spaces.Box:
        shape = self.craftax_env.observation_space(params).shape
        if self.pixels:
            return spaces.Box(0, 255, shape, jnp.uint8)
        # Craftax says 1 for all, but enchantments are shown as 0, 1 or 2, and a tenth of the mana reaches 2.1.
        return spaces.Box(0.0, 1.0 if _is_classic(self.env_id) else 2.1, shape, jnp.float32)

    def is_terminated(self, state, params) -> jax.Array:
        """Whether the player is dead or has won: Craftax's own end of an episode with the time limit away."""
        return self.craftax_env.is_terminal(state, params.replace(max_timesteps=np.iinfo(np.int32).max))

    def is_truncated(self, state, params) -> jax.Array:
        return state.timestep >= params.max_timesteps

    def reset_env(self, key: jax.Array, params):
        obs, state = self.craftax_env.reset_env(key, params)
        return self._observed(obs), state

    def step_env(self, key: jax.Array, state, action: jax.Array, params):
        obs, state, reward, _, _ = self.craftax_env.step_env(key, state, action, params)
        info = {"episode_achievements": state.achievements.sum(dtype=jnp.float32)}
        return self._observed(obs), state, reward, self.is_terminated(state, params), info

    def render(self, state, params=None) -> np.ndarray:
        """Draws a state: uint8 [208, 176, 3] (Classic: [144, 144, 3])."""
        return np.asarray(self._renderer(state))

    @functools.cached_property
    def _renderer(self):
        if _is_classic(self.env_id):
            from craftax.craftax_classic import constants, renderer
        else:
            from craftax.craftax import constants, renderer
        with contextlib.redirect_stdout(sys.stderr):
            draw = renderer.make_craftax_pixel_renderer(constants.BLOCK_PIXEL_SIZE_IMG)
        return jax.jit(lambda state: _bytes(draw(state)))

    def _observed(self, obs: jax.Array) -> jax.Array:
        return _bytes(obs * 255.0) if self.pixels else obs


def _bytes(pixels: jax.Array) -> jax.Array:
    """Colours 0 to 255 as floats to the nearest uint8."""
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)
