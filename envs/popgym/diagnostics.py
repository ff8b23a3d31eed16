"""Cards dealt one after the other: RepeatFirst, RepeatPrevious, Autoencode, CountRecall and HigherLower.

c_0, c_1, ... are the N cards of the deck in the order they are dealt, s = 1, 2, ... counts steps. Every episode
terminates when the deck is used up.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment

from envs.popgym.decks import CARDS, colour, rank, shuffled, suit
from envs.popgym.packing import bits_of, increase, pack, read
from envs.popgym.task import Layout, Task, encode

SUITS, RANKS = 4, 13


@struct.dataclass
class DeckState(environment.EnvState):
    """time: steps taken, int32; deck: suits or ranks in the order they are dealt, packed."""

    time: jax.Array
    deck: jax.Array


def signed(right: jax.Array, scale: int) -> jax.Array:
    """1 / scale where right, else -1 / scale; float32."""
    return jnp.where(right, np.float32(1 / scale), np.float32(-1 / scale))


class _OneDeck(Task):
    """The tasks whose only secret is the order of one deck, of whose cards a suit or a rank is shown."""

    DECKS = {"Easy": 1, "Medium": 2, "Hard": 3}
    kind, num_kinds = staticmethod(suit), SUITS

    def __init__(self, level: str, obs_size: int, num_actions: int, rounds: int = 1):
        self.cards = CARDS * self.DECKS[level]
        self.bits = bits_of(self.num_kinds)
        super().__init__(level, obs_size, num_actions, rounds * self.cards - 1, {"deck": (self.cards,)})

    def sample_layout(self, key: jax.Array, params: environment.EnvParams) -> Layout:
        """`deck` int32 [N]: ids in the order they are dealt."""
        return {"deck": shuffled(key, self.cards)}

    def start(self, layout: Layout) -> tuple[jax.Array, DeckState]:
        deck = pack(self.kind(jnp.asarray(layout["deck"], jnp.int32)), self.bits)
        return self._first(self._card(deck, 0)), DeckState(time=jnp.int32(0), deck=deck)

    def _first(self, card: jax.Array) -> jax.Array:
        """The observation of the first card."""
        return encode((card, self.num_kinds))

    def _card(self, deck: jax.Array, index: jax.Array | int) -> jax.Array:
        """The kind of the card at `index`."""
        return read(deck, index, self.bits)


class RepeatFirst(_OneDeck):
    """Shows suits one after the other; the right action is always the suit of c_0.

    Every step is scored, ±1 / (N - 1).
    """

    DECKS = {"Easy": 1, "Medium": 8, "Hard": 16}

    def __init__(self, level: str = "Easy"):
        super().__init__(level, SUITS, SUITS)

    def step_env(self, key: jax.Array, state: DeckState, action: jax.Array | int, params: environment.EnvParams):
        time = state.time + 1
        reward = signed(action == self._card(state.deck, 0), self.cards - 1)
        obs = encode((self._card(state.deck, time), SUITS))
        return obs, state.replace(time=time), reward, time == self.cards - 1, {}


class RepeatPrevious(_OneDeck):
    """Shows suits one after the other; the right action is the suit shown k - 1 cards before the one on view.

    In step s that is c_{s-k}; steps s >= k are scored, ±1 / (N - k).
    """

    LAGS = {"Easy": 4, "Medium": 32, "Hard": 64}

    def __init__(self, level: str = "Easy"):
        super().__init__(level, SUITS, SUITS)
        self.lag = self.LAGS[level]

    def step_env(self, key: jax.Array, state: DeckState, action: jax.Array | int, params: environment.EnvParams):
        time = state.time + 1
        right = action == self._card(state.deck, jnp.maximum(time - self.lag, 0))
        reward = jnp.where(time >= self.lag, signed(right, self.cards - self.lag), 0.0)
        obs = encode((self._card(state.deck, time), SUITS))
        return obs, state.replace(time=time), reward, time == self.cards - 1, {}


class Autoencode(_OneDeck):
    """Shows the suits of a whole deck, then the right actions are these suits backwards, the last card first.

    The observation is (mode, suit), mode 1 to watch and 0 to play; the last card comes with mode 0, and from then
    on it is (0, 0). Steps N to 2N - 1 are scored, ±1 / N.
    """

    PLAY, WATCH = 0, 1

    def __init__(self, level: str = "Easy"):
        super().__init__(level, 2 + SUITS, SUITS, rounds=2)

    def step_env(self, key: jax.Array, state: DeckState, action: jax.Array | int, params: environment.EnvParams):
        time = state.time + 1
        playing = time >= self.cards
        card = self._card(state.deck, jnp.where(playing, 2 * self.cards - 1 - time, time))
        reward = jnp.where(playing, signed(action == card, self.cards), 0.0)
        mode = jnp.where(time < self.cards - 1, self.WATCH, self.PLAY)
        obs = self._observe(mode, jnp.where(playing, 0, card))
        return obs, state.replace(time=time), reward, time == 2 * self.cards - 1, {}

    def _first(self, card: jax.Array) -> jax.Array:
        return self._observe(self.WATCH, card)

    def _observe(self, mode: jax.Array | int, card: jax.Array) -> jax.Array:
        return encode((mode, 2), (card, SUITS))


class HigherLower(_OneDeck):
    """Shows a rank; action 0 bets that the next one is higher, 1 that it is lower. Aces are the lowest.

    ±1 / N a bet (though there are N - 1), 0 if the two are equal.
    """

    kind, num_kinds = staticmethod(rank), RANKS
    HIGHER, LOWER = 0, 1

    def __init__(self, level: str = "Easy"):
        super().__init__(level, RANKS, 2)

    def step_env(self, key: jax.Array, state: DeckState, action: jax.Array | int, params: environment.EnvParams):
        time = state.time + 1
        before, after = self._card(state.deck, state.time), self._card(state.deck, time)
        right = (after > before) == (jnp.asarray(action) == self.HIGHER)
        reward = jnp.where(after == before, 0.0, signed(right, self.cards))
        return encode((after, RANKS)), state.replace(time=time), reward, time == self.cards - 1, {}


@struct.dataclass
class CountState(environment.EnvState):
    """State of CountRecall.

    Attributes:
        time: steps taken, int32.
        values, queries: kinds of the two decks' cards in the order they are dealt, packed.
        counts: how many cards of every kind the value deck has shown, packed.
    """

    time: jax.Array
    values: jax.Array
    queries: jax.Array
    counts: jax.Array


class CountRecall(Task):
    """Shows a card of each of two decks: the right action is how often the first has shown the second's kind.

    The card on view counts. Kinds are colours, suits or ranks; every step is scored, ±1 / (N - 1).
    """

    DECKS = {"Easy": 1, "Medium": 2, "Hard": 4}
    KINDS = {"Easy": (colour, 2), "Medium": (suit, 4), "Hard": (rank, 13)}

    def __init__(self, level: str = "Easy"):
        self.cards = CARDS * self.DECKS[level]
        self.kind, self.kinds = self.KINDS[level]
        answers = self.cards // self.kinds + 1
        self.bits, self.count_bits = bits_of(self.kinds), bits_of(answers)
        layout = dict.fromkeys(("value_deck", "query_deck"), (self.cards,))
        super().__init__(level, 2 * self.kinds, answers, self.cards - 1, layout)

    def sample_layout(self, key: jax.Array, params: environment.EnvParams) -> Layout:
        """`value_deck`, `query_deck` int32 [N]: ids in the order they are dealt."""
        value_key, query_key = jax.random.split(key)
        return {"value_deck": shuffled(value_key, self.cards), "query_deck": shuffled(query_key, self.cards)}

    def start(self, layout: Layout) -> tuple[jax.Array, CountState]:
        decks = (self.kind(jnp.asarray(layout[name], jnp.int32)) for name in ("value_deck", "query_deck"))
        values, queries = (pack(kinds, self.bits) for kinds in decks)
        counts = pack(jnp.zeros(self.kinds, jnp.int32), self.count_bits)
        return self._show(CountState(time=jnp.int32(0), values=values, queries=queries, counts=counts))

    def step_env(self, key: jax.Array, state: CountState, action: jax.Array | int, params: environment.EnvParams):
        asked = read(state.queries, state.time, self.bits)
        right = action == read(state.counts, asked, self.count_bits)
        obs, state = self._show(state.replace(time=state.time + 1))
        return obs, state, signed(right, self.cards - 1), state.time == self.cards - 1, {}

    def _show(self, state: CountState) -> tuple[jax.Array, CountState]:
        """Deals and counts the cards of this time."""
        value, query = (read(deck, state.time, self.bits) for deck in (state.values, state.queries))
        counts = increase(state.counts, value, 1, self.count_bits)
        return encode((value, self.kinds), (query, self.kinds)), state.replace(counts=counts)
