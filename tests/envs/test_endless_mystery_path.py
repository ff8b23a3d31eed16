"""Endless Mystery Path: steps and pixels against traces of the original, the rules, the law of the segments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from envs.mystery_path import ENDLESS, EndlessLayout, generator
from envs.mystery_path.endless import COLUMNS, SEGMENTS, bar_levels
from tests.envs import mystery_path_oracle as oracle

NOOP, RIGHT, UP, DOWN = range(4)
T = 300
CELL = {"agent_speed": 12.0}  # a cell a step


@functools.cache
def made():
    return envs.make(ENDLESS)


@jax.jit
def _start(params, start, segments):
    return made()[0].reset_to(EndlessLayout(start, segments, jax.random.key(0)), params)


@jax.jit
def _play(params, state, actions):
    env = made()[0]

    def step(state, action):
        obs, state, reward, terminated, info = env.step_env(jax.random.key(0), state, action, params)
        return state, (obs, state, reward, terminated, env.is_truncated(state, params), info)

    return jax.lax.scan(step, state, actions)


def begin(segments, **options):
    """(params, observation, state) where nothing is drawn: the path ends with the given segments [n, 56]."""
    params = envs.make(ENDLESS, **options)[1]
    padded = np.zeros((SEGMENTS, 56), np.uint8)
    padded[: len(segments)] = segments
    return params, *_start(params, np.flatnonzero(padded[0, :7] == 1)[0], padded)


def play(segments, actions, **options):
    """Plays actions [T] on, whatever ends: observations and states [T + 1], rewards .. infos [T]."""
    params, first_obs, first = begin(segments, **options)
    padded = np.zeros(T, np.int32)
    padded[: len(actions)] = actions
    obs, state, *rest = jax.tree.map(lambda x: np.asarray(x)[: len(actions)], _play(params, first, padded)[1])
    join = functools.partial(jax.tree.map, lambda a, b: np.concatenate([np.asarray(a)[None], b]))
    return join(first_obs, obs), join(first, state), *rest


def straight(count, row=3):
    """Segments of a path along one row: [count, 56]."""
    place = np.zeros((8, 7), np.uint8)
    place[:, row] = np.arange(1, 9)
    return np.tile(place.ravel(), (count, 1))


# Replay


@pytest.mark.parametrize("file", oracle.ENDLESS_FILES)
def test_the_originals_episodes_are_repeated_to_the_pixel(file):
    for episode in oracle.episodes(file):
        obs, state, reward, terminated, truncated, info = play(
            episode["segments"], episode["actions"], **episode.options
        )
        assert obs.dtype == np.uint8 and reward.dtype == np.float32
        np.testing.assert_array_equal(obs, episode["frames"])
        np.testing.assert_allclose(reward, episode["rewards"], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(terminated | truncated, episode["dones"])
        limit = episode.options.get("max_steps") == len(reward)
        assert truncated.any() == limit and not (truncated & terminated).any()
        np.testing.assert_array_equal(np.asarray(state.position), episode["agent_px"])
        np.testing.assert_array_equal(np.asarray(state.rotation), episode["agent_rot"])
        for name in ("off_path", "num_fails", "stamina", "tiles_visited", "max_x"):
            np.testing.assert_array_equal(getattr(state, name), episode[name])
        np.testing.assert_array_equal(state.time, np.arange(len(reward) + 1))
        for name, key in (("fails", "num_fails"), ("tiles_visited",) * 2, ("max_x",) * 2):
            np.testing.assert_array_equal(info[f"episode_{name}"], episode[key][1:])


def test_the_traces_hold_what_the_replay_is_to_prove():
    default, variant = map(oracle.episodes, oracle.ENDLESS_FILES)
    assert len(default) == 10 and len(variant) == 6 and not any(episode.options for episode in default)
    ended = [episode for episode in default if episode["dones"][-1]]
    assert any(episode["stamina"][-1] == 0 for episode in ended)
    left = [e["agent_px"][-1, 0] // 12 < e["max_x"][-1] for e in ended if e["off_path"][-1] and e["stamina"][-1]]
    assert any(left) and not all(left)  # ended by a fall too soon, and by the second at one place
    rows = np.concatenate([episode["agent_px"][:, 1] // 12 for episode in default])
    assert rows.min() == -1 and rows.max() == 7
    assert max(episode["max_x"].max() for episode in default) > 24  # beyond the first three segments
    assert max(episode["num_fails"].max() for episode in default) > 8
    assert {name for episode in variant for name in episode.options} == set(envs.options(ENDLESS)) - {
        "agent_scale", "observation", "time_limit_terminates"}  # fmt: skip


# Rules


def test_without_a_new_cell_the_episode_ends_when_the_stamina_does():
    _, state, _, terminated, _, _ = play(straight(2), [NOOP] * 19 + [RIGHT], stamina_level=20)
    assert np.asarray(state.stamina).tolist() == [20, *range(19, -1, -1)]
    assert np.flatnonzero(terminated).tolist() == [19]
    _, state, _, terminated, _, _ = play(straight(2), [NOOP] * 18 + [RIGHT] * 2 + [NOOP] * 20, **CELL)
    assert np.asarray(state.stamina)[18:21].tolist() == [2, 19, 19]  # in the last moment
    assert np.flatnonzero(terminated)[0] == 20 + 18


def test_the_known_path_gives_stamina_again_after_a_fall_but_no_reward():
    actions = [RIGHT] * 4 + [UP, NOOP] + [RIGHT] * 5
    _, state, reward, terminated, _, _ = play(straight(2), actions, **CELL)
    assert np.asarray(state.stamina)[1:].tolist() == [19] * len(actions) and not terminated.any()
    np.testing.assert_allclose(reward, [0.1] * 4 + [0] * 6 + [0.1], atol=1e-6)
    assert np.asarray(state.tiles_visited).tolist() == [0, 1, 2, 3, 4] + [4] * 6 + [5]
    assert np.asarray(state.position)[6].tolist() == [6, 42]
    assert np.asarray(state.rotation)[5:8].tolist() == [0, 0, 270]


@pytest.mark.parametrize(
    ("falls", "ends"),
    [
        ([(3, UP), (3, UP)], [1]),  # at one place
        ([(3, UP), (3, DOWN), (4, UP), (4, DOWN), (5, UP), (5, UP)], [5]),
        ([(3, UP), (2, UP)], [1]),  # too soon
        ([(3, UP), (3, DOWN), (3, UP)], [2]),
        ([(2, UP), (4, UP), (4, DOWN), (4, UP)], [3]),
        ([(2, UP), (4, UP), (6, UP), (8, UP), (9, UP), (7, UP)], [5]),  # across segments
    ],
)
def test_a_fall_ends_the_episode_at_a_place_known_or_before_the_farthest_column(falls, ends):
    actions = [action for column, last in falls for action in [*[RIGHT] * column, last, NOOP]]
    _, state, _, terminated, _, _ = play(straight(3), actions, **CELL)
    fell = np.flatnonzero(np.asarray(state.off_path)[1:])
    assert len(fell) == len(falls) and [fell.tolist().index(t) for t in np.flatnonzero(terminated)][:1] == ends


def test_a_fall_ahead_is_remembered_when_its_column_is_reached():
    bend = np.zeros((8, 7), np.uint8)
    bend[:4, 3], bend[3:, 2] = np.arange(1, 5), np.arange(5, 10)
    segments = np.stack([bend.ravel(), straight(1, row=2)[0]])
    ahead, around = [RIGHT] * 4 + [NOOP], [RIGHT] * 3 + [UP, RIGHT, DOWN]  # both to column 4, row 3
    for actions, ends in ((ahead + around, [len(ahead + around) - 1]), (around, [])):
        _, state, _, terminated, _, _ = play(segments, actions, **CELL)
        assert np.asarray(state.position)[-1].tolist() == [54, 42] and state.off_path[-1]
        assert np.flatnonzero(terminated).tolist() == ends


def test_the_end_of_the_last_segment_truncates_and_cannot_be_reached_in_less_than_2042_steps():
    params, _, state = begin(straight(SEGMENTS), **CELL)
    state, (_, _, reward, *_) = _play(params, state, np.full(T, RIGHT))
    rest = COLUMNS - 1 - T
    actions = np.where(np.arange(T) < rest, RIGHT, NOOP)
    final, (_, _, more, terminated, truncated, _) = _play(params, state, actions)
    assert np.flatnonzero(truncated)[0] == rest - 1 and not terminated[: rest + 1].any()
    assert int(final.max_x) == COLUMNS - 1 == 511
    np.testing.assert_allclose(float(reward.sum() + more.sum()), 0.1 * (COLUMNS - 1), rtol=1e-5)
    # No step gains more than straight_step pixels, from the centre of column 0 to the edge of the last one.
    pixels = (COLUMNS - 1) * 12 - 6
    assert -(-pixels // 12) == T + rest and -(-pixels // params.replace(straight_step=3).straight_step) == 2042


def test_the_time_limit_terminates_on_request_as_in_the_original():
    for terminates in (False, True):
        *_, terminated, truncated, _ = play(straight(2), [NOOP] * 5, max_steps=5, time_limit_terminates=terminates)
        assert terminated.tolist() == [False] * 4 + [terminates] and truncated[-1] == (not terminates)
    *_, terminated, truncated, _ = play(straight(2), [NOOP] * 20, max_steps=20)
    assert terminated[-1] and not truncated[-1]  # both at once


# Pictures


def test_render_shows_the_path_ahead():
    env = made()[0]
    segments = oracle.episodes(oracle.ENDLESS_FILES[0])[0]["segments"]
    params, obs, state = begin(segments)
    obs, state = (np.asarray(obs), jax.device_get(state))
    picture = env.render(state, params)
    assert picture.shape == (420, 420, 3) and picture.dtype == np.uint8
    centre = picture[30::60, 30::60].swapaxes(0, 1)  # [column, row]: the path's first column is the screen's sixth
    first, second = (segments[0].reshape(8, 7)[column] > 0 for column in (0, 1))
    start = int(state.start)
    assert centre[5, start].tolist() == [250, 204, 153] and not centre[:5].any()
    np.testing.assert_array_equal(centre[6].max(-1) > 0, second)
    np.testing.assert_array_equal(np.delete(centre[5], start, 0).max(-1) > 0, np.delete(first, start))
    seen = obs.swapaxes(0, 1)
    np.testing.assert_array_equal(picture[2::5, 2::5][seen.any(-1)], seen[seen.any(-1)])


def test_the_stamina_bar_is_cut_as_floats_cut_it():
    for level in (1, 7, 20, 49):
        for stamina in range(level + 1):
            red = int(84 * (1 - stamina / level))
            assert sum(stamina <= mark for mark in bar_levels(level)) == red


# Segments


@jax.jit
def _chains(keys, starts):
    def chain(start, keys):
        def one(row, key):
            place, end = generator.segment(key, row)
            return end, (place, row, end)

        return jax.lax.scan(one, start, keys)[1]

    return jax.vmap(chain)(starts, keys)


@pytest.fixture(scope="module")
def chains():
    """(place [2048, 4, 56], first rows [2048, 4], last rows) of paths of four segments."""
    keys = jax.random.split(jax.random.key(7), (2048, 4))
    starts = jax.random.randint(jax.random.key(8), (2048,), 0, 7)
    return jax.tree.map(np.asarray, _chains(keys, starts))


def test_every_segment_is_a_walk_from_its_first_row_to_the_cell_beyond_its_last(chains):
    place, first, last = (x.reshape(-1, *x.shape[2:]) for x in chains)
    n = len(place)
    length = place.max(1)
    np.testing.assert_array_equal((place > 0).sum(1), length)
    order = np.argsort(np.where(place > 0, place, 255), 1, kind="stable")  # cells along the path
    x, y = np.divmod(order, 7)
    steps = np.abs(np.diff(x)) + np.abs(np.diff(y))
    assert (steps[np.arange(55) < length[:, None] - 1] == 1).all()
    np.testing.assert_array_equal(order[:, 0], first)
    np.testing.assert_array_equal(order[np.arange(n), length - 1], 49 + last)
    np.testing.assert_array_equal(order[np.arange(n), length - 2], 42 + last)
    np.testing.assert_array_equal(chains[1][:, 1:], chains[2][:, :-1])


def test_segments_follow_the_law_of_the_originals(chains):
    place, first, last = (x.reshape(-1, *x.shape[2:]) for x in chains)
    pairs = np.bincount(7 * first + last, minlength=49)
    assert stats.chisquare(pairs).pvalue > 1e-3
    recorded = oracle.load("endless_segments.npz")["segments"].reshape(-1, 56)
    lengths = np.stack([np.bincount(x.max(1), minlength=20)[:20] for x in (place, recorded)])
    assert lengths.sum() == len(place) + len(recorded)
    common = np.concatenate([lengths[:, :15], lengths[:, 15:].sum(1, keepdims=True)], 1)
    assert stats.chi2_contingency(common[:, common.sum(0) > 0]).pvalue > 1e-3
    p, q = ((x > 0).mean(0) for x in (place, recorded))
    z = (p - q) / np.sqrt(p * (1 - p) * (1 / len(place) + 1 / len(recorded)))
    assert np.abs(z).max() < 4.5 and np.mean(z**2) < 2


@pytest.fixture(scope="module")
def experts():
    """States [T + 1, 8], rewards and ends [T, 8] of agents that follow their path, a cell a step."""
    env, params = made()[0], envs.make(ENDLESS, **CELL)[1]

    def follow(state):
        cell = 7 * (state.x // 12) + state.y // 12
        order = cell // 56 * 56 + state.place[cell]
        around = cell + jnp.array([7, -1, 1])
        ahead = (state.place[around] > 0) & (around // 56 * 56 + state.place[around] > order)
        ahead &= jnp.array([True, state.y >= 12, state.y < 72])
        return jnp.where(ahead.any(), 1 + jnp.argmax(ahead), NOOP)

    @jax.jit
    def run(keys):
        first = jax.vmap(env.reset_env, (0, None))(keys, params)[1]

        def step(state, _):
            action = jax.vmap(follow)(state)
            _, state, reward, terminated, _ = jax.vmap(env.step_env, (None, 0, 0, None))(
                jax.random.key(0), state, action, params
            )
            return state, (state, reward, terminated)

        return first, jax.lax.scan(step, first, length=T)[1]

    first, (states, reward, terminated) = jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(3), 8)))
    return jax.tree.map(lambda a, b: np.concatenate([a[None], b]), first, states), reward, terminated


def test_an_expert_earns_a_tenth_for_every_cell_and_never_ends(experts):
    states, reward, terminated = experts
    np.testing.assert_array_equal(reward, np.float32(0.1))
    assert not terminated.any() and not states.num_fails.any() and (states.stamina[1:] == 19).all()
    np.testing.assert_array_equal(states.tiles_visited, np.arange(T + 1)[:, None].repeat(8, 1))
    assert states.max_x[-1].min() > 24 * 7
    np.testing.assert_array_equal(states.visited[-1].sum(-1), T + 1)


def test_segments_are_drawn_one_ahead_of_each_agent_and_the_same_whenever_they_are(experts):
    states = experts[0]
    np.testing.assert_array_equal(states.drawn, states.max_x // 8 + 2)
    start, count = states.start[0], int(states.drawn[-1].max())
    assert (np.diff(states.drawn, axis=0).sum(1) > 0).any() and len(np.unique(states.drawn[-1])) > 1
    keys = jax.random.wrap_key_data(states.key[0])  # after two segments

    @jax.jit
    @jax.vmap
    def further(key, row):
        def one(carry, _):
            key, segment_key = jax.random.split(carry[0])
            place, end = generator.segment(segment_key, carry[1])
            return (key, end), place

        return jax.lax.scan(one, (key, row), length=count - 2)[1]

    place = states.place[-1].reshape(8, SEGMENTS, 56)
    expected = np.asarray(further(keys, states.end[0]))
    for i in range(8):
        drawn = int(states.drawn[-1, i])
        np.testing.assert_array_equal(place[i, 2:drawn], expected[i, : drawn - 2])
        ends, starts = place[i, : drawn - 1, 49:].argmax(-1), (place[i, 1:drawn, :7] == 1).argmax(-1)
        np.testing.assert_array_equal(ends, starts)
        assert not place[i, drawn:].any() and place[i, 0, start[i]] == 1
    assert len(np.unique(place[:, 0], axis=0)) == 8


def test_a_random_policy_earns_what_it_earns_in_the_original():
    env, params = made()
    count = 2048
    steps = jax.vmap(env.step_env, (None, 0, 0, None))

    @jax.jit
    def run(key):
        reset_key, key = jax.random.split(key)
        state = jax.vmap(env.reset_env, (0, None))(jax.random.split(reset_key, count), params)[1]

        def step(carry):
            key, state, running, total, length, fails = carry
            key, action_key = jax.random.split(key)
            action = jax.random.randint(action_key, (count,), 0, 4)
            _, state, reward, terminated, info = steps(key, state, action, params)
            fails = jnp.where(running, info["episode_fails"], fails)
            return key, state, running & ~terminated, total + running * reward, length + running, fails

        zeros = jnp.zeros(count)
        carry = (key, state, jnp.ones(count, bool), zeros, zeros, zeros)
        return jax.lax.while_loop(lambda carry: carry[2].any(), step, carry)[3:]

    total, length, fails = map(np.asarray, run(jax.random.key(1)))
    # 6,000 episodes of the original: mean and standard deviation, and how many earned 0, 1, .. tenths.
    for mine, mean, sd in ((total, 0.1064, 0.1052), (length, 26.78, 16.56), (fails, 2.473, 0.793)):
        assert abs(mine.mean() - mean) < 4 * sd * np.sqrt(1 / count + 1 / 6000)
    theirs = np.array([2078, 2228, 1148, 375, 132, 39])
    mine = np.bincount(np.minimum(np.rint(10 * total).astype(int), 5), minlength=6)
    assert stats.chi2_contingency(np.stack([mine, theirs])).pvalue > 1e-3


# Options


def test_defaults_and_names():
    expected = {"max_steps": -1, "agent_scale": 0.25, "agent_speed": 3.0, "show_origin": False}
    expected |= {"show_past_path": True, "show_background": False, "show_stamina": False, "visual_feedback": True}
    expected |= {"camera_offset_scale": 5.0, "stamina_level": 20, "reward_fall_off": 0.0, "reward_step": 0.0}
    expected |= {"reward_path_progress": 0.1, "observation": "frame", "time_limit_terminates": False}
    assert envs.options(ENDLESS) == expected
    env, params = made()
    assert env.name == ENDLESS and env.default_params == params and env.action_space(params).n == 4
    assert params == type(params)() and ENDLESS in envs.ENV_IDS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observation": "symbolic"}, r"env.observation='symbolic': not known; allowed: frame$"),
        ({"agent_scale": 0.5}, r"env.agent_scale=0.5: must be 0.25 in Endless-MysteryPath-v0"),
        ({"agent_speed": 12.5}, r"env.agent_speed=12.5: must be 0 to 12, a cell a step, in Endless"),
        ({"agent_speed": -1.0}, r"env.agent_speed=-1.0: must be 0 to 12"),
        ({"camera_offset_scale": 6.0}, r"env.camera_offset_scale=6.0: must be 0 to 5.5 and 12 times"),
        ({"camera_offset_scale": 5.3}, r"env.camera_offset_scale=5.3: must be 0 to 5.5 and 12 times it a whole"),
        ({"stamina_level": 0}, r"env.stamina_level=0: must be at least 1"),
        ({"show_goal": True}, r"env.show_goal=True: not an option of Endless-MysteryPath-v0"),
        ({"show_past_paths": True}, r"env.show_past_paths=True: .*did you mean show_past_path"),
    ],
)  # fmt: skip
def test_bad_options_are_one_line_that_names_the_field_and_what_is_allowed(options, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        envs.make(ENDLESS, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(3, 49), (SEGMENTS + 1, 56), (56,)])
def test_a_layout_of_another_size_is_refused(shape):
    env, params = made()
    with pytest.raises(ValueError, match=r"layout.segments of shape .*: must be of shape \(n, 56\) with n at"):
        env.reset_to(EndlessLayout(3, np.zeros(shape, np.uint8), jax.random.key(0)), params)
