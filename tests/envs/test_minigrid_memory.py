"""MiniGrid-Memory: every step and pixel against the original, the values of exact policies, and the rules."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from envs.minigrid_memory import EnvParams, world
from envs.minigrid_memory.environment import DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE
from tests.envs import minigrid_memory_oracle as oracle
from tests.envs import minigrid_memory_policies as policies
from tests.marks import slow_if

IDS = envs.minigrid_memory.IDS
S7, S11, S13, S13_RANDOM, S17_RANDOM = (IDS[i] for i in (0, 2, 3, 4, 5))
PROVES_MEMORY = [(env_id, 3) for env_id in IDS] + [(S11, 7), (S13, 7)]
BOTH_VIEWS = [(env_id, view) for env_id in IDS for view in (7, 3)]

every_id = pytest.mark.parametrize("env_id", IDS)


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.vmap, in_axes=(None, 0, 0, 0))
def _play(env, params, layout, actions):
    first = env.reset_to(layout, params)

    def step(state, action):
        obs, state, reward, terminated, info = env.step_env(jax.random.key(0), state, action, params)
        return state, (obs, state, reward, terminated, env.is_truncated(state, params), info["episode_success"])

    return first, jax.lax.scan(step, first[1], actions)[1]


@functools.cache
def made(env_id, **options):
    return envs.make(env_id, **options)


def play(env, params, layouts, plans):
    """Plays actions [E][T] on, whatever ends: per episode observations and states [T + 1], the rest [T].

    params: the same for all, or of every episode.
    """
    plans = [np.asarray(plan, np.int32) for plan in plans]
    padded = np.zeros((len(plans), max(map(len, plans))), np.int32)
    for row, plan in zip(padded, plans, strict=True):
        row[: len(plan)] = plan
    each = params if isinstance(params, list) else [params] * len(plans)
    params = jax.tree.map(lambda *values: np.array(values, np.int32), *each)
    first, rest = jax.tree.map(np.asarray, _play(env, params, np.asarray(layouts, np.int32), padded))
    both = jax.tree.map(lambda a, b: np.concatenate([a[:, None], b], 1), first, rest[:2])
    for e, plan in enumerate(plans):
        obs, states = jax.tree.map(lambda x, e=e, plan=plan: x[e, : len(plan) + 1], both)
        yield obs, states, *(x[e, : len(plan)] for x in rest[2:])


# Replay


# Without optimisation a frame takes its time; the others prove the same of every size of view and tile.
SLOW_FILES = ("S7_view7_rgb_tile8", "S11_view7_rgb_tile8")


@pytest.mark.parametrize("file", [pytest.param(each, marks=slow_if(each in SLOW_FILES)) for each in oracle.FILES])
def test_the_originals_episodes_are_repeated_to_the_byte(file):
    env_id, options = oracle.made_with(file)
    env, _ = made(env_id, **options)
    episodes = oracle.episodes(file)
    params = [
        EnvParams(min(each.max_steps, each.outer_limit or each.max_steps), each.max_steps) for each in episodes
    ]
    played = play(env, params, [each.layout for each in episodes], [each.actions for each in episodes])
    for episode, (obs, state, reward, terminated, truncated, success) in zip(episodes, played, strict=True):
        assert obs.dtype == np.uint8 and reward.dtype == np.float32
        np.testing.assert_array_equal(obs, episode.seen)
        np.testing.assert_allclose(reward, episode.rewards, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(terminated, episode.terminated)
        np.testing.assert_array_equal(truncated, episode.truncated)
        np.testing.assert_array_equal(success, episode.rewards > 0)
        np.testing.assert_array_equal(np.stack([state.x, state.y], -1), episode.pos)
        np.testing.assert_array_equal(state.direction, episode.direction)
        np.testing.assert_array_equal(state.time, np.arange(len(reward) + 1))


def test_the_files_hold_what_the_replay_is_to_prove():
    assert len(oracle.FILES) == 17
    found = [each for file in oracle.FILES for each in oracle.episodes(file)]
    both = [each for each in found if each.terminated[-1] and each.truncated[-1]]
    assert any(each.rewards[-1] == pytest.approx(0.1) for each in both) and any(
        not each.rewards[-1] for each in both
    )
    outer = [each for each in found if each.outer_limit]
    assert any(len(each.actions) == each.outer_limit and each.truncated[-1] for each in outer)
    # The reward falls by the own limit where the outer one is shorter.
    assert any(each.rewards[-1] == 1 - 0.9 * len(each.actions) / each.max_steps for each in outer)
    assert any((each.actions == TOGGLE).any() and (each.actions == PICKUP).any() for each in found)


def test_limits_are_made_of_the_options():
    for options, limits in (
        ({}, (605, 605)),
        ({"time_limit": 96}, (96, 605)),
        ({"max_steps": 50}, (50, 50)),
        ({"max_steps": 50, "time_limit": 96}, (50, 50)),
        ({"max_steps": 50, "time_limit": 40}, (40, 50)),
    ):
        assert made(S11, **options)[1] == EnvParams(*limits)
    for env_id, size in zip(IDS, (7, 9, 11, 13, 13, 17), strict=True):
        env, params = made(env_id)
        assert env.name == env_id and params == env.default_params == EnvParams(5 * size**2, 5 * size**2)


def test_masks_are_seen_through_as_the_original_does():
    masks = oracle.load("vis")
    for view in (3, 5, 7, 9):
        walls, seen = (
            np.unpackbits(masks[f"{name}{view}"], axis=1)[:, : view**2].reshape(-1, view, view).astype(bool)
            for name in ("walls", "vis")
        )
        assert len(walls) == 1500
        np.testing.assert_array_equal(world.visible(walls), seen)


@pytest.mark.parametrize("size", (8, 28, 32))
def test_tiles_are_the_originals(size):
    drawn = np.stack([world.tile(kind, size) for kind in range(6)])
    np.testing.assert_array_equal(drawn, oracle.load("tiles")[f"tiles{size}"])


# Laws


@every_id
def test_layouts_follow_the_law_of_the_original(env_id):
    """Chi-square against the law, and against the original's resets; |z| of each mean below 4."""
    env, params = made(env_id)
    drawn = np.asarray(jax.vmap(env.draw_layout, (0, None))(jax.random.split(jax.random.key(1), 20_000), params))
    original = oracle.load("gen")[env_id.removeprefix("MiniGrid-Memory").removesuffix("-v0")]
    ends = range(4, env.size - 2) if "Random" in env_id else [env.size - 3]
    cells = [(end, x, cue, top) for end in ends for x in range(1, end + 1) for cue in (0, 1) for top in (0, 1)]
    law = np.array([1 / len(ends) / end / 4 for end, *_ in cells])
    number = {cell: i for i, cell in enumerate(cells)}
    counts = [
        np.bincount([number[tuple(row)] for row in rows], minlength=len(cells)) for rows in (drawn, original)
    ]
    for rows, found in zip((drawn, original), counts, strict=True):
        for column in range(4):  # the marginal laws, finer in their tails than the joint one
            values = np.array([cell[column] for cell in cells])
            kinds = np.unique(values)
            expected = np.array([law[values == kind].sum() for kind in kinds])
            got = np.array([found[values == kind].sum() for kind in kinds])
            assert len(kinds) == 1 or stats.chisquare(got, len(rows) * expected).pvalue > 1e-3
            mean = expected @ kinds
            deviation = np.sqrt(expected @ (kinds - mean) ** 2 / len(rows))
            assert abs(rows[:, column].mean() - mean) <= 4 * deviation
    assert stats.chisquare(counts[0], len(drawn) * law).pvalue > 1e-3
    assert stats.chi2_contingency(np.stack(counts)).pvalue > 1e-3


