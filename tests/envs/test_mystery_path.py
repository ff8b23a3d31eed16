"""Mystery Path: every step and pixel against traces of the original, and the rules one by one."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.mystery_path import Layout
from tests.envs import mystery_path_oracle as oracle

PIXEL, PIXEL_EASY, GRID, GRID_EASY = IDS = envs.mystery_path.IDS[:4]
NOOP, LEFT, RIGHT, FORWARD = range(4)  # of Grid
FACES = {0: (0, -1), 90: (-1, 0), 180: (0, 1), 270: (1, 0)}
BLUE, GREEN, RED = (0, 0, 255), (0, 255, 0), (255, 0, 0)

every_id = pytest.mark.parametrize("env_id", IDS)


@functools.partial(jax.jit, static_argnums=0)
def _play(env, params, layout, actions):
    first = env.reset_to(layout, params)

    def step(state, action):
        obs, state, reward, terminated, info = env.step_env(jax.random.key(0), state, action, params)
        truncated = env.is_truncated(state, params)
        return state, (obs, state, reward, terminated, truncated, info)

    return first, jax.lax.scan(step, first[1], actions)[1]


@functools.cache
def made(env_id, observation="frame"):
    return envs.make(env_id, observation=observation)[0]


def play(env_id, layout, actions, observation="frame", **options):
    """Plays actions [T] on, whatever ends: observations and states [T + 1], rewards .. infos [T]."""
    params = envs.make(env_id, observation=observation, **options)[1]
    longest = 512 if "-Grid-" not in env_id else 128
    steps = max(longest, len(actions))
    padded = np.zeros(steps, np.int32)
    padded[: len(actions)] = actions
    params = params.replace(cardinal_origin_choice=(0,))  # no part in this; compiled once
    first, rest = _play(made(env_id, observation), params, layout, padded)
    obs, states, *others = jax.tree.map(lambda x: np.asarray(x)[: len(actions)], rest)
    join = functools.partial(jax.tree.map, lambda a, b: np.concatenate([np.asarray(a)[None], b]))
    return (join(first[0], obs), join(first[1], states), *others)


def line(*cells, goal=None):
    """A layout through these cells (x, y)."""
    ids = [7 * x + y for x, y in cells]
    path = np.zeros(49, bool)
    path[ids] = True
    return Layout(jnp.asarray(path), jnp.int32(ids[0]), jnp.int32(ids[-1]))


ROW = line(*((x, 3) for x in range(7)))
COLUMN = line(*((0, y) for y in range(7)))


# Replay


@pytest.mark.parametrize("file", oracle.FILES.values(), ids=oracle.FILES)
def test_the_originals_episodes_are_repeated_to_the_pixel(file):
    for episode in oracle.episodes(file):
        layout = Layout(episode.path, *episode.ends)
        obs, state, reward, terminated, truncated, info = play(
            episode.env_id, layout, episode["actions"], **episode.options
        )
        assert obs.dtype == np.uint8 and reward.dtype == np.float32
        np.testing.assert_array_equal(obs, episode["frames"])
        np.testing.assert_allclose(reward, episode["rewards"], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(terminated | truncated, episode["dones"])
        assert terminated[-1] == bool(episode.success) and truncated[-1] == (not episode.success)
        np.testing.assert_array_equal(np.asarray(state.position), episode["agent_px"])
        np.testing.assert_array_equal(np.asarray(state.rotation), episode["agent_rot"])
        np.testing.assert_array_equal(state.off_path, episode["off_path"])
        np.testing.assert_array_equal(state.num_fails, episode["num_fails"])
        np.testing.assert_array_equal(np.asarray(state.visited).sum(-1), episode["num_visited"])
        np.testing.assert_array_equal(state.time, np.arange(len(reward) + 1))
        np.testing.assert_array_equal(info["episode_fails"], episode["num_fails"][1:].astype(np.float32))
        np.testing.assert_array_equal(info["episode_success"], np.arange(len(reward)) == len(reward) - 1
                                      if episode.success else np.zeros(len(reward)))  # fmt: skip
        np.testing.assert_array_equal(np.asarray(state.path)[-1], episode.path)


def test_the_traces_hold_what_the_replay_is_to_prove():
    files = {name: oracle.episodes(file) for name, file in oracle.FILES.items()}
    assert len(files) == 8 and all(len(episodes) == 6 for episodes in files.values())
    for kind in ("Grid-", ""):
        edge = files[f"MysteryPath-{kind}v0 edge"]
        goal, short, single, fall = edge[:4]
        limit = goal.options["max_steps"]
        assert goal.success and len(goal["actions"]) == limit  # the goal in the very last step
        assert not short.success and len(short["actions"]) == short.options["max_steps"] == limit - 1
        assert len(single["actions"]) == single.options["max_steps"] == 1
        x, y = fall["agent_px"][-1]
        assert fall["off_path"][-1] and len(fall["actions"]) == fall.options["max_steps"]
        assert tuple(fall["frames"][-1, x, y]) == RED
        assert all(episode.options["reward_path_progress"] == 0 for episode in edge[4:])
    assert any(episode["num_fails"][-1] for episode in files["MysteryPath-v0 variant"])


def test_easy_ids_are_the_easy_files_settings():
    for env_id, easy_id, kind in ((PIXEL, PIXEL_EASY, ""), (GRID, GRID_EASY, "Grid-")):
        settings = oracle.episodes(oracle.FILES[f"MysteryPath-{kind}v0 easy"])[0].options
        assert envs.make(easy_id)[1] == envs.make(env_id, **settings)[1]


@every_id
def test_the_time_limit_terminates_on_request_as_in_the_original(env_id):
    kind = "Grid-" if "Grid" in env_id else ""
    for episode in oracle.episodes(oracle.FILES[f"MysteryPath-{kind}v0 edge"])[:3]:
        layout = Layout(episode.path, *episode.ends)
        *_, terminated, truncated, info = play(
            env_id, layout, episode["actions"], time_limit_terminates=True, **episode.options
        )
        np.testing.assert_array_equal(terminated, episode["dones"])
        assert not truncated.any() and info["episode_success"][-1] == episode.success


# Rules


def test_a_fall_is_undone_one_step_later_whatever_the_action():
    for action in range(4):
        actions = [LEFT, RIGHT, RIGHT, FORWARD, LEFT, FORWARD, action, FORWARD]
        obs, state, reward, terminated, _, _ = play(GRID_EASY, ROW, actions)
        at = [(int(x) // 12, int(y) // 12) for x, y in np.asarray(state.position)]
        assert at[4:] == [(1, 3), (1, 3), (1, 2), (0, 3), (0, 2)]
        assert np.asarray(state.rotation)[4:].tolist() == [270, 0, 0, 0, 0]  # kept on the way back
        assert state.off_path.tolist() == [False] * 6 + [True, False, True]
        assert state.num_fails.tolist() == [0] * 6 + [1, 1, 2]
        assert [tuple(obs[t, x, y]) == RED for t, (x, y) in enumerate(np.asarray(state.position))] == (
            state.off_path.tolist()
        )
        np.testing.assert_allclose(reward, [0, 0, 0, 0.1, 0, 0, 0, 0])
        assert not terminated.any()


def test_a_cell_pays_once_an_episode_and_the_origin_and_the_goal_never():
    walk = [RIGHT] + [FORWARD] * 3 + [LEFT, FORWARD, NOOP]  # falls at (3, 2)
    back = [RIGHT] + [FORWARD] * 2 + [LEFT, LEFT] + [FORWARD] * 2  # to the origin on foot
    final = [LEFT, LEFT] + [FORWARD] * 6
    _, state, reward, terminated, _, info = play(
        GRID, ROW, walk + back + final, reward_path_progress=0.25, reward_goal=3.0, reward_fall_off=-0.5
    )
    paid = np.flatnonzero(reward == 0.25)
    assert paid.tolist() == [1, 2, 3, len(walk + back) + 2 + 3, len(walk + back) + 2 + 4]
    assert reward[5] == -0.5 and reward[-1] == 3.0
    assert np.count_nonzero(reward) == 7
    assert np.flatnonzero(terminated).tolist() == np.flatnonzero(info["episode_success"]).tolist()
    assert terminated[-1] and np.flatnonzero(np.asarray(state.visited)[-1]).tolist() == [10, 17, 24, 31, 38]


def test_the_step_reward_is_added_to_every_other():
    actions = [RIGHT, FORWARD, LEFT, FORWARD, NOOP]
    _, _, reward, _, _, _ = play(
        GRID, ROW, actions, reward_step=-0.5, reward_fall_off=-0.25, reward_path_progress=1.0
    )
    assert reward.tolist() == [-0.5, 0.5, -0.5, -0.75, -0.5]


def test_a_step_out_of_the_grid_is_none():
    walk = [LEFT, FORWARD, LEFT, LEFT, FORWARD, LEFT, LEFT, FORWARD]  # from (0, 0): west, east (falls)
    _, state, *_ = play(GRID, line((0, 0), (0, 1), (0, 2)), [FORWARD, *walk])
    at = [(int(x) // 12, int(y) // 12) for x, y in np.asarray(state.position)]
    assert at[:6] == [(0, 0)] * 6 and at[6:] == [(1, 0), (0, 0), (0, 0), (0, 0)]
    assert np.asarray(state.rotation)[[1, 3, 5]].tolist() == [0, 90, 270]
    corner = line((6, 6), (6, 5))
    _, state, *_ = play(GRID, corner, [RIGHT, FORWARD, RIGHT, FORWARD])
    assert (np.asarray(state.position) == 78).all() and not state.off_path.any()


def test_pixels_are_clipped_to_the_screen():
    everywhere = Layout(jnp.ones(49, bool), jnp.int32(0), jnp.int32(48))
    left_up, right_down = 3 * 1 + 1, 3 * 2 + 2
    _, state, *_ = play(PIXEL, everywhere, [left_up] * 3 + [right_down] * 40 + [3 * 2] * 3)
    position = np.asarray(state.position)
    assert (position[:4] == 6).all() and (position[4] == 8).all() and position.max() == 78
    assert (position[-1] == 78).all()


@pytest.mark.parametrize(
    ("speed", "straight", "diagonal"),
    [(3.0, 3, 2), (5.0, 5, 3), (2.0, 2, 1), (1.0, 1, 0), (1.5, 1, 1), (0.0, 0, 0), (-3.0, -3, -2), (1e30, 72, 72)],
)
def test_speeds_are_cut_to_whole_pixels_in_both_coordinates(speed, straight, diagonal):
    everywhere = Layout(jnp.ones(49, bool), jnp.int32(48 if speed < 0 else 0), jnp.int32(24))
    for a in range(9):
        h, v = divmod(a, 3)
        _, state, *_ = play(PIXEL, everywhere, [3 * 2 + 2, 3 * 2 + 2, 3 * 2 + 2, a], agent_speed=speed)
        p = np.asarray(state.position)
        pixels = diagonal if h and v else straight
        move = pixels * np.array([(0, -1, 1)[h], (0, -1, 1)[v]])
        np.testing.assert_array_equal(p[4], np.clip(p[3] + move, 6, 78))
        np.testing.assert_array_equal(p[3], np.clip(p[0] + 3 * diagonal, 6, 78))
        names = {(0, 0): 225, (1, 0): 90, (2, 0): 270, (0, 1): 0, (0, 2): 180}
        names |= {(1, 1): 45, (1, 2): 135, (2, 1): 315, (2, 2): 225}
        assert np.asarray(state.rotation)[4] == names[h, v]


@pytest.mark.parametrize("env_id", [PIXEL, GRID])
def test_without_feedback_there_is_a_fall_but_no_cross(env_id):
    actions = [FORWARD] if env_id == GRID else [1] * 3
    for feedback in (True, False):
        obs, state, *_ = play(env_id, ROW, actions, visual_feedback=feedback)
        assert state.off_path[-1] and state.num_fails[-1] == 1
        assert (obs[-1] == RED).all(-1).any() == feedback
        assert not (obs[:-1] == RED).all(-1).any()


@pytest.mark.parametrize("max_steps", [0, -1])
def test_without_a_limit_nothing_ends(max_steps):
    for terminates in (False, True):
        *_, terminated, truncated, _ = play(
            GRID, ROW, [NOOP] * 600, max_steps=max_steps, time_limit_terminates=terminates
        )
        assert not terminated.any() and not truncated.any()


@every_id
def test_default_limits(env_id):
    limit = 128 if "Grid" in env_id else 512
    *_, terminated, truncated, _ = play(env_id, ROW, [NOOP] * limit)
    assert np.flatnonzero(truncated).tolist() == [limit - 1] and not terminated.any()


# Pictures and symbols


def test_observations_are_transposed_pictures():
    obs = made(GRID_EASY).reset_to(line((2, 0), (3, 0), (4, 6)), envs.make(GRID_EASY)[1])[0]
    assert obs.shape == (84, 84, 3) and obs.dtype == jnp.uint8
    assert (obs[48:60, 72:84] == jnp.array(GREEN, jnp.uint8)).all()  # [x, y]
    assert obs[24, 0].tolist() == list(BLUE) and obs[35, 11].tolist() == list(BLUE)
    assert not obs[36:48].any() and not obs[:, 12:72].any()


def tile_map(symbols):
    """Tile numbers [7, 7] of a symbolic observation; see the README of the traces."""
    background = np.where(symbols[..., 0], 1, np.where(symbols[..., 1], 2, 0))
    heading = symbols[..., 2:6].argmax(-1)
    there = symbols[..., 2:6].any(-1)
    return np.where(symbols[..., 6], 15 + heading, np.where(there, 3 + 4 * background + heading, background))


def mosaic(tiles, numbers):
    return tiles[numbers].transpose(0, 2, 1, 3, 4).reshape(84, 84, 3)


def symbols_of(tiles, frame):
    """The symbolic observation from a frame alone."""
    pieces = frame.reshape(7, 12, 7, 12, 3).transpose(0, 2, 1, 3, 4)
    same = (pieces[:, :, None] == tiles).all((3, 4, 5))  # [7, 7, 19]
    assert (same.sum(-1) == 1).all()
    number = same.argmax(-1)
    agent = number >= 3
    background = np.where(agent & (number < 15), (number - 3) // 4, np.where(agent, 0, number))
    heading = np.where(number >= 15, number - 15, (number - 3) % 4)
    planes = [background == 1, background == 2, *(agent & (heading == k) for k in range(4)), number >= 15]
    return np.stack(planes, -1)


@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("show_goal", [True, False])
@pytest.mark.parametrize("show_origin", [True, False])
def test_symbols_and_frames_hold_the_same(show_origin, show_goal, feedback):
    tiles = oracle.load("mystery_path_grid_tiles.npz")["tiles"]
    options = {"show_origin": show_origin, "show_goal": show_goal, "visual_feedback": feedback}
    rng = np.random.default_rng(0)
    fell = 0
    for layout in (ROW, COLUMN, line((3, 6), (4, 6), (4, 5), (4, 4), (4, 0))):
        actions = rng.choice(4, 128, p=[0.1, 0.2, 0.2, 0.5])
        frames, state, *_ = play(GRID, layout, actions, **options)
        symbols, other, *_ = play(GRID, layout, actions, "symbolic", **options)
        jax.tree.map(np.testing.assert_array_equal, state, other)
        assert symbols.dtype == bool and symbols.shape == (129, 7, 7, 7)
        for frame, planes in zip(frames, symbols, strict=True):
            np.testing.assert_array_equal(mosaic(tiles, tile_map(planes)), frame)
            np.testing.assert_array_equal(symbols_of(tiles, frame), planes)
        sums = symbols.sum((1, 2))
        assert (sums[:, 0] == show_origin).all() and (sums[:, 1] == show_goal).all()
        assert (sums[:, 2:6].sum(1) == 1).all()
        np.testing.assert_array_equal(sums[:, 6], state.off_path * feedback)
        cell = np.asarray(state.position) // 12
        t = np.arange(129)
        assert symbols[t, cell[:, 0], cell[:, 1], 2 + np.asarray(state.rotation) // 90].all()
        fell += state.num_fails[-1]
    assert fell > 10


def test_the_renderer_paints_what_a_slow_painter_paints():
    sprites = oracle.load("mystery_path_sprites.npz")
    agent, cross, palette = (sprites[name] for name in ("agent", "cross", "palette"))
    env, easy = made(PIXEL_EASY), envs.make(PIXEL_EASY)[1]
    state = env.reset_to(ROW, easy)[1]
    rng = np.random.default_rng(0)
    x, y = rng.integers(6, 79, (2, 1024))
    x[:64], y[32:96] = rng.choice([6, 78], 64), rng.choice([6, 78], 64)
    heading, crossed = rng.integers(0, 8, 1024), rng.random(1024) < 0.5
    origin, goal = rng.integers(0, 49, (2, 1024))
    origin[:512], goal[:512] = (7 * x[:512] // 12 // 7 * 7 + y[:512] // 12), rng.integers(0, 49, 512)
    goal = np.where(goal == origin, (goal + 1) % 49, goal)
    draw = jax.jit(jax.vmap(lambda x, y, heading, off_path, origin, goal: env.get_obs(
        state.replace(x=x, y=y, heading=heading, off_path=off_path, origin=origin, goal=goal), easy
    )))  # fmt: skip
    arguments = (x, y, heading, crossed, origin, goal)
    seen = np.asarray(draw(*(jnp.asarray(a, bool if a.dtype == bool else jnp.int32) for a in arguments)))
    for i in range(1024):
        canvas = np.zeros((84 + 28, 84 + 28, 3), np.uint8)  # [y, x], a margin of 14
        for cell, colour in ((goal[i], GREEN), (origin[i], BLUE)):
            left, top = 14 + cell // 7 * 12, 14 + cell % 7 * 12
            canvas[top : top + 12, left : left + 12] = colour
        for sprite, size in ((agent[heading[i]], 28), *([(cross, 10)] if crossed[i] else [])):
            top, left = 14 + y[i] - size // 2, 14 + x[i] - size // 2
            under = canvas[top : top + size, left : left + size]
            under[sprite >= 0] = palette[sprite[sprite >= 0]]
        np.testing.assert_array_equal(seen[i], canvas[14:-14, 14:-14].swapaxes(0, 1))


@every_id
def test_render_draws_an_upright_picture_that_also_shows_the_path(env_id):
    env, params = envs.make(env_id)
    obs, state = env.reset_to(line((0, 2), (1, 2), (2, 2), (6, 2)), params)
    picture = env.render(state, params)
    assert isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3
    scale = picture.shape[0] // 84
    assert scale > 1 and picture.shape == (84 * scale, 84 * scale, 3)
    half = 6 * scale

    def at(x, y):
        return picture[12 * scale * y + half, 12 * scale * x + half].tolist()  # [y, x]

    assert at(0, 2) == [250, 204, 153] and at(3, 3) == [0, 0, 0] and at(2, 0) == [0, 0, 0]
    dim = at(1, 2)
    assert dim == at(2, 2) and 0 < max(dim) < 128
    easy = "Easy" in env_id
    assert at(6, 2) == (list(GREEN) if easy else [0, 120, 0])
    seen = np.asarray(obs).swapaxes(0, 1)
    lit = seen.any(-1)
    np.testing.assert_array_equal(picture[scale // 2 :: scale, scale // 2 :: scale][lit], seen[lit])
    right = {True: [RIGHT, FORWARD], False: [6] * 4}["Grid" in env_id]
    for action in right:
        state = env.step_env(jax.random.key(0), state, action, params)[1]
    visited = env.render(state)[12 * scale * 2 + 1 : 12 * scale * 3 - 1, 12 * scale + 1 : 24 * scale - 1]
    assert (visited == [250, 204, 153]).all(-1).any()
    shade = visited[1, 1].max()  # a corner, where the path is seen beside the agent
    assert (shade > max(dim)) == (params.reward_path_progress >= 0)


# Forms of running


@every_id
def test_one_at_a_time_jitted_batched_and_scanned_agree(env_id):
    observation = "symbolic" if env_id == GRID else "frame"
    env, params = envs.make(env_id, observation=observation)
    keys = jax.random.split(jax.random.key(3), 3)
    actions = jax.random.randint(jax.random.key(4), (6, 3), 0, env.num_actions)
    reset, step = jax.vmap(env.reset_env, (0, None)), jax.vmap(env.step_env, (None, 0, 0, None))

    @jax.jit
    def batched(keys):
        obs, state = reset(keys, params)
        return (obs, state), jax.lax.scan(
            lambda state, action: (lambda out: (out[1], out))(step(jax.random.key(0), state, action, params)),
            state,
            actions,
        )[1]

    first, rest = batched(keys)
    for i, key in enumerate(keys[:2]):
        mine = env.reset_env(key, params)
        jax.tree.map(np.testing.assert_array_equal, mine, jax.tree.map(lambda x: x[i], first))  # noqa: B023
        state = mine[1]
        for t in range(4):
            out = env.step_env(jax.random.key(9), state, actions[t, i], params)
            jax.tree.map(np.testing.assert_array_equal, out, jax.tree.map(lambda x: x[t, i], rest))  # noqa: B023
            state = out[1]


@every_id
def test_the_step_that_ends_an_episode_shows_the_next_ones_first_frame(env_id):
    env, params = envs.make(env_id, max_steps=2)
    _, state = env.reset_to(ROW, params)
    key = jax.random.key(5)
    _, state, _, terminated, truncated, _ = env.step(key, state, 0, params)
    assert not terminated and not truncated and state.time == 1
    obs, state, _, terminated, truncated, info = env.step(key, state, 0, params)
    assert truncated and not terminated and state.time == 0
    first, start = env.reset_env(jax.random.split(key)[1], params)
    np.testing.assert_array_equal(obs, first)
    jax.tree.map(np.testing.assert_array_equal, state, start)
    np.testing.assert_array_equal(info["final_observation"], env.reset_to(ROW, params)[0])


# Returns


def run_random(env_id, episodes, key):
    """Returns [episodes], successes [episodes] and falls [episodes] of a random policy."""
    env, params = envs.make(env_id)
    limit = params.max_steps_in_episode

    @jax.jit
    def run(key):
        start, actions = jax.random.split(key)
        _, state = jax.vmap(env.reset_env, (0, None))(jax.random.split(start, episodes), params)

        def step(carry, key):
            state, running, total, won = carry
            action = jax.random.randint(key, (episodes,), 0, env.num_actions)
            _, state, reward, terminated, info = jax.vmap(env.step_env, (None, 0, 0, None))(
                key, state, action, params
            )
            won += running * info["episode_success"]
            return (state, running & ~terminated, total + running * reward, won), state.num_fails

        zeros = jnp.zeros(episodes)
        carry = (state, jnp.ones(episodes, bool), zeros, zeros)
        carry, fails = jax.lax.scan(step, carry, jax.random.split(actions, limit))
        return *carry[2:], fails[-1]

    return jax.tree.map(np.asarray, run(key))


@pytest.mark.parametrize(
    ("env_id", "mean", "within", "falls"), [(GRID_EASY, 0.262, 0.015, 12.4), (PIXEL_EASY, 0.221, 0.012, 31.5)]
)
def test_a_random_policy_earns_what_it_earns_in_the_original(env_id, mean, within, falls):
    total, won, fails = run_random(env_id, 4096, jax.random.key(1))
    assert abs(total.mean() - mean) < within
    assert won.mean() < 0.02
    assert abs(fails.mean() - falls) < 1.0


def route(path_cells):
    """Actions of an expert that knows the path: (for Grid, for the pixel form)."""
    turns, moves, face = [], [], 0
    for a, b in zip(path_cells[:-1], path_cells[1:], strict=True):
        step = (b // 7 - a // 7, b % 7 - a % 7)
        wanted = next(angle for angle, vector in FACES.items() if vector == step)
        turns += {0: [], 90: [LEFT], 180: [LEFT, LEFT], 270: [RIGHT]}[(wanted - face) % 360] + [FORWARD]
        face = wanted
        moves += 4 * [{(0, -1): 1, (-1, 0): 3, (0, 1): 2, (1, 0): 6}[step]]
    return turns, moves


@pytest.mark.parametrize("env_id", [GRID_EASY, PIXEL_EASY])
def test_an_expert_earns_one_and_a_tenth_for_every_cell_between_the_ends(env_id):
    gen = oracle.load("path_gen.npz")
    count = 200
    routes = [route(row[row >= 0])["Grid" not in env_id] for row in gen["path"][:count]]
    steps = max(map(len, routes))
    actions = np.array([actions + [0] * (steps - len(actions)) for actions in routes], np.int32)
    paths = np.zeros((count, 50), bool)
    np.put_along_axis(paths, gen["path"][:count].astype(int), True, 1)
    ends = (jnp.asarray(gen[name][:count] @ np.array([7, 1], np.int32)) for name in ("start", "end"))
    layouts = Layout(jnp.asarray(paths[:, :49]), *ends)
    env, params = envs.make(env_id)
    states = jax.vmap(env.reset_to, (0, None))(layouts, params)[1]

    @jax.jit
    def run(states, actions):
        def step(state, action):
            _, state, reward, terminated, _ = env.step_env(jax.random.key(0), state, action, params)
            return state, (reward, terminated, state.num_fails)

        return jax.vmap(lambda state, actions: jax.lax.scan(step, state, actions)[1])(states, actions)

    reward, terminated, fails = map(np.asarray, run(states, actions))
    for i, actions in enumerate(routes):
        last = int(terminated[i].argmax())
        # The pixel form enters the goal's cell two or three steps after it leaves the centre of the one before.
        assert terminated[i, last] and len(actions) - 1 - last in ([0] if env_id == GRID_EASY else [1, 2])
        assert not fails[i, : last + 1].any()
        tenths = np.rint(10 * reward[i, : last + 1])
        np.testing.assert_array_equal(reward[i, : last + 1], np.float32(tenths / 10))
        assert tenths.sum() == 10 + gen["path_len"][i] - 2


# Options


def test_defaults_and_names():
    common = {"agent_scale": 0.25, "cardinal_origin_choice": [0, 1, 2, 3], "visual_feedback": True}
    common |= {"reward_goal": 1.0, "reward_fall_off": 0.0, "reward_step": 0.0}
    common |= {"observation": "frame", "time_limit_terminates": False}
    pixel = common | {"max_steps": 512, "agent_speed": 3.0, "reward_path_progress": 0.1}
    grid = common | {"max_steps": 128}
    hidden, shown = ({"show_origin": shown, "show_goal": shown} for shown in (False, True))
    assert envs.options(PIXEL) == pixel | hidden
    assert envs.options(PIXEL_EASY) == pixel | shown
    assert envs.options(GRID) == grid | hidden | {"reward_path_progress": 0.0}
    assert envs.options(GRID_EASY) == grid | shown | {"reward_path_progress": 0.1}
    for env_id in IDS:
        env, params = envs.make(env_id)
        assert env.name == env_id and env.default_params == params
        assert env.action_space(params).n == env.num_actions == (4 if "Grid" in env_id else 9)
        envs.options(env_id)["cardinal_origin_choice"].clear()
        assert envs.options(env_id)["cardinal_origin_choice"] == [0, 1, 2, 3]
    env, params = envs.make(PIXEL, max_steps=7)
    assert env.default_params.max_steps_in_episode == 512 and params.max_steps_in_episode == 7


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        (PIXEL, {"observation": "symbolic"}, r"env.observation='symbolic': not known; allowed: frame$"),
        (GRID, {"observation": "symbols"}, r"env.observation='symbols': .*did you mean symbolic"),
        (GRID, {"cardinal_origin_choice": []}, r"env.cardinal_origin_choice=\[\]: must be a list of one or more"),
        (GRID, {"cardinal_origin_choice": [4]}, r"env.cardinal_origin_choice=\[4\]: must be a list"),
        (PIXEL, {"cardinal_origin_choice": [0, 1.0]}, r"env.cardinal_origin_choice=\[0, 1.0\]: must be a list"),
        (PIXEL, {"cardinal_origin_choice": 2}, r"env.cardinal_origin_choice=2: must be of type list"),
        (PIXEL_EASY, {"agent_scale": 0.5}, r"env.agent_scale=0.5: must be 0.25 in MysteryPath-Easy-v0"),
        (GRID, {"agent_speed": 3.0}, r"env.agent_speed=3.0: not an option of MysteryPath-Grid-v0"),
        (GRID, {"show_goals": True}, r"env.show_goals=True: .*did you mean show_goal"),
        (PIXEL, {"max_steps": 12.5}, r"env.max_steps=12.5: must be of type int"),
        (PIXEL, {"reward_goal": float("inf")}, r"env.reward_goal=inf: must be a finite"),
    ],
)  # fmt: skip
def test_bad_options_are_one_line_that_names_the_field_and_what_is_allowed(env_id, options, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        envs.make(env_id, **options)
    assert "\n" not in str(error.value)


def test_the_grid_takes_the_agents_scale_and_ignores_it_as_the_original_does():
    assert envs.make(GRID, agent_scale=0.5)[1] == envs.make(GRID)[1]


def test_sides_of_the_origin_may_be_a_tuple():
    assert envs.make(GRID, cardinal_origin_choice=(0, 2))[1] == envs.make(GRID, cardinal_origin_choice=[0, 2])[1]


def test_a_layout_of_another_size_is_refused():
    env, params = envs.make(GRID)
    with pytest.raises(ValueError, match=r"layout.path of shape \(48,\): must be of shape \(49,\)"):
        env.reset_to(Layout(jnp.zeros(48, bool), 3, 45), params)


@pytest.mark.parametrize("jit", [lambda reset: reset, jax.jit], ids=["plain", "jit"])
def test_a_layout_may_be_of_numpy_jax_or_python(jit):
    env, params = made(GRID, "symbolic"), envs.make(GRID)[1]
    of_jax = (ROW.path, jnp.int32(3), jnp.int32(45))
    of_numpy = (np.asarray(ROW.path, np.uint8), np.int64(3), np.uint8(45))
    of_python = ([bool(cell) for cell in np.asarray(ROW.path)], 3, 45)
    reset_to = jit(env.reset_to)
    expected = jax.tree.leaves(reset_to(Layout(*of_jax), params))
    for layout in (of_numpy, of_python):
        for a, b in zip(jax.tree.leaves(reset_to(Layout(*layout), params)), expected, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_layouts_pack_and_unpack():
    rng = np.random.default_rng(0)
    for path in rng.random((20, 49)) < 0.4:
        layout = Layout(jnp.asarray(path), 3, 45)
        state = made(GRID, "symbolic").reset_to(layout, envs.make(GRID)[1])[1]
        np.testing.assert_array_equal(state.path, path)
        assert not state.visited.any() and functools.reduce(operator.and_, (state.origin == 3, state.goal == 45))
