"""Learning curves: groups, intervals, alignment, and what is said of what is not there."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from scripts import plot

HEADER = "seed,update,env_steps,eval_return,episode_success"


def write(path, rows, core="arelit", env=None, seed=0, num_seeds=1, end="\n", **config):
    """A run directory with rows (seed, env_steps, eval_return)."""
    path.mkdir()
    config |= {
        "algo": "x",
        "seed": seed,
        "num_seeds": num_seeds,
        "env": env or {"id": "maze"},
        "core": {"name": core},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [f"{s},{steps},{steps},{'' if value is None else value}," for s, steps, value in rows]
    (path / "metrics.csv").write_text("\n".join([HEADER, *lines]) + end)
    return path


def curves(path, seeds, level=0.0, **config):
    rng = np.random.default_rng(0)
    rows = [(s, t, level + round(float(rng.normal()), 6)) for s in seeds for t in (10, 20, 30)]
    return write(path, rows, seed=min(seeds), num_seeds=len(seeds), **config)


def run(monkeypatch, capsys, *flags):
    monkeypatch.setattr(sys, "argv", ["plot.py", *map(str, flags)])
    code = 0
    try:
        plot.main()
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def test_the_interval_is_scipys_bootstrap_of_the_interquartile_mean():
    rng = np.random.default_rng(1)
    strata = [0] * 6 + [1] * 10
    values = rng.normal(size=(16, 2)) + 5 * np.array(strata)[:, None]
    mean, low, high = plot.interquartile_mean(values, strata)
    np.testing.assert_allclose(mean, stats.trim_mean(values, 0.25, axis=0))

    def statistic(*samples, axis):
        return stats.trim_mean(np.concatenate(samples, axis), 0.25, axis)

    samples = (values[:6], values[6:])
    theirs = stats.bootstrap(samples, statistic, axis=0, method="percentile", vectorized=True, rng=rng)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    np.testing.assert_allclose(low, theirs.confidence_interval.low, atol=0.04 * width.max())
    np.testing.assert_allclose(high, theirs.confidence_interval.high, atol=0.04 * width.max())
    # Without the strata the share of each would vary, and the interval be wider.
    _, low, high = plot.interquartile_mean(values, [0] * 16)
    assert np.all(high - low > 1.3 * width)


def test_one_seed_has_no_interval_and_one_outlier_of_five_does_not_move_the_mean():
    assert np.isnan(plot.interquartile_mean(np.ones((1, 3)), [0])[1:]).all()
    assert np.isnan(plot.interquartile_mean(np.ones((2, 3)), [0, 1])[1:]).all()
    values = np.array([[1.0], [2.0], [3.0], [4.0], [1e6]])
    assert plot.interquartile_mean(values, [0] * 5)[0] == 3.0


def test_runs_of_a_group_are_pooled_over_their_seeds(tmp_path, capsys):
    paths = [
        curves(tmp_path / "a", [0, 1]),
        curves(tmp_path / "b", [2, 3, 4]),
        curves(tmp_path / "c", [0], core="gru"),
    ]
    groups = plot.group_runs([plot.load(path, "eval_return") for path in paths], ["core"])
    assert {name: [r.path.name for r in runs] for name, runs in groups.items()} == {
        "arelit": ["a", "b"],
        "gru": ["c"],
    }
    lines = plot.lines_of("arelit", groups["arelit"])
    assert [line.seed for line in lines] == [0, 1, 2, 3, 4] and {line.stratum for line in lines} == {0}
    assert capsys.readouterr().out == ""


def test_runs_annealed_over_other_lengths_are_other_settings(tmp_path, capsys):
    paths = [curves(tmp_path / str(n), [n], anneal_learning_rate=True, total_timesteps=n) for n in (10, 20)]
    plot.lines_of("arelit", [plot.load(path, "eval_return") for path in paths])
    assert "pools 2 settings" in (out := capsys.readouterr().out) and "total_timesteps" in out
    paths = [curves(tmp_path / f"c{n}", [n], anneal_learning_rate=False, total_timesteps=n) for n in (10, 20)]
    plot.lines_of("arelit", [plot.load(path, "eval_return") for path in paths])
    assert capsys.readouterr().out == ""


def test_a_group_over_environments_keeps_them_as_strata_and_says_so(tmp_path, capsys):
    easy = curves(tmp_path / "a", [0, 1], env={"id": "maze", "corridor_len": 5}, learning_rate=0.1)
    hard = curves(tmp_path / "b", [0, 1], env={"id": "maze", "corridor_len": 9}, learning_rate=0.1)
    runs = [plot.load(path, "eval_return") for path in (easy, hard)]
    (name, members), *others = plot.group_runs(runs, ["core", "learning_rate"]).items()
    assert name == "arelit, learning_rate 0.1" and not others
    assert [line.stratum for line in plot.lines_of(name, members)] == [0, 0, 1, 1]
    assert "pools 2 settings, values not normalised; they differ in env.corridor_len" in capsys.readouterr().out
    assert set(plot.group_runs(runs, ["corridor_len"])) == {"corridor_len 5", "corridor_len 9"}


def test_curves_of_other_steps_are_interpolated_up_to_where_the_shortest_ends(tmp_path, capsys):
    long = write(tmp_path / "a", [(0, 0, 0.0), (0, 20, 2.0), (0, 40, 4.0)])
    short = write(tmp_path / "b", [(1, 10, 10.0), (1, 30, 30.0)], seed=1)
    lines = plot.lines_of("all", [plot.load(path, "eval_return") for path in (long, short)])
    steps, values = plot.align("all", lines)
    assert steps.tolist() == [10, 20, 30]
    assert values.tolist() == [[1, 2, 3], [10, 20, 30]]
    assert f"mean drawn up to 30 of 40 steps, where seed 1 of {short} ends" in capsys.readouterr().out


def test_a_seed_that_is_missing_or_empty_and_a_row_cut_off_are_told(tmp_path, capsys):
    rows = [(0, 10, 1.0), (1, 10, None), (0, 20, 2.0), (1, 20, None), (3, 10, 1.0), (3, 20, 5.0), (0, 30, 9.0)]
    path = write(tmp_path / "a", rows, num_seeds=4, end="")
    run = plot.load(path, "eval_return")
    assert run.seeds == [0, 3] and run.values.tolist() == [[1, 2], [1, 5]]
    out = capsys.readouterr().out
    for words in (
        "last line of metrics.csv is cut off",
        "no rows of seed 2",
        "no eval_return of seed 1, left out",
    ):
        assert f"{path}: " in out and words in out


def test_one_seed_twice_is_told(tmp_path, capsys):
    paths = [curves(tmp_path / name, [0, 1], total_timesteps=index) for index, name in enumerate("ab")]
    plot.lines_of("arelit", [plot.load(path, "eval_return") for path in paths])
    assert capsys.readouterr().out.count("counted twice") == 2


@pytest.mark.parametrize("flags", [[], ["--by", "core"], ["--by", "core,corridor_len", "--column", "eval_return"],
                                   ["--by", "core", "--against", "corridor_len"]])  # fmt: skip
def test_one_call_writes_every_format(tmp_path, monkeypatch, capsys, flags):
    paths = [curves(tmp_path / str(n), [0, 1], env={"id": "maze", "corridor_len": n}) for n in (5, 10)]
    outputs = [tmp_path / f"all{ending}" for ending in plot.FORMATS]
    code, _, err = run(monkeypatch, capsys, *paths, *flags, *(x for o in outputs for x in ("--output", o)))
    assert (code, err) == (0, "")
    starts = [output.read_bytes()[:5] for output in outputs]
    assert starts == [b"\x89PNG\r", b"<?xml", b"%PDF-"]
    assert "arelit" in outputs[1].read_text()
    first = outputs[1].read_bytes()
    run(monkeypatch, capsys, *paths, *flags, "--output", outputs[1])
    assert outputs[1].read_bytes() == first  # the same picture is the same file


def test_a_path_longer_than_the_page_and_with_signs_of_formulas_stands_whole_in_the_legend(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{'long-' * 30}$_{{{index}" for index in range(2)]
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    plot.draw([curves(Path(name), [0, 1]) for name in names], Path("a.png"), "eval_return")
    (legend,) = drawn[0].legends
    for text, name in zip(legend.get_texts(), names, strict=True):
        assert name in text.get_text().replace("\n", "")
        assert not text.get_parse_math()
    drawn[0].canvas.draw()
    assert legend.get_window_extent().x0 >= 0 and legend.get_window_extent().x1 <= drawn[0].bbox.x1


def test_last_values_stand_over_the_setting_of_their_runs(tmp_path, capsys):
    paths = [write(tmp_path / str(n), [(0, 10, 0.0), (0, 20, float(n)), (1, 10, 0.0), (1, 20 + n, n + 2.0)],
                   env={"id": "maze", "corridor_len": n}, num_seeds=2) for n in (5, 10)]  # fmt: skip
    runs = [plot.load(path, "eval_return") for path in paths]
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    plot.draw_final(axes, "arelit", runs, {"color": "k", "linestyle": "-"}, "corridor_len", 0)
    line = next(line for line in axes.lines if line.get_label() == "arelit (4 seeds)")
    assert line.get_xdata().tolist() == [5, 10] and line.get_ydata().tolist() == [6, 11]
    assert "arelit, corridor_len 5: last values are of 20 to 25 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--by", "colour"], ["by='colour'", "core.name", "environment"]),
        (["--against", "corridor_len"], ["against='corridor_len'", "no run has this setting"]),
        (["--against", ""], ["against=''", "no run has this setting"]),
        (["--against", "core"], ["against='core'", "'arelit'", "must be a finite number"]),
        (["--against", "learning_rate"], ["against='learning_rate'", "inf", "must be a finite number"]),
        (["--column", "nothing"], ["column='nothing'", "eval_return"]),
        (["--output", "a.gif"], ["output='a.gif'", ".svg"]),
        (["--output", "a.png", "--output", "nowhere/a.svg"], ["output='nowhere/a.svg'"]),
        (["LATER", "--by", "core"], ["no steps in common", "starts at 100", "ends at 30"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    path = curves(Path("a"), [0, 1], learning_rate=float("inf"))
    later = write(Path("later"), [(5, 100, 1.0)], seed=5)
    code, _, err = run(monkeypatch, capsys, path, *(later if flag == "LATER" else flag for flag in flags))
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    assert not list(tmp_path.glob("*.png"))
    for word in words:
        assert word in err
