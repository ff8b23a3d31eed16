"""Rules of MiniGrid-Memory. The grid never changes, so there are few views: what a state shows is looked up."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.minigrid_memory import world

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
"""Actions: a turn to the left, to the right, a step forward; the other four do nothing here but take time."""
PICTURE_TILE = 32  # pixels


@struct.dataclass
class EnvParams(environment.EnvParams):
    """Limits in steps.

    Attributes:
        max_steps_in_episode: truncates the episode.
        max_steps: the environment's own limit, by which the reward falls with time.
    """

    max_steps_in_episode: int = 245
    max_steps: int = 245


@struct.dataclass
class EnvState(environment.EnvState):
    """State of an episode; int32, may be batched.

    Attributes:
        time: steps taken.
        hallway_end: the hallway's last column.
        cue: the object in the start room, 0 key, 1 ball.
        top: the object above the junction; the other one lies below it.
        x, y: the agent's cell, to the right and down.
        direction: where it looks, 0 right, 1 down, 2 left, 3 up.
    """

    time: jax.Array
    hallway_end: jax.Array
    cue: jax.Array
    top: jax.Array
    x: jax.Array
    y: jax.Array
    direction: jax.Array


class MiniGridMemory(environment.Environment[EnvState, EnvParams]):
    """Find the object that was seen in the start room.

    Args:
        name: its id.
        size: cells of the grid's side, n, odd.
        random_hallway: whether the hallway's end is drawn from 4 to n - 3; else it is n - 3.
        observation: "symbolic" or "frame".
        agent_view_size: cells of the view's side, V, odd.
        tile_size: pixels of a cell's side in a frame, t.
        show_direction: whether observations have a fourth channel that holds the direction.

    Attributes:
        observation_categories: of symbolic observations, how many values each channel has; None of frames. The
            bytes are names and no brightnesses: one-hot is their encoding.
    """

    num_actions = 7

    def __init__(
        self,
        name: str,
        size: int,
        random_hallway: bool,
        observation: str = "symbolic",
        agent_view_size: int = 7,
        tile_size: int = 8,
        show_direction: bool = False,
    ):
        super().__init__()
        self._name, self.size = name, size
        self.agent_view_size, self.tile_size = agent_view_size, tile_size
        self._shortest = world.FIRST_HALL if random_hallway else size - 3
        self._view_of, views, directions = _views(size, self._shortest, agent_view_size, show_direction)
        if observation == "symbolic":
            self.observation_categories = (*world.CATEGORIES, 4) if show_direction else world.CATEGORIES
            self._strips = None
            self._symbols = _symbols(views, directions)[..., : len(self.observation_categories)]
            self._shape = self._symbols.shape[1:]
        else:
            self.observation_categories = None
            channels = 4 if show_direction else 3
            self._strips, self._strips_of = _strips(views, directions, tile_size, channels)
            self._shape = (agent_view_size * tile_size, agent_view_size * tile_size, channels)

    @property
    def name(self) -> str:
        return self._name

    @property
    def default_params(self) -> EnvParams:
        limit = 5 * self.size**2
        return EnvParams(max_steps_in_episode=limit, max_steps=limit)

    def draw_layout(self, key: jax.Array, params: EnvParams) -> jax.Array:
        """Draws (hallway_end, agent_x, cue, top), int32 [4]; see `reset_to`."""
        # Of 32 bits, the remainders of numbers up to 14 are even to 3e-9.
        bits = jax.random.bits(key, (3,), jnp.uint32)
        longest = self.size - 3
        hallway_end = self._shortest + (bits[0] % (longest - self._shortest + 1)).astype(jnp.int32)
        agent_x = 1 + (bits[1] % hallway_end.astype(jnp.uint32)).astype(jnp.int32)
        objects = bits[2].astype(jnp.int32)
        return jnp.stack([hallway_end, agent_x, objects & 1, objects >> 1 & 1])

    def reset_env(self, key: jax.Array, params: EnvParams) -> tuple[jax.Array, EnvState]:
        return self.reset_to(self.draw_layout(key, params), params)

    def reset_to(self, layout: jax.Array, params: EnvParams) -> tuple[jax.Array, EnvState]:
        """Starts an episode with a given layout; the agent looks to the right.

        Args:
            layout: int [4]. hallway_end: n - 3, or 4 to n - 3 where it is drawn; agent_x: 1 to hallway_end; cue:
                the object in the start room, 0 key, 1 ball; top: the object above the junction.

        Returns:
            (observation, state).

        Raises:
            ValueError: the layout is no [4].
        """
        layout = jnp.asarray(layout, jnp.int32)
        if layout.shape != (4,):
            raise ValueError(f"layout of shape {layout.shape}: must be (hallway_end, agent_x, cue, top)")
        hallway_end, agent_x, cue, top = layout
        state = EnvState(
            time=jnp.int32(0),
            hallway_end=hallway_end,
            cue=cue,
            top=top,
            x=agent_x,
            y=jnp.int32(self._centre),
            direction=jnp.int32(world.RIGHT),
        )
        return self.get_obs(state, params), state

    def step_env(self, key: jax.Array, state: EnvState, action: jax.Array | int, params: EnvParams):
        action = jnp.asarray(action, jnp.int32)
        turn = (action == RIGHT).astype(jnp.int32) - (action == LEFT)
        direction = (state.direction + turn) & 3
        ahead_x = state.x + (direction == world.RIGHT) - (direction == world.LEFT)
        ahead_y = state.y + (direction == world.DOWN) - (direction == world.UP)
        moves = (action == FORWARD) & self._is_free(ahead_x, ahead_y, state.hallway_end)
        state = state.replace(
            time=state.time + 1,
            x=jnp.where(moves, ahead_x, state.x),
            y=jnp.where(moves, ahead_y, state.y),
            direction=direction,
        )
        terminated = self.is_terminated(state, params)
        success = terminated & ((state.y < self._centre) == (state.cue == state.top))
        reward = jnp.where(success, 1.0 - 0.9 * (state.time / params.max_steps), 0.0).astype(jnp.float32)
        return (
            self.get_obs(state, params),
            state,
            reward,
            terminated,
            {"episode_success": success.astype(jnp.float32)},
        )

    def is_terminated(self, state: EnvState, params: EnvParams | None = None) -> jax.Array:
        """Whether the agent stands beside one of the two objects at the junction."""
        return (state.x == state.hallway_end + 1) & (state.y != self._centre)

    def get_obs(self, state: EnvState, params: EnvParams | None = None, key: jax.Array | None = None) -> jax.Array:
        """What the agent sees of a state."""
        place = state.hallway_end - self._shortest
        for count, number in (
            (2, state.cue),
            (2, state.top),
            (self.size, state.x),
            (3, state.y - self._centre + 1),
            (4, state.direction),
        ):
            place = place * count + number
        view = jnp.asarray(self._view_of)[place]
        if self._strips is None:
            return jnp.asarray(self._symbols)[view]
        return jnp.asarray(self._strips)[jnp.asarray(self._strips_of)[view]].reshape(self._shape)

    @property
    def _centre(self) -> int:
        """The hallway's row."""
        return self.size // 2

    def _is_free(self, x: jax.Array, y: jax.Array, hallway_end: jax.Array) -> jax.Array:
        """Whether a cell beside one that the agent can reach is empty."""
        in_row = (y == self._centre) & (x >= 1) & (x <= hallway_end + 1)
        aside = abs(y - self._centre) == 1
        is_cue = (x == 1) & (y == self._centre - 1)
        in_room = aside & (x >= 1) & (x < world.FIRST_HALL) & ~is_cue
        return in_row | in_room | (aside & (x == hallway_end + 1))

    def action_space(self, params: EnvParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: EnvParams | None = None) -> spaces.Box:
        return spaces.Box(0, 255, self._shape, jnp.uint8)

    def render(self, state: EnvState, params: EnvParams | None = None) -> np.ndarray:
        """Draws a state for people: uint8 [32 n, 32 n, 3], rows y, columns x; on the host.

        The whole grid from above, the agent a red triangle, the cells that it sees lighter than the others.
        """
        cells = world.grid(self.size, int(state.hallway_end), int(state.cue), int(state.top))
        position = np.array([int(state.x), int(state.y)])
        return world.picture(cells, position, int(state.direction), self.agent_view_size, PICTURE_TILE)


