"""POPGym's tasks: the original's episodes again, laws of layouts, returns with and without memory, pictures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2, hypergeom, kstest

import envs
from envs.popgym import FAMILIES, IDS, LEVELS
from tests.envs.popgym_oracle import generators, traces
from tests.marks import slow_if

TASKS = [env_id.removeprefix("popgym/") for env_id in IDS]
CARD_FAMILIES = ("RepeatFirst", "RepeatPrevious", "Autoencode", "CountRecall", "HigherLower")
OPEN_LOOP = [task for task in TASKS if task.startswith(CARD_FAMILIES)]  # what is seen does not depend on actions
DIAGNOSTIC = [task for task in OPEN_LOOP if not task.startswith("HigherLower")]
EPISODES = 2048  # of a policy whose mean return is tested
ERRORS = 4  # standard errors that a mean may differ by
BOARDS = 10_000  # drawn to compare their law
Z = 4.5  # standard errors that a cell of a layout may differ by; two samples of the original reached 3.7
# Longest episodes, flat actions and size of the observation, as published for the levels.
SIZES = {
    "RepeatFirst": ((51, 415, 831), (4, 4, 4), (4, 4, 4)),
    "RepeatPrevious": ((51, 103, 155), (4, 4, 4), (4, 4, 4)),
    "Autoencode": ((103, 207, 311), (4, 4, 4), (6, 6, 6)),
    "CountRecall": ((51, 103, 207), (27, 27, 17), (4, 8, 26)),
    "HigherLower": ((51, 103, 155), (2, 2, 2), (13, 13, 13)),
    "Concentration": ((104, 208, 104), (52, 104, 52), (156, 312, 728)),
    "Battleship": ((64, 100, 144), (64, 100, 144), (2, 2, 2)),
    "MineSweeper": ((14, 30, 54), (16, 36, 64), (3, 7, 10)),
    "MultiarmedBandit": ((200, 400, 600), (10, 20, 30), (2, 2, 2)),
    "LabyrinthExplore": ((1023,) * 3, (4, 4, 4), (50, 50, 50)),
    "LabyrinthEscape": ((1023,) * 3, (4, 4, 4), (50, 50, 50)),
}
every_task = pytest.mark.parametrize("task", TASKS)
easy_first = pytest.mark.parametrize("task", [pytest.param(t, marks=slow_if("Easy" not in t)) for t in TASKS])


@functools.cache
def made(task):
    return envs.make(f"popgym/{task}")


def advance(env, params, state, action, draw):
    """A step whose random number, where it has one, is `draw`: (state, outputs)."""
    if hasattr(env, "step_with"):
        obs, state, reward, terminated, info = env.step_with(draw, state, action, params)
    else:
        obs, state, reward, terminated, info = env.step_env(jax.random.key(0), state, action, params)
    return state, {
        "obs": obs,
        "reward": reward,
        "terminated": terminated,
        "truncated": env.is_truncated(state, params),
        "success": info.get("episode_success", jnp.float32(0)),
    }


@functools.partial(jax.jit, static_argnums=0)
def play(env, params, layouts, actions, draws):
    """Plays actions [E, T] from given layouts on: (first observations, outputs [E, T, ...])."""

    def episode(layout, actions, draws):
        first, state = env.reset_to(layout, params)
        return first, jax.lax.scan(lambda s, x: advance(env, params, s, *x), state, (actions, draws))[1]

    return jax.vmap(episode)(layouts, actions, draws)


@functools.partial(jax.jit, static_argnums=0)
def simulate(env, params, key, actions):
    """Plays actions [E, T] in episodes of a key: (observations [E, T, ...], returns [E], lengths [E])."""

    def episode(key, actions):
        reset_key, steps_key = jax.random.split(key)
        first, state = env.reset_env(reset_key, params)

        def step(carry, inputs):
            state, obs, running = carry
            action, key = inputs
            next_obs, state, reward, terminated, _ = env.step_env(key, state, action, params)
            over = terminated | env.is_truncated(state, params)
            return (state, next_obs, running & ~over), (obs, jnp.where(running, reward, 0.0), running)

        keys = jax.random.split(steps_key, actions.shape[0])
        _, (obs, rewards, running) = jax.lax.scan(step, (state, first, jnp.bool_(True)), (actions, keys))
        return obs, rewards.sum(), running.sum()

    return jax.vmap(episode)(jax.random.split(key, actions.shape[0]), actions)


def replayed(task):
    env, params = made(task)
    recorded = traces(task)
    first, out = play(env, params, recorded.layout, recorded.actions, recorded.draws)
    return recorded, jax.tree.map(np.asarray, {**out, "first": first})


# Rules


@every_task
def test_every_recorded_step_is_the_originals(task):
    recorded, out = replayed(task)
    steps = recorded.running()
    obs = np.concatenate([out["first"][:, None], out["obs"]], 1)
    seen = recorded.running(extra=1)
    np.testing.assert_array_equal(obs[seen], recorded.obs[seen])
    np.testing.assert_allclose(out["reward"][steps], recorded.rewards[steps], rtol=1e-6)
    for flag in ("terminated", "truncated"):
        np.testing.assert_array_equal(out[flag][steps], getattr(recorded, flag)[steps], err_msg=flag)
    if task.startswith((*CARD_FAMILIES, "MultiarmedBandit")):
        assert not out["success"].any()
    else:
        lost = recorded.rewards < -0.5 if task.startswith("MineSweeper") else False
        np.testing.assert_array_equal(out["success"][steps], (recorded.terminated & ~lost)[steps])


@every_task
def test_sizes_are_the_published_ones(task):
    env, params = made(task)
    family = next(name for name in SIZES if task.startswith(name))
    level = LEVELS.index(task.removeprefix(family))
    longest, num_actions, obs_size = (sizes[level] for sizes in SIZES[family])
    assert params.max_steps_in_episode == longest == traces(task).length.max()
    assert env.num_actions == env.action_space(params).n == num_actions == traces(task).meta["num_actions"]
    assert env.observation_space(params).shape == (obs_size,)
    assert env.name == f"popgym/{task}" and type(env) is FAMILIES[family]


@easy_first
def test_single_steps_equal_those_of_the_compiled_batch(task):
    env, params = made(task)
    recorded, out = replayed(task)
    episode = int(np.argmax(recorded.length >= 12))
    first, state = jax.jit(env.reset_to)({name: value[episode] for name, value in recorded.layout.items()}, params)
    np.testing.assert_array_equal(first, out["first"][episode])
    step = jax.jit(functools.partial(advance, env))
    for t in range(12):
        state, one = step(params, state, recorded.actions[episode, t], recorded.draws[episode, t])
        for name, value in one.items():
            np.testing.assert_array_equal(value, out[name][episode, t], err_msg=name)


@pytest.mark.parametrize("task", ["BattleshipEasy", "MineSweeperEasy"])
def test_the_time_limit_can_terminate_as_in_the_paper(task):
    recorded, out = replayed(task)
    params = envs.make(f"popgym/{task}", time_limit_terminates=True)[1]
    _, paper = play(made(task)[0], params, recorded.layout, recorded.actions, recorded.draws)
    steps = recorded.running()
    assert not np.asarray(paper["truncated"]).any() and out["truncated"][steps].any()
    np.testing.assert_array_equal(
        np.asarray(paper["terminated"])[steps], (out["terminated"] | out["truncated"])[steps]
    )


# Returns


def played(task, actions):
    """(observations, returns, lengths) of EPISODES episodes, the same ones at every call."""
    return jax.tree.map(np.asarray, simulate(*made(task), jax.random.key(0), actions))


def random_actions(task):
    env, params = made(task)
    shape = (EPISODES, params.max_steps_in_episode)
    return np.random.default_rng(1).integers(env.num_actions, size=shape).astype(np.int32)


def assert_known(returns, known):
    """The mean return is what a reference says, within ERRORS standard errors of both."""
    theirs = float(known["note"].rpartition("± ")[2]) if known["mark"] == "measured" else 0.0
    ours = returns.std(ddof=1) / np.sqrt(len(returns))
    assert abs(returns.mean() - known["value"]) <= ERRORS * np.hypot(ours, theirs) + 1e-6


@pytest.mark.parametrize(
    "task", [pytest.param(t, marks=slow_if("Easy" not in t or "Labyrinth" in t)) for t in TASKS]
)
def test_random_actions_get_the_published_return(task):
    _, returns, lengths = played(task, random_actions(task))
    assert_known(returns, envs.reference(f"popgym/{task}")["random"])
    longest = made(task)[1].max_steps_in_episode
    assert lengths.max() <= longest
    if task.startswith((*CARD_FAMILIES, "MultiarmedBandit")):
        assert (lengths == longest).all()


def codes(obs, *sizes):
    """The integers [..., len(sizes)] that were encoded as one-hot vectors in a row."""
    parts = np.split(np.asarray(obs), np.cumsum(sizes)[:-1], axis=-1)
    return np.stack([part.argmax(-1) for part in parts], -1)


def count_chances(task):
    """Law of CountRecall's right answer, by step and whether both cards are of one kind: [N - 1, 2, answers]."""
    env, _ = made(task)
    each = env.cards // env.kinds
    steps, answers = np.arange(env.cards - 1)[:, None], np.arange(env.num_actions)
    # Of the other N - 1 cards, as many were seen as steps taken.
    others = [hypergeom(env.cards - 1, each - same, steps).pmf(answers - same) for same in (0, 1)]
    return np.stack(others, 1)


