"""Boards on which a cell is asked in every step: Battleship and MineSweeper. Cells are numbered row by row."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment

from envs.popgym.decks import shuffled
from envs.popgym.packing import increase, pack, read
from envs.popgym.pictures import Board
from envs.popgym.task import Layout, TimedParams, TimedTask, encode, success

NO_CELL = -1


@struct.dataclass
class BattleshipState(environment.EnvState):
    """State of Battleship.

    Attributes:
        time: steps taken, int32.
        ships: cells with a ship, packed as bits.
        asked: cells that were asked, packed as bits.
        hits: cells of ships among them, int32.
        last: the cell asked last, int32; NO_CELL at the start. For pictures.
    """

    time: jax.Array
    ships: jax.Array
    asked: jax.Array
    hits: jax.Array
    last: jax.Array


class Battleship(TimedTask):
    """Asks cells of a board with four straight ships of 2, 3, 3 and 4 cells, and is told: hit or not.

    A hit pays 1/12, every other cell, one asked before included, costs 1 / (cells without a ship). The episode
    terminates when all 12 are hit; the time limit is the number of cells. Nothing tells that a ship has sunk.
    """

    SIDES = {"Easy": 8, "Medium": 10, "Hard": 12}
    SHIPS = (2, 3, 3, 4)
    SHIP_CELLS = sum(SHIPS)

    def __init__(self, level: str = "Easy"):
        self.side = self.SIDES[level]
        self.cells = self.side**2
        super().__init__(level, 2, self.cells, self.cells, {"board": (self.side, self.side)})

    def sample_layout(self, key: jax.Array, params: TimedParams) -> Layout:
        """`board` bool [side, side]: where ships lie.

        They are placed in the order of `SHIPS`, each evenly over the places that earlier ones leave free: the law
        of drawing place and direction again until the ship fits.
        """
        board = jnp.zeros((self.side, self.side), bool)
        for ship_key, length in zip(jax.random.split(key, len(self.SHIPS)), self.SHIPS, strict=True):
            board |= _ship(ship_key, board, length)
        return {"board": board}

    def start(self, layout: Layout) -> tuple[jax.Array, BattleshipState]:
        ships = pack(jnp.asarray(layout["board"], bool).ravel(), 1)
        state = BattleshipState(
            time=jnp.int32(0),
            ships=ships,
            asked=jnp.zeros_like(ships),
            hits=jnp.int32(0),
            last=jnp.int32(NO_CELL),
        )
        return encode((jnp.int32(0), 2)), state

    def step_env(self, key: jax.Array, state: BattleshipState, action: jax.Array | int, params: TimedParams):
        action = jnp.asarray(action, jnp.int32)
        new = 1 - read(state.asked, action, 1)
        hit = read(state.ships, action, 1) & new
        water = self.cells - self.SHIP_CELLS
        reward = jnp.where(hit == 1, np.float32(1 / self.SHIP_CELLS), np.float32(-1 / water))
        state = state.replace(
            time=state.time + 1, asked=increase(state.asked, action, new, 1), hits=state.hits + hit, last=action
        )
        all_hit = state.hits == self.SHIP_CELLS
        terminated = self._terminated(all_hit, state, params)
        return encode((hit, 2)), state, reward, terminated, success(all_hit)

    def render(self, state: BattleshipState, params: TimedParams | None = None) -> np.ndarray:
        """Draws a state for people: uint8 [y, x, rgb]; on the host.

        Water is blue with a white disc where it was asked, ships are grey with a red disc where they were hit; of
        the ships the agent sees only these. The cell asked last is framed.
        """
        cells = np.arange(self.cells)
        ships, asked = (np.asarray(read(words, cells, 1)) for words in (state.ships, state.asked))
        board = Board(self.side, self.side)
        for cell in cells:
            place = divmod(int(cell), self.side)
            board.fill(place, (105, 105, 105) if ships[cell] else (30, 70, 140))
            if asked[cell]:
                board.disc(place, (225, 40, 40) if ships[cell] else (220, 230, 245))
        if state.last != NO_CELL:
            board.frame(divmod(int(state.last), self.side), (255, 220, 60))
        return board.picture()


def _ship(key: jax.Array, board: jax.Array, length: int) -> jax.Array:
    """Where on a board [side, side] one more ship comes to lie, drawn evenly among the free places."""
    side = len(board)
    starts = side - length + 1
    # [2, side, starts]: along rows and along columns; which row or column; its first cell.
    taken = jnp.any(jnp.array([[b[:, k : k + starts] for b in (board, board.T)] for k in range(length)]), 0)
    # The greatest of independent random numbers, 1 and more, is at a place drawn evenly.
    luck = jnp.where(taken, 0, jax.random.bits(key, taken.shape) | 1)
    upright, line, first = jnp.unravel_index(jnp.argmax(luck), taken.shape)
    cells = np.arange(side)
    ship = (cells == line)[:, None] & (cells >= first) & (cells < first + length)
    return jnp.where(upright == 1, ship.T, ship)


@struct.dataclass
class MineSweeperState(environment.EnvState):
    """State of MineSweeper.

    Attributes:
        time: steps taken, int32.
        mines: cells with a mine, packed as bits.
        counts: number of mines in the 3 x 3 block around every cell, packed in four bits each.
        viewed: cells without a mine that were asked, packed as bits.
        left: how many cells without a mine were not asked yet, int32.
        lost: whether a mine was asked, bool.
        last: the cell asked last, int32; NO_CELL at the start. For pictures.
    """

    time: jax.Array
    mines: jax.Array
    counts: jax.Array
    viewed: jax.Array
    left: jax.Array
    lost: jax.Array
    last: jax.Array


class MineSweeper(TimedTask):
    """Asks cells of a board with mines, and is told how many are in the 3 x 3 block around the cell, itself too.

    With L cells without a mine: a new one of them pays 1 / L, one that was asked before costs 0.5 / (L - 2), a
    mine costs 0.5 + 1 / L and terminates the episode, as the last new cell does. The time limit is L, so a single
    repetition makes success impossible.
    """

    SIDES = {"Easy": 4, "Medium": 6, "Hard": 8}
    MINES = {"Easy": 2, "Medium": 6, "Hard": 10}
    COUNT_BITS = 4

    def __init__(self, level: str = "Easy"):
        self.side, self.num_mines = self.SIDES[level], self.MINES[level]
        self.cells = self.side**2
        self.clear = self.cells - self.num_mines
        self.num_counts = min(self.num_mines, 9) + 1
        super().__init__(level, self.num_counts, self.cells, self.clear, {"mines": (self.side, self.side)})

    def sample_layout(self, key: jax.Array, params: TimedParams) -> Layout:
        """`mines` bool [side, side]: an evenly drawn set of cells."""
        return {"mines": (shuffled(key, self.cells) < self.num_mines).reshape(self.side, self.side)}

    def start(self, layout: Layout) -> tuple[jax.Array, MineSweeperState]:
        mines = jnp.asarray(layout["mines"], bool)
        padded = jnp.pad(mines.astype(jnp.int32), 1)
        shifts = [padded[y : y + self.side, x : x + self.side] for y in range(3) for x in range(3)]
        words = pack(mines.ravel(), 1)
        state = MineSweeperState(
            time=jnp.int32(0),
            mines=words,
            counts=pack(sum(shifts).ravel(), self.COUNT_BITS),
            viewed=jnp.zeros_like(words),
            left=jnp.int32(self.clear),
            lost=jnp.bool_(False),
            last=jnp.int32(NO_CELL),
        )
        return encode((jnp.int32(0), self.num_counts)), state

    def step_env(self, key: jax.Array, state: MineSweeperState, action: jax.Array | int, params: TimedParams):
        action = jnp.asarray(action, jnp.int32)
        mine = read(state.mines, action, 1) == 1
        new = ~mine & (read(state.viewed, action, 1) == 0)
        reward = jnp.where(new, np.float32(1 / self.clear), np.float32(-0.5 / (self.clear - 2)))
        reward = jnp.where(mine, np.float32(-0.5 - 1 / self.clear), reward)
        state = state.replace(
            time=state.time + 1,
            viewed=increase(state.viewed, action, new, 1),
            left=state.left - new,
            lost=mine,
            last=action,
        )
        obs = encode((read(state.counts, action, self.COUNT_BITS), self.num_counts))
        terminated = self._terminated(self._ended(state), state, params)
        return obs, state, reward, terminated, success(state.left == 0)

    def is_truncated(self, state: MineSweeperState, params: TimedParams) -> jax.Array:
        return super().is_truncated(state, params) & ~self._ended(state)

    def _ended(self, state: MineSweeperState) -> jax.Array:
        return state.lost | (state.left == 0)

    def render(self, state: MineSweeperState, params: TimedParams | None = None) -> np.ndarray:
        """Draws a state for people: uint8 [y, x, rgb]; on the host.

        Cells that were viewed are light and hold their count; the others are grey, with a black disc where the
        viewer, unlike the agent, sees a mine, red for the one that was hit. The cell asked last is framed.
        """
        cells = np.arange(self.cells)
        mines, viewed = (np.asarray(read(words, cells, 1)) for words in (state.mines, state.viewed))
        counts = np.asarray(read(state.counts, cells, self.COUNT_BITS))
        board = Board(self.side, self.side)
        for cell in cells:
            place = divmod(int(cell), self.side)
            board.fill(place, (230, 230, 225) if viewed[cell] else (125, 125, 125))
            if mines[cell]:
                board.disc(place, (220, 30, 30) if state.lost and cell == state.last else (25, 25, 25))
            elif viewed[cell]:
                board.write(place, str(counts[cell]), (30, 60, 150))
        if state.last != NO_CELL:
            board.frame(divmod(int(state.last), self.side), (255, 200, 40))
        return board.picture()
