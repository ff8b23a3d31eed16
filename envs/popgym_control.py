"""POPGym's control tasks: cart-pole and pendulum of which parts are hidden, without and with noise.

Ids `popgym/<class><Easy|Medium|Hard>`; classes, rules and rewards are those of popgym 1.0.7 (Morad et al. 2023,
"POPGym: Benchmarking Partially Observable Reinforcement Learning").

| class                     | shown                | limit Easy / Medium / Hard | noise sigma     |
|---------------------------|----------------------|----------------------------|-----------------|
| PositionOnlyCartPole      | x, theta             | 200 / 400 / 600            | 0               |
| VelocityOnlyCartPole      | x_dot, theta_dot     | 200 / 400 / 600            | 0               |
| NoisyPositionOnlyCartPole | x, theta             | 200 / 200 / 200            | 0.1 / 0.2 / 0.3 |
| PositionOnlyPendulum      | cos theta, sin theta | 200 / 150 / 100            | 0               |
| NoisyPositionOnlyPendulum | cos theta, sin theta | 200 / 200 / 200            | 0.1 / 0.2 / 0.3 |

With L = max_episode_length:
    cart-pole: every step pays 1 / L, also the one in which the pole falls or the cart leaves the track, which
        terminates
    pendulum: a step pays (r + M) / (M L) with gymnasium's reward r >= -2 M, M = 8.1368022; nothing terminates
Both are truncated after L steps. Returns lie in (0, 1] and [-1, 1].

The first observation of VelocityOnlyCartPole shows x and theta, a slip of the original that is kept. The task
is nearly solved without memory (see `reference`) and proves nothing about it. Noise is added to every
observation, the first too, independently for each entry, and what comes out is clipped to the observation's
bounds.

The physics is gymnax's in float32 where the original's is gymnasium's in float64: one step agrees to rounding.
"""

from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.checks import check_positive
from envs.classic_control import start_state, state_values

LEVELS = ("Easy", "Medium", "Hard")
HALF_RANGE = 8.1368022  # half of the pendulum's greatest cost in a step as popgym rounds it
NOISE = (0.1, 0.2, 0.3)


class Family(NamedTuple):
    """task: gymnax's; shown, shown_first: entries of its observation; limits (steps) and sigmas by level."""

    task: str
    shown: tuple[int, int]
    shown_first: tuple[int, int]
    limits: tuple[int, int, int]
    sigmas: tuple[float, float, float] | None = None


FAMILIES = {
    "PositionOnlyCartPole": Family("CartPole-v1", (0, 2), (0, 2), (200, 400, 600)),
    "VelocityOnlyCartPole": Family("CartPole-v1", (1, 3), (0, 2), (200, 400, 600)),
    "NoisyPositionOnlyCartPole": Family("CartPole-v1", (0, 2), (0, 2), (200, 200, 200), NOISE),
    "PositionOnlyPendulum": Family("Pendulum-v1", (0, 1), (0, 1), (200, 150, 100)),
    "NoisyPositionOnlyPendulum": Family("Pendulum-v1", (0, 1), (0, 1), (200, 200, 200), NOISE),
}

IDS = tuple(f"popgym/{family}{level}" for family in FAMILIES for level in LEVELS)


def options(env_id: str) -> dict[str, Any]:
    """`max_episode_length`, the time limit in steps, and `noise_sigma` of noisy tasks."""
    family, level = _split(env_id)
    values: dict[str, Any] = {"max_episode_length": FAMILIES[family].limits[level]}
    if FAMILIES[family].sigmas is not None:
        values["noise_sigma"] = FAMILIES[family].sigmas[level]
    return values


def make(env_id: str, max_episode_length: int, noise_sigma: float | None = None):
    """Builds a control task of POPGym; see `envs.make`."""
    check_positive("env.max_episode_length", max_episode_length)
    family = FAMILIES[_split(env_id)[0]]
    if noise_sigma is None:
        return Control(env_id, family), EnvParams(max_steps_in_episode=max_episode_length)
    if noise_sigma < 0:
        raise ValueError(f"env.noise_sigma={noise_sigma!r}: must be at least 0")
    return NoisyControl(env_id, family), NoisyParams(max_episode_length, noise_sigma)


def reference(env_id: str, **options_: Any) -> dict[str, dict[str, Any]] | None:
    """Known returns with the level's own limit and noise; see `envs.reference`."""
    if options_ != options(env_id):
        return None
    family, level = _split(env_id)
    random, without_memory, with_memory = (row[level] for row in _RETURNS[family])
    policy, feedback = _POLICIES[family]
    return {
        "random": {"value": random, "mark": "measured", "note": "20,000 episodes"},
        "without_memory": {"value": without_memory, "mark": "measured", "note": f"{policy}: a lower bound"},
        "with_memory": {"value": with_memory, "mark": "measured", "note": f"{feedback}: a lower bound"},
    }


