"""Rules of Mystery Path: what both forms share, and how the agent moves in each."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.mystery_path import generator, rendering
from envs.mystery_path.generator import CELLS, SIZE, Layout
from envs.mystery_path.rendering import MAX_CENTRE, MIN_CENTRE, SCREEN, TILE

PLANES = 7
"""Planes of the symbolic observation: origin, goal, agent facing up, left, down, right, and the red cross."""


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The original's reset parameters; those with other names:

    Attributes:
        max_steps_in_episode: max_steps; 0 or less: no limit.
        straight_step, diagonal_step: pixels a step moves each coordinate by, as agent_speed gives them.
        time_limit_terminates: whether the time limit terminates, as in the original, rather than truncates.
    """

    max_steps_in_episode: int = 128
    cardinal_origin_choice: tuple[int, ...] = (0, 1, 2, 3)
    show_origin: bool = False
    show_goal: bool = False
    visual_feedback: bool = True
    reward_goal: float = 1.0
    reward_fall_off: float = 0.0
    reward_path_progress: float = 0.0
    reward_step: float = 0.0
    straight_step: int = 3
    diagonal_step: int = 2
    time_limit_terminates: bool = False


@struct.dataclass
class Cells:
    """A set of cells as bits: cells 0 to 31, and cells 32 to 48; uint32."""

    low: jax.Array
    high: jax.Array

    @classmethod
    def of(cls, members: jax.Array) -> "Cells":
        """From bool [49]."""
        bits = jnp.pad(jnp.asarray(members, bool), (0, 64 - CELLS)).reshape(2, 32).astype(jnp.uint32)
        words = jnp.sum(bits << np.arange(32, dtype=np.uint32), 1, dtype=jnp.uint32)
        return cls(words[0], words[1])

    @classmethod
    def single(cls, cell: jax.Array) -> "Cells":
        """The set of one cell, int32."""
        bit = jnp.uint32(1) << (cell & 31).astype(jnp.uint32)
        return cls(jnp.where(cell < 32, bit, jnp.uint32(0)), jnp.where(cell < 32, jnp.uint32(0), bit))

    def meets(self, other: "Cells") -> jax.Array:
        """Whether they have a cell in common."""
        return (self.low & other.low | self.high & other.high) != 0

    def members(self) -> jax.Array:
        """bool [..., 49]."""
        cell = np.arange(CELLS, dtype=np.uint32)
        word = jnp.where(cell < 32, self.low[..., None], self.high[..., None])
        return (word >> (cell % 32) & 1).astype(bool)


@struct.dataclass
class EnvState(environment.EnvState):
    """State of an episode, which may be batched.

    Attributes:
        time: steps taken.
        x, y: the agent's centre in pixels, to the right and down.
        heading: eighths of a turn to the left of up, 0 to 7.
        off_path: whether the last step left the path; the next one puts the agent back.
        num_fails: times it did.
        origin, goal: cell ids, 7 x + y.
        path_cells: cells of the path, packed.
        visited_cells: those that have paid their reward for progress, packed.
    """

    time: jax.Array
    x: jax.Array
    y: jax.Array
    heading: jax.Array
    off_path: jax.Array
    num_fails: jax.Array
    origin: jax.Array
    goal: jax.Array
    path_cells: Cells
    visited_cells: Cells

    @property
    def position(self) -> jax.Array:
        """Centre (x, y) of the agent in pixels, int32 [..., 2]."""
        return jnp.stack([self.x, self.y], -1)

    @property
    def rotation(self) -> jax.Array:
        """Degrees to the left of up, int32: 0 up, 90 left, 180 down, 270 right."""
        return 45 * self.heading

    @property
    def path(self) -> jax.Array:
        """Cells of the path, bool [..., 49]."""
        return self.path_cells.members()

    @property
    def visited(self) -> jax.Array:
        """Cells of the path that have paid their reward for progress, bool [..., 49]."""
        return self.visited_cells.members()


