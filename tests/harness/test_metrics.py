import types

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos.harness import BadInput, curve, episode, metrics
from algos.harness.metrics import MetricsFile
from algos.harness.statistics import confidence_interval
from tests.harness import stub


def update(episodes, episode_return, loss):
    return {
        "episodes": np.array(episodes),
        "episode_return": np.array(episode_return),
        "loss": np.array(loss),
    }


def test_episode_means_are_weighted_by_episodes_and_losses_by_updates():
    interval = [update([1, 0], [10.0, 0.0], [1.0, 4.0]), update([3, 0], [2.0, 0.0], [2.0, 5.0])]
    assert metrics.reduce(interval, 0) == {"episodes": 4, "episode_return": (10 + 3 * 2) / 4, "loss": 1.5}
    assert metrics.reduce(interval, 1) == {"episodes": 0, "episode_return": None, "loss": 4.5}


def test_columns_begin_with_what_identifies_a_row_and_end_with_the_clock():
    names = ["loss", "episodes", "episode_success", "episode_return", "episode_length", "entropy"]
    header = metrics.columns(names, ["episode_return", "success"])
    assert header == [
        *("seed", "update", "env_steps", "episodes", "episode_return", "episode_length", "episode_success"),
        *("entropy", "loss", "eval_return", "eval_success", "time_elapsed_s", "time_env_steps_per_s"),
    ]
    assert metrics.columns(reversed(names), ["success", "episode_return"]) == header


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_metric_that_is_not_finite_is_named_but_not_those_of_episodes_where_none_ended(bad):
    update = {"loss": np.ones(2), "grad_norm": np.array([1.0, bad]), "episodes": np.array([0.0, 1.0])}
    assert metrics.not_finite(update, 0) == "" and metrics.not_finite(update, 1) == f"grad_norm={bad}"
    update = {"episode_return": np.full(2, bad), "episodes": np.array([0.0, 1.0])}
    assert metrics.not_finite(update, 0) == "" and metrics.not_finite(update, 1) == f"episode_return={bad}"


def test_cells_tell_any_two_float32_apart():
    x = np.float32(0.1)
    assert metrics.text(float(x)) != metrics.text(float(np.nextafter(x, np.float32(1))))
    assert np.float32(metrics.text(float(x))) == x
    assert metrics.text(None) == "" and metrics.text(3) == "3"


def test_rows_after_the_checkpoint_and_a_line_that_was_cut_off_are_removed(tmp_path):
    path = tmp_path / "metrics.csv"
    header = ["seed", "update", "loss"]
    file = MetricsFile(path, header, keep_until=0)
    for number in (1, 2, 3):
        file.append([{"seed": seed, "update": number, "loss": number / 3} for seed in (0, 1)])
    whole = path.read_text().splitlines(keepends=True)
    for cut in range(1, len(whole[-1])):  # at any byte of the last line
        path.write_text("".join(whole)[:-cut])
        MetricsFile(path, header, keep_until=2)
        assert path.read_text() == "".join(whole[:5])
    MetricsFile(path, header, keep_until=1)
    assert path.read_text() == "".join(whole[:3])


@pytest.mark.parametrize(
    "content, words",
    [
        (b"seed,update,los\n0,1,0.5\n", "line 1"),
        (b"", "line 1"),
        (b"seed,update,loss\n0,1,0.5\n0,2\n", "line 3"),
        (b"seed,update,loss\n0,x,0.5\n", "line 2"),
        (b"seed,update,loss\n0,,0.5\n", "line 2: update"),
        (b"seed,update,loss\n0.5,1,0.5\n", "line 2: seed must be a whole number"),
        (b"seed,update,loss\n0,inf,0.5\n", "line 2: update must be a whole number"),
        (b"seed,update,loss\n0,1,nan\n", "line 2: loss=nan: must be a finite number, or empty"),
        (b"seed,update,loss\n0,1,0.5\n0,2,-inf\n", "line 3: loss=-inf"),
        (b"seed,update,loss\n0,1,\xff\n", "line 2.*UTF-8"),
    ],
)
def test_a_file_of_other_columns_or_with_a_line_that_is_no_row_is_left_as_it_is(tmp_path, content, words):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=f"metrics.csv: {words}"):
        MetricsFile(path, ["seed", "update", "loss"], keep_until=1)
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


