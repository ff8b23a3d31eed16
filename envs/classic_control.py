"""Classic control on gymnax's physics, of which an agent sees positions or velocities only.

| task                     | state                      | observation                      | -P     | -V   |
|--------------------------|----------------------------|----------------------------------|--------|------|
| CartPole-v1              | x, x_dot, theta, theta_dot | the same                         | 0, 2   | 1, 3 |
| Acrobot-v1               | two angles, two velocities | cos, sin, cos, sin; the same two | 0 to 3 | 4, 5 |
| MountainCar-v0           | position, velocity         | the same                         | 0      | 1    |
| MountainCarContinuous-v0 | position, velocity         | the same                         | 0      | 1    |
| Pendulum-v1              | theta, theta_dot           | cos, sin, theta_dot              | 0, 1   | 2    |

-P needs memory: speed is the difference of two observations. -V of both mountain cars and of Acrobot, and
nearly that of CartPole, needs none (see `reference`): these prove nothing about memory. Hidden entries are left
out (as `brax/<task>-P` does) or, with `zero_hidden`, shown as zeros, as in the NoVel tasks of
Stable-Baselines3's zoo and in BenchNetRL: the information is the same, the size is not.

Physics, limits and starts are gymnax 1.0.1's. One step of it is gymnasium's but for rounding, except in
MountainCarContinuous: gymnasium stops a car at the left wall (velocity 0 at position -1.2). gymnax lets it keep
its negative velocity, so that no force moves it away for 20 steps, and stops a car that rolls back at the goal
instead. `gymnasium_wall` chooses gymnasium's rule. Published scores are with it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import environment, spaces
from gymnax.environments.classic_control import acrobot, cartpole, continuous_mountain_car, mountain_car, pendulum

SHOWN = {
    "CartPole-v1": {"P": (0, 2), "V": (1, 3)},
    "Acrobot-v1": {"P": (0, 1, 2, 3), "V": (4, 5)},
    "MountainCar-v0": {"P": (0,), "V": (1,)},
    "MountainCarContinuous-v0": {"P": (0,), "V": (1,)},
    "Pendulum-v1": {"P": (0, 1), "V": (2,)},
}
"""Entries of gymnax's observations that show positions and velocities."""

WITH_GOAL = ("Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0")
"""Tasks in which an episode that terminates has succeeded."""

_SEARCH = "cross-entropy search over stochastic networks of the current observation: a lower bound"
_KNOWN = {
    "CartPole-v1": {
        "": (500.0, "measured", "feedback of the state; the limit"),
        "P": (54.0, "measured", f"P(right) = sigmoid(25 theta + 3 x); {_SEARCH}"),
        "V": (464.0, "measured", f"{_SEARCH}; hardly a test of memory"),
        "random": (22.2, "measured", "20,000 episodes"),
    },
    "Acrobot-v1": {
        "": (-76.5, "measured", "search with the state seen: a lower bound"),
        "P": (-134.0, "measured", _SEARCH),
        "V": (-82.0, "measured", f"{_SEARCH}; no test of memory"),
        "random": (-498.8, "measured", "20,000 episodes"),
    },
    "MountainCar-v0": {
        "": (-101.0, "published", "DQN with the state seen"),
        "P": (-200.0, "measured", f"{_SEARCH}; a force of the position alone builds up no energy"),
        "V": (-116.0, "measured", f"{_SEARCH}; no test of memory"),
        "random": (-200.0, "measured", "20,000 episodes"),
    },
    "MountainCarContinuous-v0": {
        "": (98.5, "measured", "a force of 0.2 in the direction of motion; 98.6 with gymnasium_wall"),
        "P": (0.0, "measured", f"standing still; {_SEARCH}"),
        "V": (
            98.5,
            "measured",
            "a force of 0.2 in the direction of motion, 98.6 with gymnasium_wall; no test of memory",
        ),
        "random": (-33.1, "measured", "8,000 episodes"),
    },
    "Pendulum-v1": {
        "": (-152.0, "published", "DDPG with the state seen"),
        "P": (-1007.0, "measured", _SEARCH),
        "V": (-914.0, "measured", _SEARCH),
        "random": (-1229.0, "measured", "20,000 episodes"),
    },
}

_MODULES = {
    "CartPole-v1": cartpole,
    "Acrobot-v1": acrobot,
    "MountainCar-v0": mountain_car,
    "MountainCarContinuous-v0": continuous_mountain_car,
    "Pendulum-v1": pendulum,
}


def state_fields(task: str) -> tuple[str, ...]:
    """Names of the entries of a layout's `state`: gymnax's fields that the physics reads, in its order."""
    names = (field.name for field in dataclasses.fields(_MODULES[task].EnvState))
    return tuple(name for name in names if name not in ("time", "last_u"))