def test_a_reset_shows_the_layout_that_it_draws():
    env, params = made(S13_RANDOM)
    for key in jax.random.split(jax.random.key(2), 3):
        layout = env.draw_layout(key, params)
        found, expected = env.reset_env(key, params), env.reset_to(layout, params)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        state = found[1]
        assert [state.hallway_end, state.x, state.cue, state.top] == layout.tolist()
        assert (state.y, state.direction, state.time) == (6, world.RIGHT, 0)


# Policies


def straight(layouts):
    """To the junction and into the upper arm."""
    return [[FORWARD] * (end + 1 - x) + [LEFT, FORWARD] for end, x, _, _ in layouts]


def mean_return(env, params, layouts, plans, weights):
    """Of plans that end their episodes with their last action."""
    returns = []
    for _, _, reward, terminated, _, _ in play(env, params, layouts, plans):
        assert terminated[-1] and not terminated[:-1].any()
        returns.append(reward.sum())
    return np.average(returns, weights=weights)


@pytest.mark.parametrize(
    ("env_id", "view"),
    [pytest.param(*each, marks=slow_if(each in ((S17_RANDOM, 7), (S13_RANDOM, 3)))) for each in BOTH_VIEWS],
)
def test_the_best_policy_that_looks_returns_what_is_known(env_id, view):
    known = policies.model(env_id, view)
    best = policies.optimum(known)
    value = envs.reference(env_id, agent_view_size=view)["with_memory"]["value"]
    assert 1 - 0.9 * best.steps / known.max_steps == pytest.approx(value, abs=5e-5)
    assert max(map(len, best.plans.values())) <= 96  # a time limit of 96 changes nothing
    if (env_id, view) in ((S7, 7), (S17_RANDOM, 3)):
        assert best.beliefs == {7: 186, 3: 6395}[view]
    if (env_id, view) in ((S11, 3), (S13_RANDOM, 7)):  # and in steps of the environment
        starts = list(known.starts)
        layouts = known.fields[starts][:, [0, 3, 1, 2]]
        weights = [known.starts[start] for start in starts]
        plans = [best.plans[start] for start in starts]
        played = mean_return(*made(env_id, agent_view_size=view), layouts, plans, weights)
        assert played == pytest.approx(value, abs=5e-5)


