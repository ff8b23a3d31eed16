"""Environments that a correct trainer solves at once; each shows one fault at a time.

`value_only`: one observation, reward 1, the end: V = 1.
`reward_by_observation`: the reward is the observation, 1 or -1, whatever is done: V(obs) = obs.
`recall`: a cue, 1 or -1, in the first of `length` observations, zeros after it; the last action must name it.
`truncation`: reward 1 for ever, cut every five steps: V = 1 / (1 - gamma).
"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

import envs


@struct.dataclass
class State:
    time: jax.Array
    cue: jax.Array  # -1 or 1


@struct.dataclass
class Params:
    max_steps_in_episode: int = 1000


class Probe(environment.Environment):
    """kind: one of the above. length: steps until the episode terminates (never in `truncation`)."""

    def __init__(self, kind, length=1):
        self.kind, self.length = kind, length

    def reset_env(self, key, params):
        state = State(time=jnp.int32(0), cue=jax.random.rademacher(key, (), jnp.float32))
        return self.see(state), state

    def see(self, state):
        shown = state.cue * (state.time == 0) if self.kind in ("reward_by_observation", "recall") else 0.0
        return jnp.stack([jnp.float32(shown), jnp.float32(1.0)])

    def step_env(self, key, state, action, params):
        last = state.time + 1 == self.length
        rewards = {
            "value_only": 1.0,
            "truncation": 1.0,
            "reward_by_observation": state.cue,
            "recall": jnp.where(last, jnp.where(action == (state.cue > 0), 1.0, -1.0), 0.0),
        }
        state = state.replace(time=state.time + 1)
        terminated = last & (self.kind != "truncation")
        return self.see(state), state, jnp.float32(rewards[self.kind]), terminated, {}

    def action_space(self, params):
        return spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (2,))


def use_probe(monkeypatch, kind, length=1, limit=1000):
    """Make every envs.make return a Probe."""
    made = (Probe(kind, length), Params(max_steps_in_episode=limit))
    monkeypatch.setattr(envs, "make", lambda env_id, **options: made)
