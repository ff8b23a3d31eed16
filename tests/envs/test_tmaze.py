"""T-Mazes: every step against a slow reference in plain Python, the noise, and what memory is worth in them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs

IDS = ("TMaze-v1", "TMaze-v2", "TMazeOurs")
MOVES = {"TMaze-v1": "UDLR", "TMaze-v2": "UDLR", "TMazeOurs": "RULD"}  # the letter of action a is MOVES[id][a]
LENGTHS = [("TMaze-v2", n) for n in (2, 20, 120, 200, 256)]
LENGTHS += [("TMaze-v1", n) for n in (2, 20, 300)] + [("TMazeOurs", n) for n in (1, 2, 20, 160, 256)]
UP_KEY, DOWN_KEY = 0, 1  # rows of what `walk` returns
T = 320  # steps of every walk that is compiled: more than any corridor is long

every_id = pytest.mark.parametrize("env_id", IDS)


# The slow reference: no arithmetic shared with the environment.


def reflected_gray_codes(bits):
    """All codes in order, highest bit first, built by reflection: the list, then the list backwards behind a 1."""
    codes = [[]]
    for _ in range(bits):
        codes = [[0, *code] for code in codes] + [[1, *code] for code in reversed(codes)]
    return codes


GRAY = reflected_gray_codes(8)


def last_place(env_id, length):
    """Where the junction is: also the number of steps there."""
    return length if env_id == "TMazeOurs" else length - 1


def expected_view(env_id, length, x, y, cue, first):
    """What is seen apart from distractors and noise; cue is "U" or "D"."""
    at_junction = x == last_place(env_id, length) and y == 0
    if env_id == "TMaze-v1":
        if first:
            return {"U": [0, 1, 1], "D": [1, 1, 0]}[cue]
        return [0, 1, 0] if at_junction else [1, 0, 1]
    if env_id == "TMaze-v2":
        return ({"U": [0, 1], "D": [1, 0]}[cue] if first else [0, 0]) + GRAY[x]
    return [y, {"U": 1, "D": -1}[cue] if first else 0, int(at_junction)]


def expected_walk(env_id, length, cue, letters):
    """Steps (view, reward, terminated, success) of a walk until it ends."""
    x, end, steps = 0, last_place(env_id, length), []
    for letter in letters:
        if x == end and letter in "UD":
            won = letter == cue
            y = {"U": 1, "D": -1}[letter] if env_id == "TMazeOurs" else 0
            view = expected_view(env_id, length, x, y, cue, first=False)
            return [*steps, (view, 4.0 if won else -1.0, True, float(won))]
        if letter == "R" and x < end:
            x += 1
        elif letter == "L" and x > 0 and (x < end or env_id == "TMazeOurs"):
            x -= 1
        steps.append((expected_view(env_id, length, x, 0, cue, first=False), -0.1, False, 0.0))
    return steps


# The environment under test


@functools.cache
def maze(env_id):
    return envs.make(env_id)[0]


@functools.partial(jax.jit, static_argnums=0)
def play(env, params, key, actions):
    """Plays actions [T] from a reset on, over the end of the episode: (first observation, outputs [T, ...])."""
    key_reset, key_steps = jax.random.split(key)
    first, state = env.reset_env(key_reset, params)

    def step(state, action_key):
        obs, state, reward, terminated, info = env.step_env(action_key[1], state, action_key[0], params)
        truncated = env.is_truncated(state, params)
        success = info["episode_success"]
        return state, {
            "obs": obs,
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
            "success": success,
        }

    out = jax.lax.scan(step, state, (actions, jax.random.split(key_steps, len(actions))))[1]
    return first, out


@functools.cache
def key_of(env_id, cue):
    """A key for `play` whose episode has this cue."""
    env = maze(env_id)
    for seed in range(32):
        key = jax.random.key(seed)
        view, _ = env.reset(jax.random.split(key)[0], env.default_params)
        if view[: len(cue_view(env_id, cue))].tolist() == cue_view(env_id, cue):
            return key
    raise AssertionError(f"no {cue} in 32 resets")


def cue_view(env_id, cue):
    return expected_view(env_id, 20, 0, 0, cue, first=True)


def walk(env_id, length, letters, cue, **options):
    """Plays a walk in an episode with this cue: (first observation, outputs [len(letters), ...])."""
    _, params = envs.make(env_id, corridor_len=length, **options)
    steps = max(len(letters), T)
    actions = jnp.array([MOVES[env_id].index(letter) for letter in letters.ljust(steps, "R")])
    first, out = jax.tree.map(np.asarray, play(maze(env_id), params, key_of(env_id, cue), actions))
    return first, jax.tree.map(lambda x: x[: len(letters)], out)


def tail(env_id):
    """Where distractors or noise begin in an observation."""
    return {"TMaze-v1": 3, "TMaze-v2": 10, "TMazeOurs": 3}[env_id]


def walks(env_id, length):
    to_junction = "R" * last_place(env_id, length)
    half = "R" * (len(to_junction) // 2)
    random = np.random.default_rng(length)
    yield to_junction + "U"
    yield to_junction + "D"
    yield "LLR" + "L" * 3 + to_junction + "D"  # left at 0
    yield half + "UDDU" * (len(half) < len(to_junction)) + to_junction[len(half) :] + "U"  # up, down on the way
    yield to_junction + "LRLLRRR" + "D"  # left and right at the junction
    yield "UDL" + to_junction + "LLL" + "RRR" + "U"
    yield "".join(random.choice(list("LR"), p=[0.3, 0.7], size=T))
    yield "".join(random.choice(list("LRUD"), p=[0.2, 0.6, 0.1, 0.1], size=T))


@pytest.mark.parametrize(("env_id", "length"), LENGTHS)
def test_every_step_of_a_walk_is_as_specified(env_id, length):
    seen = tail(env_id)
    for letters in walks(env_id, length):
        for cue in "UD":
            first, out = walk(env_id, length, letters, cue)
            assert first[:seen].tolist() == expected_view(env_id, length, 0, 0, cue, first=True)
            if env_id != "TMazeOurs":
                assert not first[seen:].any() and first.shape == (seen + 6,)
            views, rewards, terminated, successes = zip(*expected_walk(env_id, length, cue, letters), strict=True)
            n = len(rewards)
            assert out["obs"][:n, :seen].tolist() == list(views), letters
            np.testing.assert_array_equal(out["reward"][:n], np.float32(rewards), strict=True)
            np.testing.assert_array_equal(out["terminated"][:n], terminated)
            np.testing.assert_array_equal(out["success"][:n], successes)
            assert not out["truncated"][:n].any()


def test_the_junction_flag_of_ours_is_for_the_junction_alone():
    for letters in ("RRU", "RRD"):
        _, out = walk("TMazeOurs", 2, letters, "U")
        assert out["obs"][:, 2].tolist() == [0, 1, 0]


@pytest.mark.parametrize(("env_id", "length"), LENGTHS)
def test_the_best_walk_and_the_wrong_arm(env_id, length):
    to_junction = last_place(env_id, length)
    for cue in "UD":
        for arm in "UD":
            _, out = walk(env_id, length, "R" * to_junction + arm, cue)
            tenths = np.rint(10 * out["reward"]).astype(int)
            np.testing.assert_array_equal(out["reward"], np.float32(tenths / 10))
            assert tenths.sum() == (40 if arm == cue else -10) - to_junction
            assert out["terminated"].tolist() == [False] * to_junction + [True]
            assert out["success"].tolist() == [0.0] * to_junction + [float(arm == cue)]


@every_id
@pytest.mark.parametrize("where", ["start", "junction"])
def test_a_walk_without_end_is_truncated_at_the_limit_and_no_success(env_id, where):
    limit = 5000 if env_id == "TMaze-v1" else 1000  # also the default
    letters = {"start": "L" * limit, "junction": "R" * limit}[where]
    _, out = walk(env_id, 20, letters, "U")
    assert not out["terminated"].any() and not out["success"].any()
    assert np.flatnonzero(out["truncated"]).tolist() == [limit - 1]
    assert (out["reward"] == np.float32(-0.1)).all()
    _, out = walk(env_id, 20, "L" * 40, "D", max_episode_steps=37)
    assert np.flatnonzero(out["truncated"]).tolist() == [36, 37, 38, 39] and not out["terminated"].any()


@every_id
def test_an_episode_that_ends_in_the_last_step_is_terminated_one_that_lacks_a_step_is_truncated(env_id):
    steps = last_place(env_id, 5) + 1
    vec = envs.VectorEnv(maze(env_id), 32, pool_size=32)
    step = jax.jit(vec.step)
    for limit in (steps, steps - 1):
        _, params = envs.make(env_id, corridor_len=5, max_episode_steps=limit)
        _, state = vec.reset(jax.random.key(0), params)
        for t, letter in enumerate(("R" * (steps - 1) + "U")[:limit]):
            action = jnp.full(32, MOVES[env_id].index(letter))
            _, state, _, terminated, truncated, info = step(jax.random.key(t), state, action, params)
            last = t == limit - 1
            assert (terminated == (last and limit == steps)).all()
            assert (truncated == (last and limit < steps)).all()
        assert (info["episode_length"] == limit).all() and not state.env.time.any()
        success = np.asarray(info["episode_success"])
        if limit == steps:
            assert 0 < success.sum() < 32
            end = np.where(success, 4.0, -1.0) - (steps - 1) / 10
            np.testing.assert_allclose(info["episode_return"], end, rtol=1e-6)
        else:
            assert not success.any()


def test_ours_takes_its_rewards_from_the_options():
    options = {"goal_reward": 2.5, "goal_penalty": 0.75, "timestep_penalty": 0.0625}
    for arm, last in (("D", 2.5), ("U", -0.75)):
        _, out = walk("TMazeOurs", 3, "RRR" + arm, "D", **options)
        assert out["reward"].tolist() == [-0.0625] * 3 + [last]


def test_defaults_and_names():
    v = {"corridor_len": 10, "num_distractors": 6}
    assert envs.options("TMaze-v1") == {**v, "max_episode_steps": 5000}
    assert envs.options("TMaze-v2") == {**v, "max_episode_steps": 1000}
    rewards = {"goal_reward": 4.0, "goal_penalty": 1.0, "timestep_penalty": 0.1}
    assert envs.options("TMazeOurs") == {"corridor_len": 160, "max_episode_steps": 1000, **rewards}
    for env_id in IDS:
        env, params = envs.make(env_id)
        assert env.name == env_id and env.default_params == params


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("TMaze-v2", {"corridor_len": 257}, r"env.corridor_len=257: must be from 2 to 256 in TMaze-v2.*8 bits"),
        ("TMaze-v2", {"corridor_len": 1}, r"env.corridor_len=1: must be from 2 to 256 in TMaze-v2"),
        ("TMaze-v1", {"corridor_len": 1}, r"env.corridor_len=1: must be from 2 to \d+ in TMaze-v1"),
        ("TMaze-v1", {"corridor_len": 2**20 + 1}, r"env.corridor_len=1048577: must be from 2 to 1048576 in"),
        ("TMazeOurs", {"corridor_len": 0}, r"env.corridor_len=0: must be from 1 to \d+ in TMazeOurs"),
        ("TMazeOurs", {"corridor_len": -3}, r"env.corridor_len=-3: must be from 1"),
        ("TMaze-v2", {"corridor_len": 20.0}, r"env.corridor_len=20.0: must be of type int"),
        ("TMaze-v2", {"num_distractors": -1}, r"env.num_distractors=-1: must be from 0 to 1024"),
        ("TMaze-v1", {"num_distractors": 1025}, r"env.num_distractors=1025: must be from 0 to 1024"),
        ("TMazeOurs", {"num_distractors": 6}, r"env.num_distractors=6: not an option of TMazeOurs"),
        ("TMaze-v1", {"max_episode_steps": 0}, r"env.max_episode_steps=0: must be at least 1"),
        ("TMazeOurs", {"max_episode_steps": 0}, r"env.max_episode_steps=0: must be at least 1"),
        ("TMazeOurs", {"goal_reward": float("nan")}, r"env.goal_reward=nan: must be a finite"),
        ("TMazeOurs", {"goal_penalty": "1"}, r"env.goal_penalty='1': must be of type float"),
    ],
)
def test_bad_options_are_one_line_that_names_the_field_and_what_is_allowed(env_id, options, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        envs.make(env_id, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("num_distractors", [0, 6, 32, 33, 40])
def test_there_are_as_many_distractors_as_asked_for(num_distractors):
    for env_id in ("TMaze-v1", "TMaze-v2"):
        env, params = envs.make(env_id, num_distractors=num_distractors)
        first, state = env.reset_env(jax.random.key(0), params)
        obs = env.step_env(jax.random.key(1), state, jnp.int32(3), params)[0]
        assert first.shape == obs.shape == env.observation_space(params).shape
        assert obs.shape == (tail(env_id) + num_distractors,)


# Randomness. The seeds are fixed; the bounds are 6 standard deviations, which the largest of the up to 10^5
# correlations compared at once exceeds in one of 5,000 seeds.


def stand_still(env_id, key, steps, batch, **options):
    """(first observations [B, ...], later ones [T, B, ...]) of B endless episodes."""
    env, params = envs.make(env_id, max_episode_steps=10**9, **options)
    vec = envs.VectorEnv(env, batch, pool_size=1)
    left = jnp.full(batch, MOVES[env_id].index("L"))

    @jax.jit
    def run(key):
        key_reset, key_steps = jax.random.split(key)
        first, state = vec.reset(key_reset, params)

        def step(state, key):
            obs, state, *_ = vec.step(key, state, left, params)
            return state, obs

        return first, jax.lax.scan(step, state, jax.random.split(key_steps, steps))[1]

    return jax.tree.map(np.asarray, run(key))


def largest_correlation(rows, columns=None):
    """The largest |mean product| of rows [N, samples] (no row with itself), in standard deviations."""
    products = rows @ (rows if columns is None else columns).T / np.sqrt(rows.shape[1])
    if columns is None:
        np.fill_diagonal(products, 0)
    return np.abs(products).max()


def assert_independent(noise):
    """noise [T, B, D] of mean 0 and variance 1: uncorrelated over bits, time and environments."""
    steps, batch, bits = noise.shape
    assert np.abs(noise.mean((0, 1))).max() * np.sqrt(steps * batch) < 6
    assert np.abs(noise.mean((0, 2))).max() * np.sqrt(steps * bits) < 6  # of every environment
    assert np.abs(noise.mean((1, 2))).max() * np.sqrt(batch * bits) < 6  # of every step

    def by_bit(x):
        return x.reshape(-1, bits).T  # [D, samples]

    assert largest_correlation(by_bit(noise)) < 6
    assert largest_correlation(noise.reshape(steps, -1)) < 6
    assert largest_correlation(noise.swapaxes(0, 1).reshape(batch, -1)) < 6
    for lag in (1, 2, 32):  # every bit with every other of a later step, and of another environment
        assert largest_correlation(by_bit(noise[lag:]), by_bit(noise[:-lag])) < 6
        assert largest_correlation(by_bit(noise[:, lag:]), by_bit(noise[:, :-lag])) < 6


@pytest.mark.parametrize("env_id", ["TMaze-v1", "TMaze-v2"])
@pytest.mark.parametrize("num_distractors", [6, 40])
def test_distractors_are_fair_independent_bits(env_id, num_distractors):
    first, later = stand_still(env_id, jax.random.key(7), 128, 64, num_distractors=num_distractors)
    assert not first[:, tail(env_id) :].any()
    bits = later[..., tail(env_id) :]  # [T, B, D]
    assert set(np.unique(bits)) == {0.0, 1.0}
    signs = 2 * bits - 1
    assert_independent(signs)
    cue = np.where(first[:, 0] == 0, np.float32(1), np.float32(-1))[:, None]
    assert 16 < (cue > 0).sum() < 48
    assert np.abs((signs * cue).mean((0, 1))).max() * np.sqrt(128 * 64) < 6


def test_the_noise_of_ours_is_uniform_and_independent():
    first, later = stand_still("TMazeOurs", jax.random.key(7), 300, 256)
    noise = later[..., 3:]  # [T, B, 1]
    assert set(np.unique(noise)) == {-1.0, 0.0, 1.0}
    for value in (-1, 0, 1):
        assert abs((noise == value).mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / noise.size)
    assert_independent(noise * np.float32(np.sqrt(1.5)))
    assert_independent((noise**2 - np.float32(2 / 3)) * np.float32(np.sqrt(4.5)))
    assert not later[..., :3].any()


@every_id
def test_the_cue_is_fair_and_independent_of_the_first_noise(env_id):
    env, params = envs.make(env_id)
    n = 30_000
    first = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(jax.random.split(jax.random.key(3), n), params)[0]
    first = np.asarray(first)
    up = (first[:, : tail(env_id)] == cue_view(env_id, "U")).all(1)
    down = (first[:, : tail(env_id)] == cue_view(env_id, "D")).all(1)
    assert (up ^ down).all()
    assert abs(up.mean() - 0.5) < 4 * np.sqrt(0.25 / n)
    if env_id == "TMazeOurs":
        for cue in (up, down):
            for value in (-1, 0, 1):
                assert abs((cue & (first[:, 3] == value)).mean() - 1 / 6) < 4 * np.sqrt(5 / 36 / n)


@every_id
def test_nothing_but_the_first_observation_tells_the_cue(env_id):
    env, params = envs.make(env_id, corridor_len=4)
    _, states = jax.vmap(env.reset_env, in_axes=(0, None))(jax.random.split(jax.random.key(0), 16), params)
    assert len(np.unique(states.cue)) == 2
    low = states.replace(cue=jnp.full_like(states.cue, states.cue.min()))
    high = states.replace(cue=jnp.full_like(states.cue, states.cue.max()))
    step = jax.jit(jax.vmap(env.step_env, in_axes=(0, 0, None, None)))
    for t, letter in enumerate("RULDR" + "R" * 3 + "U"):
        keys, action = jax.random.split(jax.random.key(t), 16), MOVES[env_id].index(letter)
        low_obs, low, low_reward, *_ = step(keys, low, action, params)
        high_obs, high, high_reward, *_ = step(keys, high, action, params)
        np.testing.assert_array_equal(low_obs, high_obs)
        assert ((low_reward == high_reward) == (t < 8)).all()


# Memory

HOLD, UP, RANDOM = range(3)
LENGTH = 12


def decode(env_id, obs):
    """(cue 1 up, -1 down, 0 not seen; at the junction?) of observations [B, O]."""
    if env_id == "TMaze-v1":
        sides = obs[:, 2] - obs[:, 0]  # 1 up, -1 down, 0 in corridor and junction
        return sides, (obs[:, :3] == jnp.array([0, 1, 0])).all(1)
    if env_id == "TMaze-v2":
        return obs[:, 1] - obs[:, 0], (obs[:, 2:10] == jnp.array(GRAY[LENGTH - 1])).all(1)
    return obs[:, 1], obs[:, 2] == 1


@every_id
def test_who_holds_the_cue_always_succeeds_and_who_does_not_in_half_of_the_episodes(env_id):
    env, params = envs.make(env_id, corridor_len=LENGTH)
    episodes, batch = 10, 1000  # of every policy
    steps = last_place(env_id, LENGTH) + 1
    up, down, right = (MOVES[env_id].index(letter) for letter in "UDR")
    vec = envs.VectorEnv(env, 3 * batch, pool_size=3 * batch)
    policy = jnp.repeat(jnp.array([HOLD, UP, RANDOM]), batch)

    def step(carry, key):
        obs, held, state = carry
        key_act, key_step = jax.random.split(key)
        cue, at_junction = decode(env_id, obs)
        held = jnp.where(cue == 0, held, cue)
        coin = jax.random.rademacher(key_act, (3 * batch,))
        arm = jnp.select([policy == HOLD, policy == UP], [held, jnp.ones_like(held)], coin)
        action = jnp.where(at_junction, jnp.where(arm > 0, up, down), right)
        obs, state, _, terminated, truncated, info = vec.step(key_step, state, action, params)
        return (obs, held, state), (terminated, truncated, info["episode_success"], info["episode_return"])

    def episode(carry, key):
        key_refresh, key_steps = jax.random.split(key)
        obs, held, state = carry
        state = vec.refresh(key_refresh, state, params)
        return jax.lax.scan(step, (obs, held, state), jax.random.split(key_steps, steps))

    @jax.jit
    def run(key):
        obs, state = vec.reset(key, params)
        keys = jax.random.split(jax.random.fold_in(key, 1), episodes)
        return jax.lax.scan(episode, (obs, jnp.zeros(3 * batch), state), keys)[1]

    terminated, truncated, success, returns = map(np.asarray, run(jax.random.key(11)))  # [10, steps, 3000]
    assert terminated[:, -1].all() and not terminated[:, :-1].any() and not truncated.any()
    assert not success[:, :-1].any()
    success = success[:, -1].reshape(episodes, 3, batch)
    returns = returns[:, -1].reshape(episodes, 3, batch)
    assert (success[:, HOLD] == 1).all()
    np.testing.assert_allclose(returns[:, HOLD], 4 - 0.1 * (steps - 1), rtol=1e-5)
    for memoryless in (UP, RANDOM):
        assert abs(success[:, memoryless].mean() - 0.5) < 4 * np.sqrt(0.25 / (episodes * batch))
    cues = 2 * success[:, UP] - 1  # of successive episodes [10, 1000]
    assert largest_correlation(cues) < 6


# gymnax's interface


@every_id
def test_gymnax_steps_reset_themselves_and_stay_in_the_space(env_id):
    env, params = envs.make(env_id, corridor_len=3, max_episode_steps=7)
    batch, steps = 32, 60
    keys = jax.random.split(jax.random.key(5), (steps + 1, batch))

    @jax.jit
    def run(actions):
        first, state = jax.vmap(env.reset, in_axes=(0, None))(keys[0], params)

        def step(state, key_action):
            obs, state, reward, terminated, truncated, info = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
                key_action[0], state, key_action[1], params
            )
            out = {"obs": obs, "time": state.time, "reward": reward, "final": info["final_observation"]}
            out |= {"success": info["episode_success"], "terminated": terminated, "truncated": truncated}
            return state, out

        return first, jax.lax.scan(step, state, (keys[1:], actions))[1]

    right = MOVES[env_id].index("R")
    likely = np.where(np.arange(4) == right, 0.4, 0.2)
    actions = np.random.default_rng(0).choice(4, size=(steps, batch), p=likely)
    first, out = jax.tree.map(np.asarray, run(jnp.array(actions)))
    done = out["terminated"] | out["truncated"]  # [T, B]
    assert min(out["terminated"].sum(), (out["truncated"] & ~out["terminated"]).sum()) > 20
    assert 5 < out["success"].sum() < out["terminated"].sum() - 5

    # The first observation of an episode shows a cue, no other does.
    seen = tail(env_id)

    def is_first(obs):
        return np.any([(obs[..., :seen] == cue_view(env_id, cue)).all(-1) for cue in "UD"], axis=0)

    assert is_first(first).all() and not is_first(out["final"]).any()
    np.testing.assert_array_equal(is_first(out["obs"]), done)
    np.testing.assert_array_equal(out["time"] == 0, done)
    np.testing.assert_array_equal(out["obs"][~done], out["final"][~done])
    if env_id != "TMazeOurs":
        assert not out["obs"][done][:, seen:].any() and out["final"][done][:, seen:].any()
    assert len({tuple(row[: seen - 1]) for row in out["obs"][done]}) == 2  # both cues, also after a restart

    space = env.observation_space(params)
    assert space.shape == first.shape[1:] and env.action_space(params).n == env.num_actions == 4
    for obs in (first, out["obs"].reshape(-1, first.shape[1]), out["final"].reshape(-1, first.shape[1])):
        assert jax.vmap(space.contains)(jnp.array(obs)).all()
    every = np.concatenate([out["final"].reshape(-1, first.shape[1]), first])
    np.testing.assert_array_equal(every.max(0)[seen:], np.broadcast_to(space.high, space.shape)[seen:])
    np.testing.assert_array_equal(every.min(0)[seen:], np.broadcast_to(space.low, space.shape)[seen:])

    # One environment stepped by hand goes the same way as in the batch.
    obs, state = env.reset(keys[0, 3], params)
    np.testing.assert_array_equal(obs, first[3])
    for t in range(steps):
        obs, state, reward, *_ = env.step(keys[t + 1, 3], state, int(actions[t, 3]), params)
        np.testing.assert_array_equal(obs, out["obs"][t, 3])
        assert reward == out["reward"][t, 3]
