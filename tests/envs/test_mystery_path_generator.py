"""The generator of Mystery Path: the original's draws replayed, and the law of what it draws by itself.

The seeds are fixed; every chi-square test passes at the 0.1 % level.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from envs.mystery_path import generator
from tests.envs import mystery_path_oracle as oracle

N = 32768
# Of 300,000 layouts of the original's law: lengths 7 to 14, and 15 or more.
LENGTH_LAW = [0.04338, 0.13905, 0.21346, 0.21089, 0.18276, 0.12799, 0.06861, 0.01089, 0.00297]
# How often a cell is on the path: rows y, columns x.
OCCUPANCY = """
.208 .227 .247 .251 .233 .240 .156
.228 .160 .156 .164 .178 .314 .154
.247 .156 .143 .145 .154 .339 .136
.250 .164 .146 .149 .158 .349 .133
.232 .178 .154 .158 .177 .336 .136
.239 .313 .341 .349 .336 .356 .169
.156 .154 .135 .131 .134 .166 .146
"""
X, Y = np.divmod(np.arange(49), 7)
BORDER = (X % 6 == 0) | (Y % 6 == 0)
INTERIOR = (X >= 1) & (X <= 4) & (Y >= 1) & (Y <= 4)


@pytest.fixture(scope="module")
def recorded():
    return oracle.load("path_gen.npz")


def ids(cells):
    return cells.astype(np.int32) @ np.array([7, 1], np.int32)


def arguments(recorded):
    walls, noise = recorded["walls"].reshape(-1, 49), recorded["noise"].astype(np.int32)
    return ids(recorded["start"]), ids(recorded["end"]), walls, noise


@pytest.fixture(scope="module")
def found(recorded):
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(generator.find_path))(*arguments(recorded)))


@pytest.fixture(scope="module")
def drawn():
    """(Draws, Search) of N layouts."""

    def one(key):
        draws = generator.draw(key, (0, 1, 2, 3))
        return draws, generator.find_path(draws.origin, draws.goal, draws.walls, draws.noise)

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2024), N)))


def assert_uniform(counts, expected=None):
    """Chi-square test of counts against equal or given expectations."""
    assert stats.chisquare(counts, expected).pvalue > 1e-3, counts


def assert_same_law(one, other):
    """Two-sample chi-square test of integers; rare values are counted as one."""
    top = max(one.max(), other.max()) + 1
    table = np.stack([np.bincount(one, minlength=top), np.bincount(other, minlength=top)])
    common = table[1] >= 5
    table = np.concatenate([table[:, common], table[:, ~common].sum(1, keepdims=True)], 1)
    assert stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue > 1e-3, table


# Replay


def test_recorded_draws_give_the_recorded_paths_parents_and_expansions(recorded, found):
    paths = np.zeros((2000, 50), bool)
    np.put_along_axis(paths, recorded["path"].astype(int), True, 1)
    np.testing.assert_array_equal(found.path, paths[:, :49])
    np.testing.assert_array_equal(found.parent, recorded["parent"])
    np.testing.assert_array_equal(found.expansions, recorded["n_expanded"])
    np.testing.assert_array_equal(found.path.sum(1), recorded["path_len"])
    places = np.zeros((2000, 50), int)
    np.put_along_axis(places, recorded["path"].astype(int), np.arange(1, 50)[None], 1)
    np.testing.assert_array_equal(found.place, places[:, :49])


def test_recorded_draws_give_the_recorded_layouts(recorded, found):
    origin, goal, walls, noise = arguments(recorded)
    draws = generator.Draws(origin, goal, walls, recorded["inner"].reshape(-1, 49), noise)
    made = jax.vmap(generator.layout)(draws)
    np.testing.assert_array_equal(made.path, found.path)
    np.testing.assert_array_equal(made.origin, origin)
    np.testing.assert_array_equal(made.goal, goal)


def test_one_search_alone_gives_the_same(recorded, found):
    for i in range(3):
        alone = generator.find_path(*(jnp.asarray(argument[i]) for argument in arguments(recorded)))
        jax.tree.map(np.testing.assert_array_equal, alone, jax.tree.map(lambda x: x[i], found))  # noqa: B023


def test_the_episodes_paths_come_from_their_draws():
    search = jax.jit(generator.find_path)
    for file in oracle.FILES.values():
        for episode in oracle.episodes(file):
            walls, noise = episode["walls"].ravel(), episode["noise"].astype(np.int32)
            np.testing.assert_array_equal(search(*map(jnp.int32, episode.ends), walls, noise).path, episode.path)


def test_border_candidates_are_the_recorded_ones(recorded):
    origin, goal, *_ = arguments(recorded)
    candidates = jax.vmap(generator.border_candidates)(origin, goal, recorded["inner"].reshape(-1, 49))
    np.testing.assert_array_equal(candidates, recorded["cand"].reshape(-1, 49))


def test_whole_numbers_order_costs_as_real_ones_do():
    """Every cost the search can form: path cost up to 8 a cell, plus a distance."""
    unit = generator._F_UNIT
    squares = sorted({x * x + y * y for x, y in itertools.product(range(7), repeat=2)})
    costs = np.arange(8 * 49 + 1)[:, None]
    real = (costs + np.sqrt(squares)).ravel()
    whole = (unit * costs + np.asarray(generator._DISTANCE)[squares]).ravel()
    order = np.argsort(real, kind="stable")
    real_gap, whole_gap = np.diff(real[order]), np.diff(whole[order])
    equal = real_gap < 1e-9
    assert (whole_gap[equal] == 0).all() and (whole_gap[~equal] > 0).all()
    assert 0 <= whole.min() and whole.max() < 2**18


# Law


def test_origins_are_uniform_on_the_sides_and_goals_on_the_opposite_ones(drawn):
    draws, _ = drawn
    expected = np.zeros((49, 49))  # by pairs of ends; two opposite corners are reached from two sides
    for a, b in itertools.product(range(7), repeat=2):
        for start, end in (((0, a), (6, b)), ((6, a), (0, b)), ((a, 0), (b, 6)), ((a, 6), (b, 0))):
            expected[7 * start[0] + start[1], 7 * end[0] + end[1]] += N / 196
    seen = np.zeros((49, 49))
    np.add.at(seen, (draws.origin, draws.goal), 1)
    assert not seen[expected == 0].any()
    assert_uniform(seen[expected > 0], expected[expected > 0])


def test_interior_walls_are_independent_and_only_in_the_first_four_rows_and_columns(drawn):
    interior = drawn[0].interior
    assert not interior[:, ~INTERIOR].any()
    inside = interior[:, INTERIOR]
    z = (inside.mean(0) - 0.33) / np.sqrt(0.33 * 0.67 / N)
    assert stats.chi2.sf(np.sum(z**2), 16) > 1e-3
    counts = np.bincount(inside.sum(1), minlength=17)
    law = stats.binom.pmf(np.arange(17), 16, 0.33) * N
    assert_uniform(np.append(counts[:12], counts[12:].sum()), np.append(law[:12], law[12:].sum()))
    products = np.corrcoef(inside.T)[np.triu_indices(16, 1)] * np.sqrt(N)
    assert stats.chi2.sf(np.sum(products**2), len(products)) > 1e-3


def test_four_or_eight_border_walls_are_drawn_evenly_from_the_candidates(drawn):
    draws, _ = drawn
    candidates = np.asarray(
        jax.vmap(generator.border_candidates)(draws.origin, draws.goal, jnp.asarray(draws.interior))
    )
    assert candidates.sum(1).min() >= 8
    border = draws.walls & ~draws.interior
    assert not border[~candidates].any() and not border[:, ~BORDER].any()
    assert (draws.walls & INTERIOR == draws.interior).all()
    number = border.sum(1)
    assert set(np.unique(number)) == {4, 8}
    assert_uniform(np.bincount(number)[[4, 8]])
    # The k-th candidate is chosen as often as any other, for every k and every cell.
    chance = np.where(candidates, (number / candidates.sum(1))[:, None], 0)
    excess, variance = border - chance, chance * (1 - chance)
    rank = np.where(candidates, candidates.cumsum(1) - 1, 48)
    for group in (np.broadcast_to(np.arange(49), rank.shape), rank):
        z2 = [excess[group == k].sum() ** 2 / variance[group == k].sum() for k in np.unique(group[candidates])]
        # Sums over the cells of a choice are fixed, which only makes z smaller.
        assert stats.chi2.sf(sum(z2), len(z2)) > 1e-3 and max(z2) < 16


def test_step_costs_are_uniform_from_one_to_eight(drawn):
    noise = drawn[0].noise[:4096]
    assert noise.min() == 1 and noise.max() == 8
    for k in range(4):
        assert_uniform(np.bincount(noise[..., k].ravel())[1:])
    for cell in (0, 24, 48):
        assert_uniform(np.bincount(noise[:, cell].ravel())[1:])
    flat = noise.reshape(4096, -1).astype(float)
    r = np.corrcoef(flat.T)[np.triu_indices(196, 1)] * np.sqrt(4096)
    assert np.abs(r).max() < 5.5


def test_every_path_is_a_simple_walk_around_the_walls(drawn):
    draws, found = drawn
    assert not (found.path & draws.walls).any()
    assert found.path[np.arange(N), draws.origin].all() and found.path[np.arange(N), draws.goal].all()
    cell, seen = draws.goal.copy(), np.zeros((N, 49), bool)
    for _ in range(48):
        seen[np.arange(N), cell] = True
        back = found.parent[np.arange(N), cell]
        moving = back >= 0
        assert (np.abs(X[cell] - X[back]) + np.abs(Y[cell] - Y[back]))[moving].max(initial=1) == 1
        cell = np.where(moving, back, cell)
    np.testing.assert_array_equal(cell, draws.origin)
    np.testing.assert_array_equal(seen, found.path)
    assert (found.expansions < generator.MAX_EXPANSIONS).all()


def test_path_lengths_follow_the_law(drawn):
    counts = np.bincount(drawn[1].path.sum(1), minlength=18)
    assert not counts[:7].any()
    law = np.array(LENGTH_LAW) / sum(LENGTH_LAW)
    assert_uniform(np.append(counts[7:15], counts[15:].sum()), N * law)


def test_cells_are_on_the_path_as_often_as_in_the_original(drawn):
    expected = np.array(OCCUPANCY.split(), float).reshape(7, 7).T.ravel()
    z = (drawn[1].path.mean(0) - expected) / np.sqrt(expected * (1 - expected) / N)
    assert np.abs(z).max() < 4.5 and np.mean(z**2) < 2


def test_lengths_detours_expansions_and_walls_are_distributed_as_in_the_originals_layouts(drawn, recorded):
    draws, found = drawn
    length = found.path.sum(1)

    def detour(origin, goal, length):
        return length - 1 - np.abs(X[origin] - X[goal]) - np.abs(Y[origin] - Y[goal])

    origin, goal, walls, _ = arguments(recorded)
    assert_same_law(length, recorded["path_len"].astype(int))
    assert_same_law(
        detour(draws.origin, draws.goal, length), detour(origin, goal, recorded["path_len"].astype(int))
    )
    assert_same_law(found.expansions, recorded["n_expanded"].astype(int))
    assert_same_law(draws.walls.sum(1), walls.sum(1))


# Options


@pytest.mark.parametrize(
    "choice", [[0, 0, 3], *(pytest.param(each, marks=pytest.mark.slow) for each in ([2], [1, 3], [3, 2, 1, 0, 0]))]
)
def test_origins_are_drawn_from_the_sides_asked_for(choice):
    draws = jax.vmap(lambda key: generator.draw(key, tuple(choice)))(jax.random.split(jax.random.key(1), 4096))
    origin, goal = np.asarray(draws.origin), np.asarray(draws.goal)
    inner = np.arange(1, 6)
    sides = [inner, 42 + inner, 7 * inner, 7 * inner + 6]  # without the corners, which belong to two
    opposite = [X == 6, X == 0, Y == 6, Y == 0]
    for side in range(4):
        there = np.isin(origin, sides[side])
        assert opposite[side][goal[there]].all()
        share = choice.count(side) / len(choice) * 5 / 7
        assert abs(there.mean() - share) < 5 * np.sqrt(share * (1 - share) / 4096) + 1e-9


@pytest.mark.parametrize("env_id", envs.mystery_path.IDS[:4])
def test_a_reset_runs_the_generator(env_id):
    choice = [1, 3]
    env, params = envs.make(env_id, cardinal_origin_choice=choice)
    keys = jax.random.split(jax.random.key(3), 64)
    state = jax.jit(jax.vmap(env.reset_env, (0, None)))(keys, params)[1]
    layout = jax.vmap(lambda key: generator.layout(generator.draw(key, tuple(choice))))(keys)
    np.testing.assert_array_equal(state.path, layout.path)
    np.testing.assert_array_equal(state.origin, layout.origin)
    np.testing.assert_array_equal(state.goal, layout.goal)
    assert len(np.unique(np.asarray(state.path), axis=0)) > 55
    position = np.asarray(state.position)
    np.testing.assert_array_equal(position, 12 * np.stack(np.divmod(layout.origin, 7), 1) + 6)


@pytest.mark.slow
def test_the_bank_holds_independent_layouts_and_is_drawn_anew_by_a_refresh():
    env, params = envs.make("MysteryPath-Grid-Easy-v0", observation="symbolic")
    vec = envs.VectorEnv(env, 4, pool_size=512)
    state = jax.jit(vec.reset)(jax.random.key(0), params)[1]
    banks = [state.pool[1], vec.refresh(jax.random.key(1), state, params).pool[1]]
    rows = (zip(bank.path.tolist(), bank.origin.tolist(), bank.goal.tolist(), strict=True) for bank in banks)
    one, other = ({(*path, origin, goal) for path, origin, goal in each} for each in rows)
    # Two draws are equal with probability 3.75e-4: 49 pairs within a bank, 98 between two.
    assert 512 - len(one) < 80 and 512 - len(other) < 80
    assert len(one & other) < 130