def test_confidence_interval_is_students():
    values = np.array([[1.0, 5.0, np.nan], [2.0, np.nan, np.nan], [4.0, np.nan, np.nan]])
    mean, half = confidence_interval(values)
    np.testing.assert_allclose(mean, [7 / 3, 5.0, np.nan])
    # t(0.975, 2) = 4.3027; standard deviation of 1, 2, 4 is 1.52753.
    np.testing.assert_allclose(half, [4.3027 * 1.52753 / np.sqrt(3), np.nan, np.nan], rtol=1e-4)


def test_the_curve_is_drawn_whatever_is_missing(tmp_path):
    file = MetricsFile(tmp_path / "m.csv", ["seed", "env_steps", "update", "episode_return", "eval_return"], 0)
    curve.draw(tmp_path / "m.csv", tmp_path / "empty.png", "no rows yet")
    file.append([{"seed": 0, "env_steps": 10, "update": 1, "episode_return": None, "eval_return": None}])
    file.append([{"seed": 0, "env_steps": 20, "update": 2, "episode_return": 3.0, "eval_return": None}])
    file.append([{"seed": 1, "env_steps": 20, "update": 2, "episode_return": None, "eval_return": 5.0}])
    curve.draw(tmp_path / "m.csv", tmp_path / "some.png", "some")
    assert iio.imread(tmp_path / "some.png").std() > 0


def trainer_of(episode_length, size=(32, 48)):
    """The stub's trainer with frames of noise, which compress badly."""
    trainer = stub.make_train(stub.Config(env={"id": "stub/a", "episode_length": episode_length}))
    noise = np.random.default_rng(0)
    trainer.env.render = lambda state, params: noise.integers(0, 256, (*size, 3), np.uint8)
    return trainer, trainer.init(jax.random.key(0))


def test_the_episode_is_played_to_its_end(tmp_path):
    trainer, state = trainer_of(12)
    states = episode.play(trainer, state, jax.random.key(1))
    assert [int(each) for each in states] == list(range(13))


def test_the_gif_loops_and_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(episode, "MAX_BYTES", 300_000)
    trainer, state = trainer_of(1000, size=(8, 8))
    episode.record(trainer, state, jax.random.key(1), tmp_path / "long.gif")
    assert 100 < len(iio.imread(tmp_path / "long.gif")) <= episode.MAX_FRAMES
    trainer, state = trainer_of(100, size=(64, 96))
    episode.record(trainer, state, jax.random.key(1), tmp_path / "large.gif")
    assert (tmp_path / "large.gif").stat().st_size <= episode.MAX_BYTES
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in (tmp_path / "large.gif").read_bytes()  # loop count 0: for ever


def test_an_environment_without_a_picture_leaves_no_gif(tmp_path):
    trainer, state = trainer_of(3)
    without = trainer._replace(env=types.SimpleNamespace(reset_env=None))
    assert episode.record(without, state, jax.random.key(1), tmp_path / "e.gif") == ""
    reason = types.SimpleNamespace(no_picture="x has no picture: it draws none")
    without = trainer._replace(env=reason, lives_on_host=True)
    assert episode.record(without, state, jax.random.key(1), tmp_path / "e.gif") == reason.no_picture
    assert list(tmp_path.iterdir()) == []


def test_a_typed_key_in_the_environments_state_is_left_as_it_is(tmp_path):
    trainer, state = trainer_of(3)
    plain = trainer.env

    class Keyed:
        action_space = plain.action_space

        def reset_env(self, key, params):
            return jnp.zeros(2), (key, 0)

        def step_env(self, key, state, action, params):
            obs, count, *rest = plain.step_env(key, state[1], action, params)
            return obs, (key, count), *rest

        def is_truncated(self, state, params):
            return plain.is_truncated(state[1], params)

    states = episode.play(trainer._replace(env=Keyed()), state, jax.random.key(1))
    assert len([*states]) == 4


def test_the_step_of_the_episode_is_compiled_once():
    trainer, state = trainer_of(12)
    traces = []

    def act(state, carry, obs, reset, key, deterministic):
        traces.append(obs)
        return trainer.act(state, carry, obs, reset, key, deterministic)

    assert len([*episode.play(trainer._replace(act=act), state, jax.random.key(1))]) == 13
    assert len(traces) == 1
