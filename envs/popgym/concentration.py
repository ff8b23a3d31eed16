"""Concentration: find pairs among cards that lie face down."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment

from envs.popgym.decks import CARDS, colour, rank, shuffled
from envs.popgym.pictures import Board
from envs.popgym.task import Layout, TimedParams, TimedTask, encode, success

NO_CARD = -1


@struct.dataclass
class ConcentrationState(environment.EnvState):
    """State of Concentration.

    Attributes:
        time: steps taken, int32.
        values: colour or rank of the card at every position, int8 [N].
        found: which cards lie face up for good, bool [N].
        shown: positions of the first and the second card of the turn on view, int32 [2]; NO_CARD: none.
        waiting: whether the first card of a turn waits for the second, bool.
    """

    time: jax.Array
    values: jax.Array
    found: jax.Array
    shown: jax.Array
    waiting: jax.Array


class Concentration(TimedTask):
    """Turns one of N cards a step; two of a turn that are equal stay face up and pay 2 / N.

    Equal is the colour (Easy, Medium) or the rank (Hard). A turn whose cards differ, or are the same card, costs
    2 / L, with L the time limit. A card that is up already costs 1 / L as the first of a turn and 2 / L as the
    second, and ends the turn. The observation shows for every position the value or, the last code, its back; both
    cards of a turn are on view once. The episode terminates when all cards are up.
    """

    DECKS = {"Easy": 1, "Medium": 2, "Hard": 1}
    VALUES = {"Easy": (colour, 2), "Medium": (colour, 2), "Hard": (rank, 13)}

    def __init__(self, level: str = "Easy"):
        self.cards = CARDS * self.DECKS[level]
        self.value, self.num_values = self.VALUES[level]
        # The original's limit, ceil(2N - N / (2N - 1)), is 2N for every N above 1.
        obs_size, steps = self.cards * (self.num_values + 1), 2 * self.cards
        super().__init__(level, obs_size, self.cards, steps, {"deck": (self.cards,)})

    def sample_layout(self, key: jax.Array, params: TimedParams) -> Layout:
        """`deck` int32 [N]: the id of the card at every position."""
        return {"deck": shuffled(key, self.cards)}

    def start(self, layout: Layout) -> tuple[jax.Array, ConcentrationState]:
        state = ConcentrationState(
            time=jnp.int32(0),
            values=self.value(jnp.asarray(layout["deck"], jnp.int32)).astype(jnp.int8),
            found=jnp.zeros(self.cards, bool),
            shown=jnp.full(2, NO_CARD, jnp.int32),
            waiting=jnp.bool_(False),
        )
        return self._observe(state), state

    def step_env(self, key: jax.Array, state: ConcentrationState, action: jax.Array | int, params: TimedParams):
        action = jnp.asarray(action, jnp.int32)
        positions = np.arange(self.cards)
        second = state.waiting
        first_card = jnp.where(second, state.shown[0], action)
        here, there = positions == action, positions == first_card
        is_up = jnp.any(here & state.found)
        equal = state.values[action] == state.values[first_card]
        pair = second & ~is_up & equal & (action != first_card)
        turn_ends = is_up | second

        cards_turned = 1 + second.astype(jnp.int32)
        fail = np.float32(-1 / self.steps) * cards_turned
        reward = jnp.where(pair, np.float32(2 / self.cards), jnp.where(turn_ends, fail, 0.0))
        state = ConcentrationState(
            time=state.time + 1,
            values=state.values,
            found=state.found | (pair & (here | there)),
            shown=jnp.stack([first_card, jnp.where(second, action, NO_CARD)]),
            waiting=~turn_ends,
        )
        all_up = jnp.all(state.found)
        terminated = self._terminated(all_up, state, params)
        return self._observe(state), state, reward, terminated, success(all_up)

    def _face_up(self, state: ConcentrationState) -> jax.Array:
        """Which cards are on view: bool [N]."""
        positions = np.arange(self.cards)
        return state.found | (positions == state.shown[0]) | (positions == state.shown[1])

    def _observe(self, state: ConcentrationState) -> jax.Array:
        codes = jnp.where(self._face_up(state), state.values, self.num_values)
        return encode((codes, self.num_values + 1))

    def render(self, state: ConcentrationState, params: TimedParams | None = None) -> np.ndarray:
        """Draws a state for people: uint8 [y, x, rgb]; on the host.

        Rows of 13 cards. Those that are found are white, those turned just now yellow; of the others, whose backs
        are blue, the viewer sees the value dimly.
        """
        values, found, face_up = map(np.asarray, (state.values, state.found, self._face_up(state)))
        board = Board(self.cards // 13, 13)
        for card, value in enumerate(values):
            place = divmod(card, 13)
            ground = (245, 245, 245) if found[card] else (255, 225, 90) if face_up[card] else (35, 55, 110)
            board.fill(place, ground)
            if self.num_values == 2:  # which of the two colours is the red one is of no matter
                inks = ((200, 30, 30), (20, 20, 20)) if face_up[card] else ((90, 50, 95), (20, 30, 70))
                board.disc(place, inks[value])
            else:
                label = ("A", *map(str, range(2, 11)), "J", "Q", "K")[value]
                board.write(place, label, (20, 20, 20) if face_up[card] else (75, 95, 150))
        return board.picture()