@pytest.mark.parametrize(("env_id", "view"), BOTH_VIEWS)
def test_the_junction_shows_the_cue_exactly_where_no_memory_is_needed(env_id, view):
    """If no view there depends on the cue, half of the episodes succeed without memory at most.

    The way to the junction leads through the hallway's last cell, looking right, and from there on a policy of the
    current view does the same for both cues, until it comes back or picks an object.
    """
    known = policies.model(env_id, view)
    hallway_end, _, _, x, _, direction = known.fields.T
    entering = (x == hallway_end) & (direction == world.RIGHT)
    there = (entering | (x > hallway_end)) & (known.end == policies.RUNNING)
    by_place = {}
    for (end, cue, *place), seen in zip(known.fields[there], known.seen[there], strict=True):
        by_place.setdefault((end, *place), {})[cue] = seen
    tells = {end for (end, *_), seen in by_place.items() if seen[0] != seen[1]}
    assert (tells == set()) == ((env_id, view) in PROVES_MEMORY)
    if "Random" in env_id and view == 7:
        assert tells == {4, 5, 6}


@every_id
def test_going_straight_on_returns_what_is_known_of_policies_without_memory(env_id):
    known = policies.model(env_id, 3)
    layouts = known.fields[list(known.starts)][:, [0, 3, 1, 2]]
    value = mean_return(*made(env_id, agent_view_size=3), layouts, straight(layouts), list(known.starts.values()))
    assert value == pytest.approx(envs.reference(env_id, agent_view_size=3)["without_memory"]["value"], abs=5e-5)


RANDOM = {  # return, success and mean steps: all seven actions; turns and forward only
    "S7": ((0.161, 0.229, 170), (0.242, 0.341, 132)),
    "S9": ((0.181, 0.250, 265), (0.261, 0.356, 203)),
    "S11": ((0.192, 0.263, 383), (0.272, 0.368, 288)),
    "S13": ((0.198, 0.272, 524), (0.281, 0.377, 389)),
    "S13Random": ((0.238, 0.326, 459), (0.330, 0.431, 306)),
    "S17Random": ((0.268, 0.361, 699), (0.358, 0.451, 440)),
}


@every_id
def test_random_policies_return_what_is_known(env_id):
    known = policies.model(env_id, 3)
    rows = RANDOM[env_id.removeprefix("MiniGrid-Memory").removesuffix("-v0")]
    for (value, success, steps), actions in zip(rows, (7, 3), strict=True):
        found = policies.random_values(known, actions)
        assert found[:2] == pytest.approx((value, success), abs=1e-3) and found[2] == pytest.approx(steps, abs=1)
    assert envs.reference(env_id)["random"]["value"] == rows[0][0]


