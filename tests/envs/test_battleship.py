"""Battleship: steps against POBAX, the law of boards, and what shots are worth."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.battleship import SHIPS
from tests.envs import control_oracle
from tests.envs.rollouts import assert_single_steps_equal_a_scan, mean_return, uniform

every_size = pytest.mark.parametrize("n", SHIPS)


@every_size
def test_the_originals_episodes_are_repeated(n):
    data = control_oracle.load(f"pobax/battleship_{n}")
    env, params = envs.make("battleship", n=n)
    steps, ends = 130, np.cumsum(data.length)

    @jax.jit
    @jax.vmap
    def play(board, actions):
        first, state = env.reset_to({"board": board}, params)

        def step(state, action):
            obs, state, reward, terminated, info = env.step_env(None, state, action, params)
            return state, (obs, reward, terminated, info["episode_success"], env.is_truncated(state, params))

        return first, jax.lax.scan(step, state, actions)[1]

    actions = np.stack(
        [np.pad(data.actions[end - t : end], (0, steps - t)) for t, end in zip(data.length, ends, strict=True)]
    )
    first, out = jax.tree.map(np.asarray, play(data.board, actions))
    obs, reward, terminated, success, truncated = (x[np.arange(steps) < data.length[:, None]] for x in out)
    after = np.arange(len(data.actions)) + np.repeat(np.arange(len(data.length)), data.length) + 1
    assert (first[:, 0] == 0).all() and (first[:, 1:] == 1).all()
    np.testing.assert_array_equal(obs[:, 0], data.hit[after])
    np.testing.assert_array_equal(obs[:, 1:], data.mask[after])
    np.testing.assert_allclose(reward, data.rewards, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(terminated, data.terminated)
    np.testing.assert_array_equal(success, data.terminated)
    assert not truncated.any() and data.terminated.any()


def test_a_second_shot_at_a_cell_shows_no_hit_and_costs_its_step():
    env, params = envs.make("battleship", n=3)
    state = env.reset_to({"board": np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0]], bool)}, params)[1]
    seen = []
    for action in (0, 0, 4, 1):
        obs, state, reward, terminated, _ = env.step_env(None, state, action, params)
        seen.append((float(obs[0]), float(reward), bool(terminated)))
    assert seen == [(1, -1, False), (0, -1, False), (0, -1, False), (1, 9, True)]


def boards(n, count, seed=0):
    env, params = envs.make("battleship", n=n)
    draw = jax.jit(jax.vmap(lambda key: env.draw_layout(key, params)["board"]))
    return np.asarray(draw(jax.random.split(jax.random.key(seed), count)))


def exact_law(n):
    """Chance of every board, by enumeration: {bytes of bool [n, n]: chance}."""
    law = {np.zeros((n, n), bool).tobytes(): 1.0}
    for length in SHIPS[n]:
        longer = {}
        for board, chance in law.items():
            board = np.frombuffer(board, bool).reshape(n, n)
            for turned in (False, True):
                places = []
                for row, column in itertools.product(range(n), range(n - length + 1)):
                    ship = np.zeros((n, n), bool)
                    ship[row, column : column + length] = True
                    ship = ship.T if turned else ship
                    if not (ship & board).any():
                        places.append((ship | board).tobytes())
                for place in places:
                    longer[place] = longer.get(place, 0) + chance / 2 / len(places)
        law = longer
    return law


@pytest.mark.parametrize("n", [3, 5])
def test_boards_follow_their_law(n):
    law, count = exact_law(n), 20_000
    assert abs(sum(law.values()) - 1) < 1e-9
    drawn = [board.tobytes() for board in boards(n, count)]
    assert set(drawn) <= set(law)
    index = {board: i for i, board in enumerate(law)}
    counts = np.bincount([index[board] for board in drawn], minlength=len(law))
    expected = count * np.array(list(law.values()))
    freedom = len(law) - 1
    assert expected.min() > 5
    assert abs(((counts - expected) ** 2 / expected).sum() - freedom) < 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize(
    "n", [10, pytest.param(5, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_cells_are_taken_as_often_as_in_the_originals_boards(n):
    ships = getattr(control_oracle.load("pobax/battleship_boards"), f"ships{n}")
    theirs = np.zeros((len(ships), n, n), bool)
    for board, placed in zip(theirs, ships, strict=True):
        for length, (row, column, horizontal) in zip(SHIPS[n], placed, strict=True):
            cells = (row, slice(column, column + length)) if horizontal else (slice(row, row + length), column)
            board[cells] = True
    mine = boards(n, 4000)
    assert (mine.sum((1, 2)) == sum(SHIPS[n])).all() and (theirs.sum((1, 2)) == sum(SHIPS[n])).all()
    p, q = mine.mean(0), theirs.mean(0)
    assert (np.abs(p - q) < 4 * np.sqrt(p * (1 - p) / len(mine) + q * (1 - q) / len(theirs))).all()


def new_cells(keys, obs, state):
    """Evenly over the cells that have not been shot at."""
    before = jnp.cumsum(obs[:, 1:], axis=1)
    which = jnp.floor(jax.vmap(jax.random.uniform)(keys) * before[:, -1])
    return jnp.argmax(before > which[:, None], axis=1)


@pytest.mark.parametrize(
    ("n", "expected"), [(3, 10 - 2 / 3 * 10), pytest.param(10, 101 - 14 / 15 * 101, marks=pytest.mark.slow)]
)
def test_shots_at_new_cells_return_what_is_computed(n, expected):
    env, params = envs.make("battleship", n=n)
    mean, error = mean_return(env, params, new_cells, 2048, n * n)
    assert abs(mean - expected) <= 4 * error
    if n < 10:
        assert envs.reference("battleship", n=n)["without_memory"]["value"] == pytest.approx(expected)


def test_whoever_knows_the_board_needs_a_shot_a_cell():
    env, params = envs.make("battleship")

    def policy(keys, obs, state):
        return jnp.argmax((state.board & ~state.shot).reshape(len(keys), -1), 1)

    assert mean_return(env, params, policy, 256, 14) == (87, 0)


@pytest.mark.parametrize(
    "n", [3, pytest.param(5, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.slow)]
)
def test_random_shots_return_what_is_computed(n):
    env, params = envs.make("battleship", n=n)
    mean, error = mean_return(env, params, uniform(env, params), 2048, 1000 if n == 10 else 500)
    assert abs(mean - envs.reference("battleship", n=n)["random"]["value"]) <= 4 * error


def test_known_returns():
    known = {n: envs.reference("battleship", n=n) for n in SHIPS}
    assert known[10]["random"]["value"] == pytest.approx(-224.156, abs=1e-3)
    assert known[10]["without_memory"]["value"] == 8 and known[3]["with_memory"]["value"] == 5.5
    for each in known.values():
        order = [each[name]["value"] for name in ("random", "without_memory", "with_memory")]
        assert order == sorted(order)
    assert envs.reference("battleship", max_episode_steps=100) is None


def test_single_steps_equal_a_scan_of_many_at_once():
    assert_single_steps_equal_a_scan(*envs.make("battleship", n=3))


@pytest.mark.parametrize("n", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_a_reset_is_a_draw_and_a_start_from_it(n):
    env, params = envs.make("battleship", n=n)
    key = jax.random.key(4)
    mine, theirs = env.reset_env(key, params), env.reset_to(env.draw_layout(key, params), params)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), mine, theirs))


def test_the_picture_tells_hits_misses_ships_and_water_apart():
    env, params = envs.make("battleship", n=3)
    state = env.reset_to({"board": np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0]], bool)}, params)[1]
    for action in (0, 4):
        state = env.step_env(None, state, action, params)[1]
    picture = env.render(state, params)
    assert picture.shape == (120, 120, 3) and picture.dtype == np.uint8
    assert (picture[20, 20] == 255).all() and (picture[60, 60] == 255).all()  # a cross, a dot
    hit, ship, miss, water = picture[20, 4], picture[20, 60], picture[60, 44], picture[100, 100]
    np.testing.assert_array_equal(miss, water)
    assert hit.argmax() == 0 and water.argmax() == 2 and len({tuple(x) for x in (hit, ship, water)}) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 4}, "env.n=4: must be one of 10, 5, 3"),
        ({"max_episode_steps": 0}, "env.max_episode_steps=0: must be at least 1"),
    ],
)
def test_bad_input_is_one_line(options, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        envs.make("battleship", **options)
    assert "\n" not in str(error.value)