class MysteryPath(environment.Environment[EnvState, EnvParams]):
    """Moves in eight directions by pixels. Action a: a // 3 none, left, right; a % 3 none, up, down.

    Args:
        name: its id.
        default_params: those of this id.
        observation: "frame".
    """

    num_actions = 9

    def __init__(self, name: str, default_params: EnvParams, observation: str = "frame"):
        super().__init__()
        self._name, self._default_params, self.observation = name, default_params, observation

    @property
    def name(self) -> str:
        return self._name

    @property
    def default_params(self) -> EnvParams:
        return self._default_params

    def move(self, state: EnvState, action: jax.Array, params: EnvParams) -> tuple[jax.Array, ...]:
        """(x, y, heading) after an action on the path."""
        h, v = action // 3, action % 3
        pixels = jnp.where((h > 0) & (v > 0), params.diagonal_step, params.straight_step)
        x = state.x + pixels * ((h == 2).astype(jnp.int32) - (h == 1))
        y = state.y + pixels * ((v == 2).astype(jnp.int32) - (v == 1))
        # Of action 3 h + v: left 2, right 6, up 0, down 4, and between them the diagonals.
        heading = jnp.asarray(np.array([-1, 0, 4, 2, 1, 3, 6, 7, 5], np.int32))[action]
        heading = jnp.where(heading < 0, state.heading, heading)
        return jnp.clip(x, MIN_CENTRE, MAX_CENTRE), jnp.clip(y, MIN_CENTRE, MAX_CENTRE), heading

    def reset_env(self, key: jax.Array, params: EnvParams) -> tuple[jax.Array, EnvState]:
        draws = generator.draw(key, params.cardinal_origin_choice)
        return self.reset_to(generator.layout(draws), params)

    def reset_to(self, layout: Layout, params: EnvParams) -> tuple[jax.Array, EnvState]:
        """Starts an episode with a given layout.

        Returns:
            (observation, state).

        Raises:
            ValueError: the path is no [49].
        """
        path = jnp.asarray(layout.path, bool)
        if path.shape != (CELLS,):
            raise ValueError(f"layout.path of shape {path.shape}: must be of shape ({CELLS},), bool")
        origin = jnp.asarray(layout.origin, jnp.int32)
        zero = jnp.int32(0)
        state = EnvState(
            time=zero,
            x=_centre(origin // SIZE),
            y=_centre(origin % SIZE),
            heading=zero,
            off_path=jnp.bool_(False),
            num_fails=zero,
            origin=origin,
            goal=jnp.asarray(layout.goal, jnp.int32),
            path_cells=Cells.of(path),
            visited_cells=Cells(jnp.uint32(0), jnp.uint32(0)),
        )
        return self.get_obs(state, params), state

    def step_env(self, key: jax.Array, state: EnvState, action: jax.Array | int, params: EnvParams):
        x, y, heading = self.move(state, jnp.asarray(action, jnp.int32), params)
        # The step after a fall does nothing but put the agent back on the origin.
        x = jnp.where(state.off_path, _centre(state.origin // SIZE), x)
        y = jnp.where(state.off_path, _centre(state.origin % SIZE), y)
        heading = jnp.where(state.off_path, state.heading, heading)

        cell = _cell(x, y)
        here = Cells.single(cell)
        success = cell == state.goal
        on_path = state.path_cells.meets(here)
        off_path = ~success & ~on_path
        progress = ~success & on_path & (cell != state.origin) & ~state.visited_cells.meets(here)
        reward = jnp.where(progress, params.reward_path_progress, 0.0)
        reward = jnp.where(off_path, params.reward_fall_off, reward)
        reward = jnp.where(success, params.reward_goal, reward) + params.reward_step

        visited = jax.tree.map(lambda seen, new: jnp.where(progress, seen | new, seen), state.visited_cells, here)
        state = state.replace(
            time=state.time + 1,
            x=x,
            y=y,
            heading=heading,
            off_path=off_path,
            num_fails=state.num_fails + off_path,
            visited_cells=visited,
        )
        terminated = success | (self._time_is_up(state, params) & params.time_limit_terminates)
        info = {
            "episode_success": success.astype(jnp.float32),
            "episode_fails": state.num_fails.astype(jnp.float32),
        }
        return self.get_obs(state, params), state, reward.astype(jnp.float32), terminated, info

    def is_truncated(self, state: EnvState, params: EnvParams) -> jax.Array:
        at_goal = _cell(state.x, state.y) == state.goal
        return self._time_is_up(state, params) & ~at_goal & jnp.logical_not(params.time_limit_terminates)

    def _time_is_up(self, state: EnvState, params: EnvParams) -> jax.Array:
        return (state.time >= params.max_steps_in_episode) & (params.max_steps_in_episode > 0)

    def get_obs(self, state: EnvState, params: EnvParams | None = None, key: jax.Array | None = None) -> jax.Array:
        """What the agent sees of a state."""
        params = self.default_params if params is None else params
        cross = state.off_path & params.visual_feedback
        if self.observation == "symbolic":
            return self._symbols(state, cross, params)
        return rendering.frame(
            state.x, state.y, state.heading, cross, state.origin, state.goal, params.show_origin, params.show_goal
        )

    def _symbols(self, state: EnvState, cross: jax.Array, params: EnvParams) -> jax.Array:
        agent = (_cell(state.x, state.y) * 4 + state.heading // 2) * 2 + cross
        planes = jnp.asarray(_AGENT_PLANES)[agent]
        planes |= jnp.asarray(_ORIGIN_PLANES)[jnp.where(params.show_origin, state.origin, CELLS)]
        planes |= jnp.asarray(_GOAL_PLANES)[jnp.where(params.show_goal, state.goal, CELLS)]
        return planes.reshape(SIZE, SIZE, PLANES)

    def action_space(self, params: EnvParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: EnvParams | None = None) -> spaces.Box:
        if self.observation == "symbolic":
            return spaces.Box(0, 1, (SIZE, SIZE, PLANES), jnp.bool_)
        return spaces.Box(0, 255, (SCREEN, SCREEN, 3), jnp.uint8)

    def render(self, state: EnvState, params: EnvParams | None = None) -> np.ndarray:
        """Draws a state for people: uint8 [420, 420, 3], rows y, columns x; on the host.

        Other than the agent, the viewer sees the hidden path in dark grey (lighter where it has paid its reward),
        and origin and goal in dark blue and green where they are not shown.
        """
        params = self.default_params if params is None else params
        cross = state.off_path & params.visual_feedback
        observed = rendering.frame(
            state.x, state.y, state.heading, cross, state.origin, state.goal, params.show_origin, params.show_goal
        )
        seen = (observed, state.path, state.visited)
        return rendering.picture(*map(np.asarray, seen), int(state.origin), int(state.goal))


def _end_planes(plane: int) -> np.ndarray:
    """One true value in this plane at every cell, and none in the last row: bool [50, 343]."""
    table = np.zeros((CELLS + 1, CELLS, PLANES), bool)
    table[np.arange(CELLS), np.arange(CELLS), plane] = True
    return table.reshape(CELLS + 1, -1)


def _agent_planes() -> np.ndarray:
    """Where, how turned, whether with the cross: bool [49 * 4 * 2, 343]."""
    table = np.zeros((CELLS, 4, 2, CELLS, PLANES), bool)
    for cell in range(CELLS):
        table[cell, np.arange(4), :, cell, 2 + np.arange(4)] = True
        table[cell, :, 1, cell, 6] = True
    return table.reshape(CELLS * 4 * 2, -1)


# Rows of tables are copied three times as fast as their values are computed.
_ORIGIN_PLANES, _GOAL_PLANES, _AGENT_PLANES = _end_planes(0), _end_planes(1), _agent_planes()


class MysteryPathGrid(MysteryPath):
    """Moves by cells. Actions: 0 nothing, 1 a quarter turn to the left, 2 to the right, 3 one cell forward.

    The observation may also be "symbolic".
    """

    num_actions = 4

    def move(self, state: EnvState, action: jax.Array, params: EnvParams) -> tuple[jax.Array, ...]:
        turn = 2 * ((action == 1).astype(jnp.int32) - (action == 2))
        forward = TILE * (action == 3).astype(jnp.int32)
        x = state.x + forward * ((state.heading == 6).astype(jnp.int32) - (state.heading == 2))
        y = state.y + forward * ((state.heading == 4).astype(jnp.int32) - (state.heading == 0))
        # From the outermost cell a step out of the grid is clipped to no step.
        x, y = jnp.clip(x, MIN_CENTRE, MAX_CENTRE), jnp.clip(y, MIN_CENTRE, MAX_CENTRE)
        return x, y, (state.heading + turn) & 7


def _centre(coordinate: jax.Array) -> jax.Array:
    """Pixel at the centre of a column or row of cells."""
    return TILE * coordinate + TILE // 2


def _cell(x: jax.Array, y: jax.Array) -> jax.Array:
    return SIZE * (x // TILE) + y // TILE