def without_memory(task, obs):
    """Actions [E, T] of the best policy that sees the current observation alone."""
    if task.startswith("RepeatPrevious"):
        return (codes(obs, 4)[..., 0] + 1) % 4
    if task.startswith("HigherLower"):
        return codes(obs, 13)[..., 0] > 6
    if task.startswith("CountRecall"):
        value, query = np.moveaxis(codes(obs, *(made(task)[0].kinds,) * 2), -1, 0)
        return count_chances(task).sum(0).argmax(-1)[(value == query).astype(int)]
    return codes(obs, *((2, 4) if task.startswith("Autoencode") else (4,)))[..., -1]


def with_memory(task, obs):
    """Actions [E, T] of a policy that remembers every observation."""
    env, _ = made(task)
    if task.startswith("CountRecall"):
        value, query = np.split(obs, 2, axis=-1)
        return (np.cumsum(value, 1) * query).sum(-1)
    if task.startswith("HigherLower"):
        left = 4 * env.cards // 52 - np.cumsum(obs, 1)
        below = ((np.cumsum(left, -1) - left) * obs).sum(-1)
        above = left.sum(-1) - ((np.cumsum(left, -1)) * obs).sum(-1)
        return below > above
    seen = codes(obs, *((2, 4) if task.startswith("Autoencode") else (4,)))[..., -1]
    if task.startswith("Autoencode"):
        return np.concatenate([np.zeros_like(seen[:, : env.cards - 1]), seen[:, : env.cards][:, ::-1]], 1)
    if task.startswith("RepeatPrevious"):
        return np.pad(seen, ((0, 0), (env.lag - 1, 0)))[:, : seen.shape[1]]
    return np.repeat(seen[:, :1], seen.shape[1], 1)