@pytest.mark.parametrize("env_id", [pytest.param(each, marks=slow_if(each != S7)) for each in IDS])
def test_random_episodes_lie_within_four_standard_errors(env_id):
    env, params = made(env_id)
    episodes = 2048

    @jax.jit
    def returns(key):
        state = jax.vmap(env.reset_env, (0, None))(jax.random.split(key, episodes), params)[1]

        def step(carry, key):
            state, running, total, won, steps = carry
            action = jax.random.randint(key, (episodes,), 0, env.num_actions)
            _, state, reward, terminated, info = jax.vmap(env.step_env, (None, 0, 0, None))(
                key, state, action, params
            )
            total, won = total + running * reward, won + running * info["episode_success"]
            ends = terminated | jax.vmap(env.is_truncated, (0, None))(state, params)
            return (state, running & ~ends, total, won, steps + running), None

        start = (state, jnp.ones(episodes, bool), *jnp.zeros((2, episodes)), jnp.zeros(episodes, int))
        keys = jax.random.split(key, params.max_steps)
        return jax.lax.scan(step, start, keys)[0][1:]

    running, *samples = map(np.asarray, returns(jax.random.key(3)))
    assert not running.any()
    for sample, value in zip(samples, policies.random_values(policies.model(env_id, 3), 7), strict=True):
        assert abs(sample.mean() - value) <= 4 * sample.std() / np.sqrt(episodes)


# Observations


def test_frames_draw_the_symbols_and_the_direction_is_a_channel_of_its_own():
    plan = [LEFT, FORWARD, RIGHT, RIGHT, FORWARD, FORWARD, RIGHT, FORWARD, DROP] + [FORWARD] * 8
    env, params = made(S13_RANDOM, agent_view_size=3)
    symbols, states = next(play(env, params, [[10, 3, 1, 0]], [plan]))[:2]
    assert set(states.direction) == {0, 1, 2, 3}

    def shown(**options):
        env, params = made(S13_RANDOM, agent_view_size=3, **options)
        return np.asarray(jax.jit(jax.vmap(env.get_obs, (0, None)))(states, params))

    frames = shown(observation="frame")
    kinds = (symbols[..., None, :] == world.SYMBOLS).all(-1).argmax(-1)  # [T, i, j]
    kinds[:, 1, -1] = world.AGENT
    tiles = np.stack([world.tile(kind, 8) for kind in range(6)])
    pictures = tiles[kinds.swapaxes(1, 2)].swapaxes(2, 3).reshape(len(kinds), 24, 24, 3)
    np.testing.assert_array_equal(frames, pictures)
    for observation, plain, scale in (("symbolic", symbols, 1), ("frame", frames, 85)):
        told = shown(observation=observation, show_direction=True)
        np.testing.assert_array_equal(told[..., :3], plain)
        assert told.dtype == np.uint8 and told.shape == (*plain.shape[:-1], 4)
        assert (told[..., 3] == scale * states.direction[:, None, None]).all()


def test_the_space_and_the_categories_describe_the_bytes():
    for options, shape, categories in (
        ({}, (7, 7, 3), (11, 6, 3)),
        ({"agent_view_size": 3, "show_direction": True}, (3, 3, 4), (11, 6, 3, 4)),
        ({"observation": "frame"}, (56, 56, 3), None),
        ({"observation": "frame", "agent_view_size": 3, "tile_size": 28}, (84, 84, 3), None),
        ({"observation": "frame", "show_direction": True}, (56, 56, 4), None),
    ):
        env, params = made(S7, **options)
        space = env.observation_space(params)
        assert (space.shape, space.dtype, env.observation_categories) == (shape, jnp.uint8, categories)
        assert envs.PreviousActionReward(env).observation_space(params).shape == (np.prod(shape) + 8,)
        if categories:
            assert (env._symbols < np.array(categories)).all()


def test_a_picture_shows_the_whole_world_with_the_view_lit():
    env, params = made(S7, agent_view_size=3)
    _, state = env.reset_to([4, 2, 1, 0], params)
    state = state.replace(direction=jnp.int32(world.LEFT))
    picture = env.render(state, params)
    assert picture.shape == (224, 224, 3) and picture.dtype == np.uint8
    cells = picture.reshape(7, 32, 7, 32, 3).swapaxes(1, 2)  # [y, x, row, column, rgb]
    cue, upper, lower = cells[2, 1], cells[1, 5], cells[5, 5]
    np.testing.assert_array_equal(cue, world.tile(world.BALL, 32))
    np.testing.assert_array_equal(upper, world.tile(world.KEY, 32, lit=False))
    np.testing.assert_array_equal(lower, world.tile(world.BALL, 32, lit=False))
    agent = cells[3, 2]
    np.testing.assert_array_equal(agent, world.tile(world.AGENT, 32, heading=world.LEFT))
    red = (agent == (255, 76, 76)).all(-1)
    assert red[9, 26] and not red[9, 6] and red[16, 10]  # the tip points to the left
    lit = (cells[..., 16, 16, :] > 100).any(-1) | (cells[..., 2, 2, :] == 76).all(-1)
    assert {tuple(cell) for cell in np.argwhere(lit)} == {(y, x) for y in (2, 3, 4) for x in (0, 1, 2)} | {
        (5, 5),
        (1, 5),
    }