_CART, _PENDULUM = (0.111, 0.0556, 0.0370), (0.244, 0.243, 0.241)
# By family and level: the return of random actions, without memory, with memory.
_RETURNS = {
    "PositionOnlyCartPole": (_CART, (0.27, 0.135, 0.09), (1.0, 1.0, 1.0)),
    "VelocityOnlyCartPole": (_CART, (1.0, 0.99, 0.82), (1.0, 1.0, 1.0)),
    "NoisyPositionOnlyCartPole": ((_CART[0],) * 3, (0.25, 0.20, 0.17), (0.977, 0.579, 0.361)),
    "PositionOnlyPendulum": (_PENDULUM, (0.38, 0.38, 0.375), (0.908, 0.877, 0.815)),
    "NoisyPositionOnlyPendulum": ((_PENDULUM[0],) * 3, (0.33, 0.33, 0.32), (0.890, 0.723, 0.642)),
}
_SEARCH = "cross-entropy search over stochastic networks of the current observation"
_FEEDBACK = "feedback of the state, which memory tells but for the first steps"
_FILTER = "feedback of an extended Kalman filter's estimate, 1,000 episodes"
_POLICIES = {
    "PositionOnlyCartPole": (_SEARCH, _FEEDBACK),
    "VelocityOnlyCartPole": (f"no test of memory; {_SEARCH}", _FEEDBACK),
    "NoisyPositionOnlyCartPole": ("search over P(right) = sigmoid(a theta + b x), 4,000 episodes", _FILTER),
    "PositionOnlyPendulum": (_SEARCH, _FEEDBACK),
    "NoisyPositionOnlyPendulum": (_SEARCH, _FILTER),
}


def _split(env_id: str) -> tuple[str, int]:
    """Family and number of the level of an id."""
    name = env_id.removeprefix("popgym/")
    level = next(i for i, level in enumerate(LEVELS) if name.endswith(level))
    return name.removesuffix(LEVELS[level]), level


@struct.dataclass
class EnvParams(environment.EnvParams):
    max_steps_in_episode: int = 200


@struct.dataclass
class NoisyParams(environment.EnvParams):
    """noise_sigma: standard deviation of the noise, in the units of what is shown (m, rad or none)."""

    max_steps_in_episode: int = 200
    noise_sigma: float = 0.1


class Control(environment.Environment):
    """A control task without noise; the state is that of gymnax's environment, observations are float32 [2]."""

    def __init__(self, name: str, family: Family):
        super().__init__()
        self._name, self._family = name, family
        self._physics, self._physics_params = gymnax.make(family.task)

    @property
    def name(self) -> str:
        return self._name

    @property
    def default_params(self) -> EnvParams:
        return EnvParams(**_limit_of(self._name))

    @property
    def num_actions(self) -> int:
        return self._physics.num_actions

    def action_space(self, params: EnvParams | None = None) -> spaces.Box | spaces.Discrete:
        return self._physics.action_space(self._physics_params)

    def observation_space(self, params: EnvParams | None = None) -> spaces.Box:
        whole = self._physics.observation_space(self._physics_params)
        low, high = (bound[np.array(self._family.shown)] for bound in (whole.low, whole.high))
        return spaces.Box(low, high, (2,), jnp.float32)

    def is_terminated(self, state: Any, params: EnvParams) -> jax.Array:
        return self._physics.is_terminated(state, self._physics_params)

    def draw_layout(self, key: jax.Array, params: EnvParams) -> dict[str, jax.Array]:
        """`state`: float32, x, x_dot, theta, theta_dot of the cart-pole, theta, theta_dot of the pendulum."""
        return {"state": state_values(self._family.task, self._physics.reset_env(key, self._physics_params)[1])}

    def reset_to(self, layout: dict[str, jax.Array], params: EnvParams) -> tuple[jax.Array, Any]:
        """Starts an episode in a given state; draws nothing."""
        state = start_state(self._family.task, layout["state"])
        return self._physics.get_obs(state)[np.array(self._family.shown_first)], state

    def reset_env(self, key: jax.Array, params: EnvParams) -> tuple[jax.Array, Any]:
        return self.reset_to(self.draw_layout(key, params), params)

    def step_env(self, key: jax.Array, state: Any, action: jax.Array | int, params: EnvParams):
        # Neither physics draws anything.
        obs, state, reward, terminated, _ = self._physics.step_env(key, state, action, self._physics_params)
        share = 1.0 if self._family.task == "CartPole-v1" else (reward + HALF_RANGE) / HALF_RANGE
        reward = jnp.float32(share) / params.max_steps_in_episode
        return obs[np.array(self._family.shown)], state, reward, terminated, {}


class NoisyControl(Control):
    """A control task whose observations are noisy; `noise` is what is added to one, float32 [2]."""

    @property
    def default_params(self) -> NoisyParams:
        return NoisyParams(**_limit_of(self._name), noise_sigma=options(self._name)["noise_sigma"])

    def draw_layout(self, key: jax.Array, params: NoisyParams) -> dict[str, jax.Array]:
        """`state` as without noise, and the `noise` of the first observation."""
        state_key, noise_key = jax.random.split(key)
        return super().draw_layout(state_key, params) | {"noise": _draw_noise(noise_key, params)}

    def reset_to(self, layout: dict[str, jax.Array], params: NoisyParams) -> tuple[jax.Array, Any]:
        obs, state = super().reset_to(layout, params)
        return self._add(layout["noise"], obs), state

    def step_env(self, key: jax.Array, state: Any, action: jax.Array | int, params: NoisyParams):
        return self.step_with(_draw_noise(key, params), state, action, params)

    def step_with(self, noise: jax.Array, state: Any, action: jax.Array | int, params: NoisyParams):
        """A step whose observation has this noise; draws nothing."""
        obs, *rest = super().step_env(None, state, action, params)
        return self._add(noise, obs), *rest

    def _add(self, noise: jax.Array, obs: jax.Array) -> jax.Array:
        space = self.observation_space()
        return jnp.clip(obs + jnp.asarray(noise, jnp.float32), space.low, space.high)


def _limit_of(env_id: str) -> dict[str, int]:
    return {"max_steps_in_episode": options(env_id)["max_episode_length"]}


def _draw_noise(key: jax.Array, params: NoisyParams) -> jax.Array:
    return params.noise_sigma * jax.random.normal(key, (2,), jnp.float32)
