"""RockSample: steps against POBAX, the laws of readings, maps and starts, and the known returns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.rocksample import CHECK, EAST, SAMPLE, draw_map
from tests.envs import control_oracle
from tests.envs.rollouts import assert_single_steps_equal_a_scan, mean_return, uniform

SIZES = ((5, 5), (7, 8), (11, 11), (15, 15))


def chi_square_z(counts, expected):
    """The chi-square statistic of counts against expected ones, in its standard deviations from its mean."""
    counts, expected = np.ravel(counts), np.ravel(expected)
    freedom = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize(("n", "k"), SIZES)
def test_the_originals_episodes_are_repeated(n, k):
    data = control_oracle.load(f"pobax/rocksample_{n}_{k}")
    env, params = envs.make("rocksample", n=n, k=k)
    steps, ends = 150, np.cumsum(data.length)

    @jax.jit
    @jax.vmap
    def play(layout, actions, readings):
        first, state = env.reset_to(layout, params)

        def step(state, inputs):
            action, reading = inputs
            right = reading == jnp.where(state.good[jnp.maximum(action - CHECK, 0)], 1, -1)
            obs, state, reward, terminated, _ = env.step_with(right, state, action, params)
            return state, (obs, reward, terminated, state.position, env.is_truncated(state, params))

        return first, jax.lax.scan(step, state, (actions, readings))[1]

    def padded(rows):
        return np.stack(
            [np.pad(rows[end - t : end], (0, steps - t)) for t, end in zip(data.length, ends, strict=True)]
        )

    layout = {"rocks": data.rocks, "start": data.start, "good": data.good}
    first, out = jax.tree.map(np.asarray, play(layout, padded(data.actions), padded(data.reading)))
    played = np.arange(steps) < data.length[:, None]
    obs, reward, terminated, position, truncated = (x[played] for x in out)
    after = np.arange(len(data.actions)) + np.repeat(np.arange(len(data.length)), data.length) + 1
    np.testing.assert_array_equal(first, data.obs[ends - data.length + np.arange(len(ends))])
    np.testing.assert_array_equal(obs, data.obs[after])
    np.testing.assert_array_equal(position, data.pos[after])
    np.testing.assert_allclose(reward, data.rewards, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(terminated, data.terminated)
    assert not truncated.any() and {-10, 0, 10} == set(data.rewards)


def test_a_rock_turns_bad_when_it_is_sampled_and_its_reading_says_so():
    env, params = envs.make("rocksample", n=5, k=2)
    layout = {"rocks": np.array([[2, 1], [0, 0]]), "start": np.array([2, 1]), "good": np.array([True, True])}
    state = env.reset_to(layout, params)[1]
    rewards, readings = [], []
    for action in (CHECK, SAMPLE, CHECK, SAMPLE, CHECK + 1):
        obs, state, reward, *_ = env.step_with(True, state, action, params)
        rewards.append(float(reward))
        readings.append(obs[10:].tolist())
    assert rewards == [0, 10, 0, -10, 0]
    assert readings == [[1, 0], [0, 0], [-1, 0], [0, 0], [0, 1]]


def test_readings_are_right_as_often_as_the_distance_says():
    env, params = envs.make("rocksample")
    rows, columns = np.divmod(np.arange(0, 110, 3), 10)
    rocks = np.zeros((11, 2), int)
    trials = 2000

    def check(start, key):
        state = env.reset_to({"rocks": rocks, "start": start, "good": np.ones(11, bool)}, params)[1]
        return env.step_env(key, state, CHECK, params)[0][22] > 0

    keys = jax.random.split(jax.random.key(2), trials)
    many = jax.jit(jax.vmap(jax.vmap(check, (None, 0)), (0, None)))
    right = np.asarray(many(np.stack([rows, columns], 1), keys)).sum(1)
    chance = (1 + 2 ** (-np.hypot(rows, columns) / 20)) / 2
    assert right[0] == trials  # on the rock itself
    z = (right - trials * chance)[1:] / np.sqrt(trials * chance * (1 - chance))[1:]
    # The same keys at every distance: the deviations are alike, not independent.
    assert np.abs(z).max() < 4
    theirs = control_oracle.load("pobax/rocksample_readings")
    np.testing.assert_allclose(theirs.p, (1 + 2 ** (-theirs.dist / 20)) / 2, atol=1e-6)
    spread = np.sqrt(theirs.trials * theirs.p * (1 - theirs.p))
    assert (np.abs(theirs.right - theirs.trials * theirs.p) <= 4 * spread + 1e-3).all()


def test_starts_are_even_over_all_columns_but_the_last_and_rocks_are_fair():
    env, params = envs.make("rocksample", n=5, k=3)
    count = 6000
    layout = jax.vmap(env.draw_layout, (0, None))(jax.random.split(jax.random.key(0), count), params)
    row, column = np.asarray(layout["start"]).T
    assert chi_square_z(np.bincount(row * 4 + column, minlength=20), np.full(20, count / 20)) < 4
    good = np.asarray(layout["good"])
    assert chi_square_z(np.bincount(good @ [1, 2, 4], minlength=8), np.full(8, count / 8)) < 4
    assert (layout["rocks"] == env.rocks).all()


def test_maps_are_even_over_all_sets_of_cells_and_the_same_for_a_seed():
    counts = np.zeros(64, int)
    for seed in range(300):
        rocks = draw_map(3, 2, seed)
        assert rocks.shape == (2, 2) and (rocks >= 0).all() and (rocks <= [2, 1]).all()
        counts[(1 << (rocks @ [2, 1])).sum()] += 1
    counts = counts[counts > 0]
    assert len(counts) == 15 and chi_square_z(counts, np.full(15, 20.0)) < 4
    one, again, other = (envs.make("rocksample", map_seed=seed)[0].rocks for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert one.shape == (11, 2) and len(np.unique(one @ [10, 1])) == 11 and (one != other).any()
    np.testing.assert_array_equal(np.sort(draw_map(4, 12, 0) @ [3, 1]), np.arange(12))  # every cell taken


def test_straight_out_returns_ten():
    env, params = envs.make("rocksample")
    mean, error = mean_return(env, params, lambda keys, obs, state: jnp.full(len(keys), EAST), 256, 10)
    assert (mean, error) == (10, 0)


@pytest.mark.parametrize("size", [(5, 5), *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES[1:])])
def test_random_actions_return_what_is_known(size):
    options = dict(zip("nk", size, strict=True))
    env, params = envs.make("rocksample", **options)
    mean, error = mean_return(env, params, uniform(env, params), 2048, 1000)
    assert abs(mean - envs.reference("rocksample", **options)["random"]["value"]) <= 4 * error + 0.2


def test_single_steps_equal_a_scan_of_many_at_once():
    assert_single_steps_equal_a_scan(*envs.make("rocksample", n=5, k=5), steps=20)


def test_a_reset_is_a_draw_and_a_start_from_it():
    env, params = envs.make("rocksample")
    key = jax.random.key(4)
    mine, theirs = env.reset_env(key, params), env.reset_to(env.draw_layout(key, params), params)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), mine, theirs))


def test_the_picture_shows_rover_rocks_and_the_way_out():
    env, params = envs.make("rocksample", n=5, k=2)
    layout = {"rocks": np.array([[0, 0], [4, 3]]), "start": np.array([2, 1]), "good": np.array([True, False])}
    picture = env.render(env.reset_to(layout, params)[1], params)
    assert picture.shape == (440, 440, 3) and picture.dtype == np.uint8
    centres = picture[44::88, 44::88].astype(int)
    good, bad, rover, way_out, sand = centres[0, 0], centres[4, 3], centres[2, 1], centres[1, 4], centres[1, 1]
    assert good.argmax() == 1 and bad.argmax() == 0 and rover.argmax() == 2 and way_out.argmax() == 1
    assert len({tuple(each) for each in (good, bad, rover, way_out, sand)}) == 5
    assert (centres[:, 4] == way_out).all() and (centres[3, :4] == sand).all()


def test_known_returns():
    known = envs.reference("rocksample")
    assert [known[name]["value"] for name in ("without_memory", "with_memory")] == [62.4, 63.9]
    assert envs.reference("rocksample", n=5, k=5)["with_memory"]["value"] == 35.2
    assert envs.reference("rocksample", n=5, k=4) is None
    assert envs.reference("rocksample", max_episode_steps=100) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 1}, "env.n=1: must be from 2 to 128"),
        ({"n": 3, "k": 7}, "env.k=7: must be from 1 to 6"),
        ({"k": 0}, "env.k=0: must be from 1 to 110"),
        ({"map_seed": -1}, "env.map_seed=-1: must be at least 0"),
        ({"max_episode_steps": 0}, "env.max_episode_steps=0: must be at least 1"),
    ],
)
def test_bad_input_is_one_line(options, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        envs.make("rocksample", **options)
    assert "\n" not in str(error.value)