@pytest.mark.parametrize("task", [pytest.param(t, marks=slow_if("Easy" not in t)) for t in OPEN_LOOP])
def test_policies_get_the_published_return_of_cards(task):
    known = envs.reference(f"popgym/{task}")
    obs, *_ = played(task, random_actions(task))  # cards are dealt whatever is played
    for policy, name in ((without_memory, "without_memory"), (with_memory, "with_memory")):
        _, returns, _ = played(task, policy(task, obs).astype(np.int32))
        assert_known(returns, known[name])


@pytest.mark.parametrize("task", DIAGNOSTIC)
def test_memory_earns_everything_in_every_recorded_diagnostic_episode(task):
    env, params = made(task)
    recorded = traces(task)
    actions = with_memory(task, recorded.obs[:, :-1]).astype(np.int32)
    _, out = play(env, params, recorded.layout, actions, recorded.draws)
    np.testing.assert_allclose(np.asarray(out["reward"]).sum(1), 1.0, atol=1e-5)


def test_exact_references_follow_from_the_rules():
    small = {"Easy": 52, "Medium": 104, "Hard": 156}
    for level, n in {"Easy": 52, "Medium": 8 * 52, "Hard": 16 * 52}.items():
        again = (n / 4 - 1) / (n - 1)  # another card has the suit of a given one
        value = envs.reference(f"popgym/RepeatFirst{level}")["without_memory"]["value"]
        assert value == pytest.approx((1 + (n - 2) * (2 * again - 1)) / (n - 1), abs=5e-5)
    for level, n in small.items():
        another = n / 4 / (n - 1)
        value = envs.reference(f"popgym/RepeatPrevious{level}")["without_memory"]["value"]
        assert value == pytest.approx(2 * another - 1, abs=5e-5)
    for level, kinds in {"Easy": 2, "Medium": 4, "Hard": 13}.items():
        known, chances = envs.reference(f"popgym/CountRecall{level}"), count_chances(f"CountRecall{level}")
        assert chances.sum(-1) == pytest.approx(1)
        weights = (1 - 1 / kinds, 1 / kinds)  # of two cards of different kinds, and of one kind
        right = chances.mean(0).max(-1), chances.max(-1).mean(0)
        best, clock = (np.average(each, weights=weights) for each in right)
        assert known["random"]["value"] == pytest.approx(2 / chances.shape[-1] - 1, abs=5e-5)
        assert known["without_memory"]["value"] == pytest.approx(2 * best - 1, abs=5e-5)
        assert f"{2 * clock - 1:.4f}" in known["without_memory"]["note"]