# Interface


def test_single_steps_jit_vmap_and_scan_agree():
    env, params = made(S11)
    layouts = np.array([[8, 1, 0, 0], [8, 5, 1, 0], [8, 8, 0, 1]])
    plans = np.array(jax.random.choice(jax.random.key(4), np.array([0, 1, 2, 2, 2, 3]), (3, 30)))
    plans[2, :3] = FORWARD, LEFT, FORWARD
    compiled = jax.jit(env.step_env)
    for layout, plan, played in zip(layouts, plans, play(env, params, layouts, plans), strict=True):
        obs, state = env.reset_to(layout, params)
        np.testing.assert_array_equal(obs, played[0][0])
        for t, action in enumerate(plan):
            single = compiled(jax.random.key(t), state, action, params)
            if t < 4:  # slow without a compiler
                alone = env.step_env(jax.random.key(0), state, int(action), params)
                jax.tree.map(np.testing.assert_array_equal, alone, single)
            obs, state, reward, terminated, info = single
            truncated = env.is_truncated(state, params)
            scanned = jax.tree.map(operator.itemgetter(t), played[2:])
            np.testing.assert_array_equal(obs, played[0][t + 1])
            jax.tree.map(np.testing.assert_array_equal, state, jax.tree.map(lambda x, t=t: x[t + 1], played[1]))
            assert (reward, terminated, truncated, info["episode_success"]) == scanned
    assert terminated.shape == () and played[3].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observation": "rgb"}, r"env.observation='rgb': not known; allowed: symbolic, frame"),
        ({"agent_view_size": 4}, r"env.agent_view_size=4: must be odd and from 3 to 33"),
        ({"agent_view_size": 1}, r"env.agent_view_size=1: must be odd and from 3 to 33"),
        ({"agent_view_size": 35}, r"env.agent_view_size=35: must be odd"),
        ({"tile_size": 0}, r"env.tile_size=0: must be from 1 to 73 with agent_view_size=7"),
        ({"tile_size": 74}, r"env.tile_size=74: must be from 1 to 73 with agent_view_size=7"),
        ({"max_steps": -1}, r"env.max_steps=-1: must be at least 0 \(0: 5 times the grid's side squared\)"),
        ({"time_limit": -5}, r"env.time_limit=-5: must be at least 0 \(0: none\)"),
        ({"show_direction": 1}, r"env.show_direction=1: must be of type bool"),
        ({"view_size": 3}, r"env.view_size=3: not an option of .*did you mean .*agent_view_size"),
    ],
)
def test_bad_options_are_one_line_that_names_them(options, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        envs.make(S7, **options)
    assert "\n" not in str(error.value)


def test_other_spellings_of_the_ids_are_answered_with_the_right_one():
    with pytest.raises(ValueError, match=r"^env.id='MiniGrid-MemoryS11': .*did you mean MiniGrid-MemoryS11-v0"):
        envs.make("MiniGrid-MemoryS11")


def test_a_layout_of_another_shape_is_refused():
    env, params = made(S7)
    with pytest.raises(ValueError, match=r"^layout of shape \(3,\): must be \(hallway_end, agent_x, cue, top\)"):
        env.reset_to([4, 1, 0], params)


def test_references_are_given_where_they_hold():
    def values(**options):
        found = envs.reference(S11, **options)
        return found and {name: known and known["value"] for name, known in found.items()}

    everything = {"random": 0.192, "without_memory": 0.4952, "with_memory": 0.9786}
    assert values(agent_view_size=3) == values(agent_view_size=3, max_steps=605) == everything
    assert values(agent_view_size=3, time_limit=96) == everything | {"random": None}
    assert values(agent_view_size=5) == {"random": 0.192, "without_memory": None, "with_memory": None}
    assert values(time_limit=20) is values(max_steps=100) is None
    for env_id, view in BOTH_VIEWS:
        mark = envs.reference(env_id, agent_view_size=view)["without_memory"]["mark"]
        assert mark == ("computed" if (env_id, view) in PROVES_MEMORY else "measured")
