"""What POPGym's tasks share: levels, layouts apart from resets, one-hot observations, time limits."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

LEVELS = ("Easy", "Medium", "Hard")

Layout = dict[str, jax.Array]
"""What was drawn at an episode's start, by name."""


class Task(environment.Environment):
    """A task that draws nothing but its layout, and never runs into a time limit.

    A subclass says what `sample_layout` draws and `start` makes of it, and has a `step_env`.

    Args:
        level: one of `LEVELS`.
        obs_size: length of the observation, several one-hot vectors in a row.
        num_actions: number of flat actions.
        steps: length of the longest episode.
        layout: the shape of every array of a layout.
    """

    def __init__(
        self, level: str, obs_size: int, num_actions: int, steps: int, layout: dict[str, tuple[int, ...]]
    ):
        super().__init__()
        self.level, self.obs_size, self.steps, self.layout = level, obs_size, steps, layout
        self._num_actions = num_actions

    @property
    def name(self) -> str:
        return f"popgym/{type(self).__name__}{self.level}"

    @property
    def default_params(self) -> environment.EnvParams:
        return environment.EnvParams(max_steps_in_episode=self.steps)

    @property
    def num_actions(self) -> int:
        return self._num_actions

    def action_space(self, params: environment.EnvParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: environment.EnvParams | None = None) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (self.obs_size,), jnp.float32)

    def sample_layout(self, key: jax.Array, params: environment.EnvParams) -> Layout:
        """Draws what an episode hides; nothing else is drawn in a reset."""
        raise NotImplementedError

    def start(self, layout: Layout) -> tuple[jax.Array, environment.EnvState]:
        """(observation, state) at the beginning of an episode with this layout."""
        raise NotImplementedError

    def reset_env(self, key: jax.Array, params: environment.EnvParams) -> tuple[jax.Array, environment.EnvState]:
        return self.reset_to(self.sample_layout(key, params), params)

    def reset_to(
        self, layout: Layout, params: environment.EnvParams | None = None
    ) -> tuple[jax.Array, environment.EnvState]:
        """Starts an episode with a given layout; draws nothing.

        Args:
            layout: as `sample_layout` gives it; further names are of no effect.

        Returns:
            (observation float32 [obs_size], state).

        Raises:
            ValueError: an array is missing or of another shape.
        """
        for name, shape in self.layout.items():
            found = jnp.shape(layout[name]) if name in layout else None
            if found != shape:
                raise ValueError(f"layout.{name} of shape {found}: must be of shape {shape} in {self.name}")
        return self.start(layout)

    def is_truncated(self, state: environment.EnvState, params: environment.EnvParams) -> jax.Array:
        """False: the last step terminates the episode."""
        return jnp.bool_(False)


@struct.dataclass
class TimedParams(environment.EnvParams):
    """Parameters of the tasks with a time limit.

    Attributes:
        max_steps_in_episode: the time limit in steps.
        time_limit_terminates: whether it terminates the episode, as in the paper, rather than truncates it.
    """

    max_steps_in_episode: int = 1
    time_limit_terminates: bool = False


class TimedTask(Task):
    """A task with a time limit. As in the original, a step may be terminated and truncated."""

    @property
    def default_params(self) -> TimedParams:
        return TimedParams(max_steps_in_episode=self.steps)

    def is_truncated(self, state: environment.EnvState, params: TimedParams) -> jax.Array:
        return self._time_is_up(state, params) & jnp.logical_not(params.time_limit_terminates)

    def _terminated(self, ended: jax.Array, state: environment.EnvState, params: TimedParams) -> jax.Array:
        """Whether a step terminates that `ended` the task or not and led to `state`."""
        return ended | (self._time_is_up(state, params) & params.time_limit_terminates)

    def _time_is_up(self, state: environment.EnvState, params: TimedParams) -> jax.Array:
        return state.time >= params.max_steps_in_episode


def encode(*components: tuple[jax.Array, int]) -> jax.Array:
    """One-hot vectors in a row, float32: of every (value or values [K], number of values)."""
    return jnp.concatenate([jax.nn.one_hot(value, size).ravel() for value, size in components])


def success(reached: jax.Array) -> dict[str, jax.Array]:
    """The info of a step that `reached` the end of the task or not."""
    return {"episode_success": reached.astype(jnp.float32)}