def start_state(task: str, values: jax.Array) -> Any:
    """gymnax's state at time 0 with these values of `state_fields`, [n]."""
    values = jnp.asarray(values, jnp.float32)
    fields = {name: values[i] for i, name in enumerate(state_fields(task))}
    if task == "Pendulum-v1":
        fields["last_u"] = jnp.float32(0)  # only drawn
    return _MODULES[task].EnvState(time=jnp.int32(0), **fields)


def state_values(task: str, state: Any) -> jax.Array:
    """The inverse of `start_state`: float32 [n]."""
    return jnp.stack([getattr(state, name) for name in state_fields(task)])


# LSTM-PPO of Stable-Baselines3's zoo on gymnasium's tasks with zeros for velocities, and its episodes' deviation.
_NOVEL = {
    "CartPole-v1": "500.0 +- 0.0",
    "MountainCarContinuous-v0": "91.5 +- 1.8",
    "Pendulum-v1": "-217.9 +- 140.1",
}


def reference(task: str, variant: str) -> dict[str, dict[str, Any]]:
    """Known returns of a task with everything (variant "") or a part ("P", "V") seen; see `envs.reference`."""
    known = _KNOWN[task]
    value, mark, note = known[""]
    if variant:
        note += "; memory can tell what is hidden but for the first steps"
    if variant == "P" and task in _NOVEL:
        note += f"; published with an LSTM {_NOVEL[task]}"
    rows = {"random": known["random"], "without_memory": known[variant], "with_memory": (value, mark, note)}
    return {name: dict(zip(("value", "mark", "note"), row, strict=True)) for name, row in rows.items()}


class WalledMountainCar(continuous_mountain_car.ContinuousMountainCar):
    """MountainCarContinuous with gymnasium's left wall, and with nothing that stops a car which rolls back."""

    def step_env(self, key: jax.Array, state: Any, action: jax.Array, params: Any):
        action = jnp.asarray(action, jnp.float32).squeeze()
        force = jnp.clip(action, params.min_action, params.max_action)
        pull = params.power * force - params.gravity * jnp.cos(3 * state.position)
        velocity = jnp.clip(state.velocity + pull, -params.max_speed, params.max_speed)
        position = jnp.clip(state.position + velocity, params.min_position, params.max_position)
        velocity = jnp.where((position == params.min_position) & (velocity < 0), 0.0, velocity)
        state = state.replace(position=position, velocity=velocity, time=state.time + 1)
        terminated = self.is_terminated(state, params)
        reward = 100.0 * terminated - 0.1 * action**2
        return self.get_obs(state), state, reward, terminated, {"discount": self.discount(state, params)}


class Masked(environment.Environment):
    """A classic control task that shows some entries of its observation; the state is gymnax's.

    Args:
        env: gymnax's environment.
        variant: "P" (positions) or "V" (velocities).
        zero_hidden: whether the hidden entries are shown as zeros; they are left out otherwise.
    """

    def __init__(self, env: environment.Environment, variant: str, zero_hidden: bool = False):
        super().__init__()
        self._env, self._variant, self._zero_hidden = env, variant, zero_hidden
        self._shown = np.array(SHOWN[env.name][variant])

    @property
    def name(self) -> str:
        return f"gymnax/{self._env.name}-{self._variant}"

    @property
    def default_params(self) -> Any:
        return self._env.default_params

    @property
    def num_actions(self) -> int:
        return self._env.num_actions

    def action_space(self, params: Any = None) -> spaces.Box | spaces.Discrete:
        return self._env.action_space(params)

    def observation_space(self, params: Any = None) -> spaces.Box:
        whole = self._env.observation_space(self.default_params if params is None else params)
        low, high = self._show(whole.low), self._show(whole.high)
        return spaces.Box(low, high, low.shape, jnp.float32)

    def is_terminated(self, state: Any, params: Any) -> jax.Array:
        return self._env.is_terminated(state, params)

    def draw_layout(self, key: jax.Array, params: Any) -> dict[str, jax.Array]:
        """`state`: float32 [n], the values of `state_fields` at an episode's start."""
        return {"state": state_values(self._env.name, self._env.reset_env(key, params)[1])}

    def reset_to(self, layout: dict[str, jax.Array], params: Any) -> tuple[jax.Array, Any]:
        """Starts an episode in a given state; draws nothing."""
        state = start_state(self._env.name, layout["state"])
        return self._show(self._env.get_obs(state)), state

    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        return self.reset_to(self.draw_layout(key, params), params)

    def step_env(self, key: jax.Array, state: Any, action: jax.Array | int, params: Any):
        obs, state, reward, terminated, info = self._env.step_env(key, state, action, params)
        if self._env.name in WITH_GOAL:
            info["episode_success"] = terminated.astype(jnp.float32)
        return self._show(obs), state, reward, terminated, info

    def _show(self, obs: jax.Array) -> jax.Array:
        if not self._zero_hidden:
            return obs[self._shown]
        return jnp.where(np.isin(np.arange(obs.size), self._shown), obs, 0.0)