def test_every_id_has_references_of_all_three_kinds():
    for env_id in IDS:
        known = envs.reference(env_id)
        assert list(known) == ["random", "without_memory", "with_memory"]
        for entry in known.values():
            assert entry["mark"] in ("exact", "measured") and -1 <= entry["value"] <= 1 and entry["note"]
        values = [entry["value"] for entry in known.values()]
        assert values == sorted(values)


# Layouts


@functools.partial(jax.jit, static_argnums=(0, 2))
def layouts(env, key, count):
    """`count` layouts, leaves [count, ...]."""
    return jax.vmap(lambda key: env.sample_layout(key, env.default_params))(jax.random.split(key, count))


def drawn(task, count, seed=0):
    return jax.tree.map(np.asarray, layouts(made(task)[0], jax.random.key(seed), count))


def assert_same_shares(ours, of_ours, theirs, of_theirs):
    """How often each cell was hit agrees."""
    share = (ours + theirs) / (of_ours + of_theirs)
    error = np.sqrt(share * (1 - share) * (1 / of_ours + 1 / of_theirs))
    difference = ours / of_ours - theirs / of_theirs
    assert (np.abs(difference) <= Z * error).all()


def assert_uniform(counts, fixed=1):
    """Counts of cells that are equally likely; `fixed`: how many of them follow from the others."""
    expected = counts.mean()
    assert chi2.sf(((counts - expected) ** 2 / expected).sum(), counts.size - fixed) > 1e-5


@pytest.mark.parametrize("task", ["RepeatFirstEasy", "CountRecallEasy", "ConcentrationEasy"])
def test_every_card_is_equally_likely_at_every_place(task):
    for name, decks in drawn(task, 10_000).items():
        assert (np.sort(decks, 1) == np.arange(52)).all(), name
        places = np.stack([np.bincount(column, minlength=52) for column in decks.T])
        assert_uniform(places, fixed=2 * 52 - 1)
        follows = np.bincount(52 * decks[:, 30] + decks[:, 31], minlength=52 * 52)
        assert_uniform(follows[follows > 0][: 52 * 51], fixed=1)


