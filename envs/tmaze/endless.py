"""TMaze-Endless: corridor after corridor, and in each a new cue that replaces the old one.

The task of arXiv 2601.15086 in the rules of its public code's second form. A corridor has places x = 0 .. l,
where l is corridor_len or, with uniform_lengths, uniform on 1 .. corridor_len, and its junction is at x = l.
Actions 0 forward, 1 left, 2 right. Before the junction forward moves on and pays forward_reward; a turn moves
nothing and pays corridor_penalty. At the junction the cue's turn pays correct_reward and leads to the start of
the next corridor; anything else, forward too, pays wrong_reward and ends the episode. So does the correct
turn out of the last corridor; the agent then stays where it is.

Observation float32 [3]: [x / corridor_len, 1 if the cue is left and x = 0, 1 if it is right and x = 0]. The
junction looks like the corridor: with uniform_lengths the best one can do is to try the cue's turn at every
place once.

num_corridors 0: no last corridor; cues and lengths are then drawn in the steps that need them. The time limit,
6 (corridor_len + 1) num_corridors by default and that of ten corridors without a last one, truncates, and a
turn that falls on it does not terminate.

The defaults are the public code's values. The paper names +1, -1 and -0.01, which this package reads as
wrong_reward -1, corridor_penalty -0.01 and forward_reward -0.01; the paper's own code was not found.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.tmaze.rendering import Scene, draw

FORWARD, LEFT, RIGHT = range(3)


@struct.dataclass
class EndlessParams(environment.EnvParams):
    max_steps_in_episode: int = 660
    corridor_len: int = 10
    correct_reward: float = 1.0
    wrong_reward: float = -0.01
    corridor_penalty: float = -0.01
    forward_reward: float = 0.0


@struct.dataclass
class EndlessState(environment.EnvState):
    """State of an episode, all int32; C = num_corridors, or 1 where that is 0.

    Attributes:
        time: steps taken.
        x: place in the corridor, 0 .. its length.
        corridor: corridors left behind.
        hints: cues [C], -1 left or 1 right; without a last corridor only that of the present one.
        lengths: lengths of the corridors [C], likewise.
    """

    time: jax.Array
    x: jax.Array
    corridor: jax.Array
    hints: jax.Array
    lengths: jax.Array


def own_limit(corridor_len: int, num_corridors: int) -> int:
    """The default time limit in steps."""
    return 6 * (corridor_len + 1) * (num_corridors or 10)


class TMazeEndless(environment.Environment[EndlessState, EndlessParams]):
    """See the module.

    Args:
        num_corridors: corridors to the end of an episode; 0 for no last one.
        uniform_lengths: whether lengths are drawn.
    """

    num_actions = 3

    def __init__(self, num_corridors: int = 10, uniform_lengths: bool = False):
        super().__init__()
        self.num_corridors, self.uniform_lengths = num_corridors, uniform_lengths

    @property
    def name(self) -> str:
        return "TMaze-Endless"

    @property
    def default_params(self) -> EndlessParams:
        limit = own_limit(EndlessParams.corridor_len, self.num_corridors)
        return EndlessParams(max_steps_in_episode=limit)

    def draw_layout(self, key: jax.Array, params: EndlessParams) -> dict[str, jax.Array]:
        """Cues and lengths of the corridors: {"hints": int32 [C], "lengths": int32 [C]}, see `EndlessState`."""
        return self._draw_corridors(key, max(self.num_corridors, 1), params)

    def reset_to(self, layout: dict[str, Any], params: EndlessParams) -> tuple[jax.Array, EndlessState]:
        """Starts an episode with these corridors; see `draw_layout`."""
        state = EndlessState(
            time=jnp.int32(0),
            x=jnp.int32(0),
            corridor=jnp.int32(0),
            hints=jnp.asarray(layout["hints"], jnp.int32),
            lengths=jnp.asarray(layout["lengths"], jnp.int32),
        )
        return self._observe(state, params), state

    def reset_env(self, key: jax.Array, params: EndlessParams) -> tuple[jax.Array, EndlessState]:
        return self.reset_to(self.draw_layout(key, params), params)

    def step_env(self, key: jax.Array, state: EndlessState, action: jax.Array | int, params: EndlessParams):
        noise = None
        if not self.num_corridors:
            noise = self._draw_corridors(key, 1, params)
        return self.step_with(noise, state, action, params)

    def step_with(
        self,
        noise: dict[str, Any] | None,
        state: EndlessState,
        action: jax.Array | int,
        params: EndlessParams,
    ):
        """A step in which nothing is drawn.

        Args:
            noise: without a last corridor, what comes after a correct turn: {"hints": int32 [1], "lengths": int32
                [1]}; otherwise not used.
        """
        action = jnp.asarray(action)
        hint, length = self._present(state)
        at_junction = state.x == length
        turn = (action == RIGHT).astype(jnp.int32) - (action == LEFT).astype(jnp.int32)
        correct = at_junction & (turn == hint)
        forward = ~at_junction & (action == FORWARD)
        corridor = state.corridor + correct
        finished = correct & (corridor == self.num_corridors)
        x = jnp.where(correct & ~finished, 0, state.x + forward)
        state = state.replace(time=state.time + 1, x=x, corridor=corridor)
        if not self.num_corridors:
            state = state.replace(
                hints=jnp.where(correct, jnp.asarray(noise["hints"], jnp.int32), state.hints),
                lengths=jnp.where(correct, jnp.asarray(noise["lengths"], jnp.int32), state.lengths),
            )

        in_corridor = jnp.where(forward, params.forward_reward, params.corridor_penalty)
        at_end = jnp.where(correct, params.correct_reward, params.wrong_reward)
        reward = jnp.where(at_junction, at_end, in_corridor).astype(jnp.float32)
        out_of_time = state.time >= params.max_steps_in_episode
        terminated = ((at_junction & ~correct) | finished) & ~out_of_time
        return self._observe(state, params), state, reward, terminated, self._report(state, finished)

    def _report(self, state: EndlessState, finished: jax.Array) -> dict[str, jax.Array]:
        """What `info` says of an episode: corridors done, as a share of all if there is a last one."""
        done = state.corridor.astype(jnp.float32)
        if not self.num_corridors:
            return {"episode_corridors_done": done}
        return {
            "episode_success": finished.astype(jnp.float32),
            "episode_share_done": done / self.num_corridors,
        }

    def _present(self, state: EndlessState) -> tuple[jax.Array, jax.Array]:
        """Cue and length of the corridor the agent is in."""
        place = state.corridor if self.num_corridors else 0
        return tuple(jnp.take(each, place, mode="clip") for each in (state.hints, state.lengths))

    def _draw_corridors(self, key: jax.Array, count: int, params: EndlessParams) -> dict[str, jax.Array]:
        bits = jax.random.bits(key, (2, count), jnp.uint32)
        hints = 2 * (bits[0] & 1).astype(jnp.int32) - 1
        lengths = jnp.full(count, params.corridor_len, jnp.int32)
        if self.uniform_lengths:  # a word modulo the length: even to 2^-32 of it
            lengths = 1 + (bits[1] % jnp.uint32(params.corridor_len)).astype(jnp.int32)
        return {"hints": hints, "lengths": lengths}

    def _observe(self, state: EndlessState, params: EndlessParams) -> jax.Array:
        hint, _ = self._present(state)
        cue = [(state.x == 0) & (hint == side) for side in (-1, 1)]
        return jnp.stack([state.x / params.corridor_len, *cue]).astype(jnp.float32)

    def action_space(self, params: EndlessParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: EndlessParams | None = None) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (3,), jnp.float32)

    def render(self, state: EndlessState, params: EndlessParams) -> np.ndarray:
        """The corridor the agent is in as a picture, uint8 [height, width, 3]."""
        hint, length = (int(each) for each in self._present(state))
        of_all = f" of {self.num_corridors}" if self.num_corridors else ""
        corridor = min(int(state.corridor) + 1, self.num_corridors or int(state.corridor) + 1)
        scene = Scene(
            junction=length,
            longest=params.corridor_len,
            x=int(state.x),
            y=0,
            cue=-hint,  # to the right is down for who walks to the right
            cue_seen=int(state.x) == 0,
            caption=f"step {int(state.time)}, corridor {corridor}{of_all}, {int(state.corridor)} done",
        )
        return draw(scene)