def _views(size: int, shortest: int, view: int, with_direction: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All that can be seen.

    Args:
        size, view: as in MiniGridMemory.
        shortest: the smallest hallway_end.
        with_direction: whether a view seen in two directions counts twice.

    Returns:
        (number of the view of every state, int32 flat of [hallway_end, cue, top, x, y from the row above the
        hallway, direction], 0 where the agent cannot be; views, int [views, V, V]; directions in which they are
        seen, or one of them, int [views]).
    """
    rows = size // 2 + np.arange(-1, 2)
    columns = np.arange(size)
    ends = np.arange(shortest, size - 2)
    number = np.zeros((len(ends), 2, 2, size, 3, 4), np.int32)
    places, seen = [], []
    for end, cue, top in np.ndindex(len(ends), 2, 2):
        cells = world.grid(size, ends[end], cue, top)
        x, y = np.nonzero((cells[:, rows] == world.EMPTY) & (columns[:, None] <= ends[end] + 1))
        position = np.stack([x, rows[y]], -1)[:, None]
        looks = world.look(cells, position, np.arange(4), view).reshape(len(x), 4, -1)  # [cells, direction, V V]
        told = np.broadcast_to((np.arange(4) * with_direction)[:, None], (len(x), 4, 1))
        places.append((end, cue, top, x, y))
        seen.append(np.concatenate([looks, told], -1))
    distinct, which = np.unique(np.concatenate(seen).reshape(-1, view * view + 1), axis=0, return_inverse=True)
    which = which.reshape(-1, 4)
    for place in places:
        count = len(place[-1])
        number[place], which = which[:count], which[count:]
    return number.ravel(), distinct[:, :-1].reshape(-1, view, view), distinct[:, -1]


def _symbols(views: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Views [views, i, j] in the original's bytes and the direction, uint8 [views, V, V, 4]."""
    channel = np.broadcast_to(directions[:, None, None, None], (*views.shape, 1))
    return np.concatenate([world.SYMBOLS[views], channel.astype(np.uint8)], -1)


def _strips(views: np.ndarray, directions: np.ndarray, size: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Views as pictures: a strip of pixels for every different row of cells, for there are fewer rows than views.

    Args:
        views: int [views, i, j].
        directions: int [views].
        size: pixels of a tile, t.
        channels: 3, or 4 with the direction, 0, 85, 170 or 255.

    Returns:
        (strips, uint8 [strips, t * V t * channels]; those of each view from the top, int32 [views, V]).
    """
    side = views.shape[-1]
    rows = views.swapaxes(1, 2).copy()  # as in a picture
    rows[:, -1, side // 2] = world.AGENT
    told = np.broadcast_to(directions[:, None, None], (*rows.shape[:2], 1))
    rows = np.concatenate([rows, told], -1).reshape(-1, side + 1)
    distinct, number = np.unique(rows, axis=0, return_inverse=True)
    tiles = np.stack([world.tile(kind, size) for kind in range(world.AGENT + 1)])
    pixels = np.empty((len(distinct), size, side, size, channels), np.uint8)
    pixels[..., :3] = tiles[distinct[:, :-1]].swapaxes(1, 2)
    pixels[..., 3:] = 85 * distinct[:, -1].reshape(-1, 1, 1, 1, 1)
    return pixels.reshape(len(distinct), -1), number.reshape(-1, side).astype(np.int32)