def test_large_decks_are_permutations_without_order():
    decks = drawn("RepeatFirstHard", 500)["deck"]
    assert (np.sort(decks, 1) == np.arange(832)).all()
    assert_uniform(np.bincount(decks[:, :100].ravel() // 52, minlength=16))
    order = [np.corrcoef(deck, np.arange(832))[0, 1] for deck in decks]
    assert abs(np.mean(order)) < Z / np.sqrt(831 * 500)


def test_the_two_decks_of_count_recall_are_independent():
    decks = drawn("CountRecallEasy", 5000)
    together = [np.corrcoef(*pair)[0, 1] for pair in zip(decks["value_deck"], decks["query_deck"], strict=True)]
    assert abs(np.mean(together)) < Z / np.sqrt(51 * 5000)


@pytest.mark.parametrize("level", [pytest.param(level, marks=slow_if(level == "Hard")) for level in LEVELS])
def test_boards_follow_the_law_of_the_originals(level):
    boards = drawn(f"Battleship{level}", BOARDS)["board"]
    assert (boards.sum((1, 2)) == 12).all()
    assert_same_shares(boards.sum(0), BOARDS, generators()[f"Battleship{level}_ships"], generators()["boards"])
    mines = drawn(f"MineSweeper{level}", BOARDS)["mines"]
    assert (mines.sum((1, 2)) == {"Easy": 2, "Medium": 6, "Hard": 10}[level]).all()
    assert_same_shares(mines.sum(0), BOARDS, generators()[f"MineSweeper{level}_mines"], generators()["boards"])
    neighbours = (mines[:, 0, 0] & mines[:, 0, 1]).sum(), (mines[:, 0, 0] & mines[:, -1, -1]).sum()
    assert abs(np.subtract(*neighbours)) < Z * np.sqrt(sum(neighbours) + 1)


def test_chances_of_bandits_are_uniform():
    bandits = drawn("MultiarmedBanditEasy", 5000)["bandits"]
    assert bandits.dtype == np.float32 and kstest(bandits.ravel(), "uniform").pvalue > 1e-5
    assert_uniform(np.bincount(bandits.argmax(1), minlength=10))


def distances(grids, starts, ends):
    """Steps from start to end in every maze: int [E]; -1 where there is no way."""
    every = np.arange(len(grids))
    free = np.pad(grids == 0, ((0, 0), (1, 1), (1, 1)))
    free[every, starts[:, 0] + 1, starts[:, 1] + 1] = free[every, ends[:, 0] + 1, ends[:, 1] + 1] = True
    reached = np.zeros_like(free)
    reached[every, starts[:, 0] + 1, starts[:, 1] + 1] = True
    found = np.full(len(grids), -1)
    for steps in range(1, grids[0].size):
        shifted = [np.roll(reached, shift, axis) for axis in (1, 2) for shift in (1, -1)]
        reached |= free & np.any(shifted, 0)
        new = reached[every, ends[:, 0] + 1, ends[:, 1] + 1] & (found < 0)
        found[new] = steps
        if (found >= 0).all():
            break
    return found, reached[:, 1:-1, 1:-1].sum((1, 2))


@pytest.mark.parametrize("level", [pytest.param(level, marks=slow_if(level != "Easy")) for level in LEVELS])
def test_mazes_follow_the_law_of_the_originals(level):
    count, theirs = 3000, {name: generators()[f"Labyrinth{level}_{name}"] for name in
                           ("passages", "degree", "dead_ends", "distance")}  # fmt: skip
    drawn_mazes = drawn(f"LabyrinthEscape{level}", count)
    grid, start, end = (drawn_mazes[name] for name in ("grid", "start", "end"))
    side = grid.shape[1]
    rooms = (side // 2) ** 2
    assert (grid[:, 1::2, 1::2] == 0).all() and ((grid == 0).sum((1, 2)) == 2 * rooms - 1).all()
    assert_same_shares((grid == 0).sum(0), count, theirs["passages"], generators()["mazes"])

    doors = np.pad(grid == 0, ((0, 0), (1, 1), (1, 1)))
    doors = sum(
        doors[:, 1 + y : 1 + side + y, 1 + x : 1 + side + x] for y, x in ((0, 1), (0, -1), (1, 0), (-1, 0))
    )
    doors = doors[:, 1::2, 1::2]
    shares = np.bincount(doors.ravel(), minlength=5) / doors.size
    np.testing.assert_allclose(shares, theirs["degree"] / theirs["degree"].sum(), atol=0.004)
    dead_ends = (doors == 1).sum((1, 2))
    found, cells = distances(grid, start, end)
    assert (found > 0).all()  # every room can be reached: a tree
    for ours, others in ((dead_ends, theirs["dead_ends"]), (found, theirs["distance"])):
        for power in (1, 2):
            a, b = (sample.astype(float) ** power for sample in (ours, others[others >= 0]))
            assert abs(a.mean() - b.mean()) < ERRORS * np.hypot(a.std() / len(a) ** 0.5, b.std() / len(b) ** 0.5)

    assert (np.abs(start - end).max(1) == side - 1).all()  # on opposite borders
    upright = np.abs(start - end)[:, 0] == side - 1
    border = np.where(upright, start[:, 0], start[:, 1] + 1)  # 0, side - 1; 1, side
    along = np.where(
        upright[:, None], np.stack([start[:, 1], end[:, 1]], 1), np.stack([start[:, 0], end[:, 0]], 1)
    )
    assert (along % 2 == 1).all()
    assert_uniform(np.unique(border * 2 + upright, return_counts=True)[1])
    assert_uniform(np.bincount((along[:, 0] // 2) * (side // 2) + along[:, 1] // 2, minlength=rooms))


@pytest.mark.parametrize("task", ["AutoencodeEasy", "MineSweeperEasy", "MultiarmedBanditEasy"])
def test_every_reset_draws_afresh(task):
    same, again, other = (drawn(task, 64, seed) for seed in (0, 0, 1))
    for name, values in same.items():
        np.testing.assert_array_equal(values, again[name])
        assert (values[0] != values[1]).any() and (values != other[name]).any()


# Options and pictures


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("popgym/RepeatFirst", {}, r"env.id='popgym/RepeatFirst': .*did you mean popgym/RepeatFirst(Easy|Hard)"),
        ("popgym-RepeatFirstEasy-v0", {}, r"env.id='popgym-Rep.*: .*did you mean popgym/RepeatFirstEasy"),
        ("popgym/MultiArmedBanditEasy", {}, r"env.id=.*did you mean popgym/MultiarmedBanditEasy"),
        ("popgym/RepeatFirstEasy", {"time_limit_terminates": True}, r"env.time_.*=True: not an option"),
        ("popgym/BattleshipEasy", {"time_limit_terminates": 1}, r"env.time_.*=1: must be of type bool"),
    ],
)  # fmt: skip
def test_bad_options_are_one_line(env_id, options, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        envs.make(env_id, **options)
    assert "\n" not in str(error.value)


def test_a_layout_of_another_task_is_refused():
    env, params = made("RepeatFirstEasy")
    for layout in ({"deck": np.arange(104)}, {"board": np.zeros((8, 8), bool)}):
        with pytest.raises(
            ValueError, match=r"^layout.deck of shape .*: must be of shape \(52,\) in popgym/Repeat"
        ):
            env.reset_to(layout, params)


def pictures(task, episode, steps, rows):
    """Pictures of a recorded episode at these times, and their tiles' side in pixels."""
    env, params = made(task)
    recorded = traces(task)
    state = jax.jit(env.reset_to)({name: value[episode] for name, value in recorded.layout.items()}, params)[1]
    step, drawn = jax.jit(functools.partial(advance, env)), []
    for t in range(max(steps) + 1):
        if t in steps:
            drawn.append(env.render(jax.device_get(state), params))
        state, _ = step(params, state, recorded.actions[episode, t], recorded.draws[episode, t])
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in drawn)
    return drawn, drawn[0].shape[0] // rows


def places(pixels, tile):
    """(row, column) of every tile with one of these pixels [y, x]."""
    return {(int(y), int(x)) for y, x in np.argwhere(pixels) // tile}


def middles(picture, tile):
    """Colours in the middle of every tile: [rows, columns, 3]."""
    return picture[tile // 2 :: tile, tile // 2 :: tile]


def test_battleship_shows_hits_misses_and_hidden_ships():
    (picture,), tile = pictures("BattleshipEasy", 20, [20], rows=8)
    board, asked = traces("BattleshipEasy").layout["board"][20], np.zeros(64, bool)
    asked[traces("BattleshipEasy").actions[20, :20]] = True
    kinds = {}
    colours = middles(picture, tile).reshape(-1, 3).tolist()
    for ship, was_asked, colour in zip(board.ravel(), asked, colours, strict=True):
        kinds.setdefault((bool(ship), bool(was_asked)), set()).add(tuple(colour))
    assert len(kinds) == 4 and all(len(each) == 1 for each in kinds.values())
    assert len(set.union(*kinds.values())) == 4


def test_a_picture_of_mines_changes_where_a_cell_is_viewed_only():
    (before, after), tile = pictures("MineSweeperHard", 12, [3, 4], rows=8)
    last, action = traces("MineSweeperHard").actions[12, 2:4]
    changed = places((before != after).any(-1), tile)
    assert changed == {divmod(int(last), 8), divmod(int(action), 8)}  # the frame moved


def test_concentration_shows_both_cards_of_a_failed_turn_once():
    drawn, tile = pictures("ConcentrationHard", 0, range(9), rows=4)
    turned = [len(places((picture == (255, 225, 90)).all(-1), tile)) for picture in drawn]
    assert turned == [0, 1, 2, 1, 2, 1, 2, 1, 2]


def test_a_labyrinth_is_bright_where_the_agent_sees_it():
    drawn, tile = pictures("LabyrinthEscapeEasy", 0, [0, 30], rows=11)
    for picture in drawn:
        colours = middles(picture, tile).astype(int)
        agent = (colours == (40, 90, 220)).all(-1)
        (y,), (x,) = np.nonzero(agent)
        far = np.ones_like(agent)
        far[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = False
        assert colours[far].max() <= 3 / 5 * 255 < colours[~far].max()
