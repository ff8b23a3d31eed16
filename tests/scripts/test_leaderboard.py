"""A small comparison goes on where it was stopped, its table is right in form, and its order is as defined."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas
import pytest
import yaml

import envs
import networks
from algos.harness import RunError, loop
from scripts import leaderboard
from tests.marks import slow_if

TINY = leaderboard.Task(
    "a2c_arelit",
    budget=160,
    flags="--env.id TMaze-Passive --env.corridor-len 3 --num-envs 2 --num-steps 8 --eval-episodes 2 "
    "--actor-hidden 8 --critic-hidden 8",
)


@pytest.fixture
def main(monkeypatch, capfd):
    """Runs the script in this process: main(*flags) -> (exit code, stdout, stderr)."""
    monkeypatch.setattr(loop.episode, "record", lambda *args: None)
    monkeypatch.setattr(jax, "clear_caches", lambda: None)  # other tests' programs
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["scripts/leaderboard.py", *map(str, flags)])
        capfd.readouterr()
        code = 0
        try:
            leaderboard.main()
        except SystemExit as end:
            code = end.code
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def tiny(monkeypatch):
    """One small task, small agents, and no time measured beforehand."""
    monkeypatch.setattr(leaderboard, "TASKS", {"tiny": TINY})
    monkeypatch.setattr(leaderboard, "PARAMETERS", 6000)
    monkeypatch.setattr(leaderboard, "estimate", lambda jobs: 60.0)


CORES = ("gru", "feedforward")
FLAGS = ("--cores", *CORES, "--tasks", "tiny", "--num-seeds", 2)


@pytest.mark.slow
def test_a_comparison_that_was_killed_goes_on_and_its_table_is_right_in_form(main, tiny, tmp_path, monkeypatch):
    path = tmp_path / "all"
    flags = [*FLAGS, "--output", path]
    draw = loop.curve.draw

    def stop(*args):  # after the first checkpoint
        monkeypatch.setattr(loop.curve, "draw", draw)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop.curve, "draw", stop)
    code, _, err = main(*flags)
    assert code == 128 + signal.SIGTERM and "2 job(s), 0 done" in err and "about 1 min for 2 job(s)" in err, err
    searched = (path / "jobs/tiny/gru/search.csv").read_bytes()
    assert not (path / "results.csv").exists()

    code, out, err = main(*flags)
    assert code == 0 and "resuming after update" in err and f"written: {path}" in out, err
    assert (path / "jobs/tiny/gru/search.csv").read_bytes() == searched
    table = pandas.read_csv(path / "results.csv")
    assert sorted(zip(table.core, table.task, table.seed, strict=True)) == [
        (core, "tiny", seed) for core in sorted(CORES) for seed in (0, 1)
    ]
    known = envs.reference("TMaze-Passive", corridor_len=3)
    without, best = (known[name]["value"] for name in ("without_memory", "with_memory"))
    for how in ("drawn", "mode"):
        expected = (table[f"return_{how}"] - without) / (best - without)
        np.testing.assert_allclose(table[f"memory_score_{how}"], expected, atol=1e-12)
        assert table[f"success_{how}"].between(0, 1).all()
    assert table.parameters.max() / table.parameters.min() < 1.05
    assert (table.env_steps == TINY.budget).all() and (table.episodes == leaderboard.FULL.episodes).all()
    assert table.learning_rate.isin(leaderboard.RATES).all() and table.diverged_after_update.isna().all()
    assert dict(zip(table.core, table.carry_bytes > 0, strict=True)) == {"gru": True, "feedforward": False}
    for name in ("training", "acting"):
        assert (table[f"time_{name}_steps_per_s"] > 0).all()
    assert table.command.str.startswith("python algos/a2c_arelit.py --env.id TMaze-Passive").all()
    assert (table.commit.str.len() >= 40).all() and table.hardware.notna().all()
    choice = pandas.read_csv(path / "jobs/tiny/gru/search.csv")
    assert set(choice.seed) == set(leaderboard.SEARCH_SEEDS) and not set(choice.seed) & set(table.seed)
    assert sorted(set(choice.learning_rate)) == sorted(leaderboard.RATES)
    text = (path / "leaderboard.md").read_text()
    for word in ("| gru |", "| feedforward |", "drawn from the policy", "the mode of the policy", "exact"):
        assert word in text
    assert (path / "leaderboard.png").stat().st_size > 5000
    about = yaml.safe_load((path / "leaderboard.yaml").read_text())
    assert about["num_seeds"] == 2 and about["budget_scale"] == 1

    before = contents(path)
    monkeypatch.setattr(leaderboard, "run_job", None)
    code, _, err = main(*flags)
    assert code == 0 and "2 job(s), 2 done" in err
    assert contents(path) == before, "what is done is not touched"


def contents(path):
    """All files by their bytes, but for pictures, which hold the time."""
    return {
        file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.suffix in (".csv", ".md")
    }


# ------------------------------------------------------------------------------------------------------------
# Jobs, with results that are made up


def rows_of(job, score=0.5):
    """What a job's result.csv holds, with seeds that differ a little."""
    return [
        {
            "core": job.core,
            "task": job.task,
            "seed": seed,
            **dict.fromkeys(("memory_score_drawn", "memory_score_mode"), score + 0.01 * seed),
            **dict.fromkeys(("return_drawn", "return_mode"), 10 * score + seed),
            **dict.fromkeys(("success_drawn", "success_mode"), None),
            "env_steps": 160,
            "diverged_after_update": None,
            "parameters": 150_000,
            "carry_bytes": 100,
            **{f"time_{name}_steps_per_s": 1000 for name in ("training", "acting", "learning")},
        }
        for seed in range(job.settings.num_seeds)
    ]


@pytest.fixture
def made_up(tiny, monkeypatch):
    """Jobs that end at once; returns the list of those that ran. That of feedforward fails."""
    ran = []

    def run_job(job):
        ran.append((job.core, job.task))
        if job.core == "feedforward":
            raise RunError("made to fail")
        job.path.mkdir(parents=True, exist_ok=True)
        pandas.DataFrame(rows_of(job)).to_csv(job.path / "result.csv", index=False)

    monkeypatch.setattr(leaderboard, "run_job", run_job)
    return ran


def test_a_job_that_fails_leaves_the_others_alone_and_the_end_is_an_error(main, made_up, tmp_path):
    flags = ["--cores", "feedforward", "gru", "--output", tmp_path]
    code, _, err = main(*flags)
    assert code == 1 and made_up == [("feedforward", "tiny"), ("gru", "tiny")]
    assert err.splitlines()[-1] == "error: 1 of 2 jobs failed: feedforward on tiny: made to fail"
    assert set(pandas.read_csv(tmp_path / "results.csv").core) == {"gru"}
    assert "Failed: feedforward on tiny: made to fail" in (tmp_path / "leaderboard.md").read_text()
    main(*flags)
    assert made_up[2:] == [("feedforward", "tiny")], "what failed is tried again, what is done is not"


@pytest.mark.parametrize(
    "text, words", [("", "cannot be read"), ("core\n", "lacks task"), ("x,y\n1,2\n", "lacks core")]
)
def test_a_damaged_result_is_named_before_any_job_runs(text, words, main, made_up, tmp_path):
    assert main("--cores", "gru", "--output", tmp_path)[0] == 0
    file = tmp_path / "jobs/tiny/gru/result.csv"
    file.write_text(text)
    code, _, err = main("--cores", "gru", "lstm", "--output", tmp_path)
    assert code == 1 and len(made_up) == 1
    assert err.startswith(f"error: {file}: {words}") and "remove it" in err and err.count("\n") == 1, err


def test_a_file_in_place_of_the_output_is_refused(main, made_up, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, out, err = main("--cores", "gru", "--print-jobs", "--output", tmp_path / "file")
    assert code == 2 and not out and "must be a directory" in err and err.count("\n") == 1


def test_the_printed_commands_run_one_job_each(main, made_up, tmp_path):
    flags = ["--cores", "gru", "lstm", "--num-seeds", 3, "--budget-scale", 0.5, "--output", tmp_path / "all jobs"]
    code, out, _ = main(*flags, "--print-jobs")
    assert code == 0 and not made_up and not list(tmp_path.iterdir())
    commands = [shlex.split(line) for line in out.splitlines()]
    assert [command[:2] for command in commands] == [["python", "scripts/leaderboard.py"]] * 2
    for command, core in zip(commands, ("gru", "lstm"), strict=True):
        assert main(*command[2:])[0] == 0 and made_up[-1] == (core, "tiny")
    assert len(made_up) == 2 and not (tmp_path / "all jobs/results.csv").exists()
    code, _, err = main(*flags)
    assert code == 0 and "2 job(s), 2 done" in err and len(made_up) == 2
    assert len(pandas.read_csv(tmp_path / "all jobs/results.csv")) == 6


def test_jobs_of_one_directory_have_the_same_settings(main, made_up, tmp_path):
    assert main("--cores", "gru", "--output", tmp_path)[0] == 0
    before = contents(tmp_path)
    for flags, word in (
        (["--num-seeds", 3], "num_seeds=3: must be 5"),
        (["--budget-scale", 0.5], "budget_scale=0.5: must be 1.0"),
        (["--smoke", "--num-seeds", 5, "--budget-scale", 1], "episodes="),
    ):
        code, _, err = main("--cores", "gru", "lstm", *flags, "--output", tmp_path)
        assert code == 2 and word in err and err.count("\n") == 1, err
    assert contents(tmp_path) == before and len(made_up) == 1


def test_jobs_of_one_directory_have_the_same_tasks(main, made_up, tmp_path, monkeypatch):
    assert main("--cores", "gru", "--output", tmp_path)[0] == 0
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(leaderboard.TASKS, "tiny", TINY._replace(budget=320))
        code, _, err = main("--cores", "gru", "lstm", "--output", tmp_path)
    assert code == 2 and err.count("\n") == 1 and contents(tmp_path) == before, err
    assert "tasks: tiny is 'a2c_arelit, 320 steps, " in err and "must be 'a2c_arelit, 160 steps, " in err
    monkeypatch.setitem(leaderboard.TASKS, "more", TINY)
    assert main("--cores", "gru", "lstm", "--tasks", "tiny", "--output", tmp_path)[0] == 0


def test_a_run_of_other_settings_is_not_gone_on_with(tiny, tmp_path):
    job = leaderboard.Job("gru", "tiny", leaderboard.FULL, tmp_path)
    run = tmp_path / "run"
    leaderboard.run_dir.create(run, job.parse(["--run-dir", str(run)]), job.trainer, ["python"])
    with pytest.raises(RunError, match="begun with gamma=0.99, and the task's row now says 0.5"):
        leaderboard.train(job, ["--gamma", "0.5", "--run-dir", str(run)], run)


def test_one_process_at_a_time_writes_an_output_directory(main, made_up, tmp_path):
    with held_by_another_process(tmp_path):
        code, _, err = main("--cores", "gru", "--output", tmp_path)
    assert code == 2 and "is being written by" in err and err.count("\n") == 1
    assert not made_up


@contextlib.contextmanager
def held_by_another_process(path):
    """A process that has the lock; locks of one process do not exclude each other."""
    code = (
        "import sys, time, pathlib; from algos.harness import run_dir\n"
        "with run_dir.locked(pathlib.Path(sys.argv[1]), 'output'):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--cores", "grue"], ["cores='grue'", "arelit, "]),
        (["--cores"], ["--cores", "expected"]),
        (["--tasks", "gru", "tmaze"], ["tasks='gru'", "tmaze-v2-40, "]),
        (["--num-seeds", "0"], ["num_seeds=0", "from 1 to 1000"]),
        (["--num-seeds", "two"], ["--num-seeds", "'two'"]),
        (["--budget-scale", "0"], ["budget_scale=0.0", "above 0"]),
        (["--budget-scale", "nan"], ["budget_scale=nan", "at most 100"]),
        (["--budget-scale", "101"], ["budget_scale=101.0", "at most 100"]),
        (["--output", ""], ["output=''", "a path"]),
        (["--job", "gru"], ["--job", "expected 2"]),
        (["--job", "gru", "nothing"], ["tasks='nothing'", "tmaze-v2-40"]),
        (["--job", "gru", "tmaze-v2-40", "--print-jobs"], ["job='gru tmaze-v2-40'", "without"]),
        (["--job", "gru", "tmaze-v2-40", "--cores", "gru"], ["job='gru tmaze-v2-40'", "without"]),
        (["--surprise"], ["--surprise"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(flags, words, main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = main(*flags)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    for word in words:
        assert word in err
    assert not list(tmp_path.iterdir()), "bad input must leave nothing behind"


@pytest.mark.parametrize("name, text", [("config.yaml", "algo: x"), ("leaderboard.yaml", "num_seeds: ["),
                                        ("leaderboard.yaml", "episodes: 3")])  # fmt: skip
def test_a_directory_of_something_else_is_refused_and_left_as_it_is(name, text, main, tmp_path):
    (tmp_path / name).write_text(text)
    code, _, err = main("--output", tmp_path)
    assert code == 2 and "output=" in err and err.count("\n") == 1, err
    assert [file.name for file in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == text


# ------------------------------------------------------------------------------------------------------------
# What is compared


@pytest.mark.parametrize("task", leaderboard.TASKS)
def test_every_task_has_settings_that_its_trainer_takes_and_a_scale(task):
    for settings in (leaderboard.FULL, leaderboard.SMOKE):
        job = leaderboard.Job("gru", task, settings, Path())
        config = job.parse(["--total-timesteps", str(job.budget)])
        assert config.num_updates > (0 if settings.smoke else 100)
        assert config.previous_action_reward == (leaderboard.TASKS[task].without_memory is not None)
    known = leaderboard.reference_of(task)
    unknown = ("pendulum-p", "mystery-path-easy")
    assert (known.get("with_memory") is None) == task.endswith(unknown)
    if task.endswith(unknown):
        assert leaderboard.memory_score(task, 1.0) is None
        return
    without, best = (known[name]["value"] for name in ("without_memory", "with_memory"))
    assert leaderboard.memory_score(task, without) == 0 and leaderboard.memory_score(task, best) == 1
    assert leaderboard.memory_score(task, (without + best) / 2) == pytest.approx(0.5)


@pytest.mark.parametrize("core", [pytest.param(core, marks=slow_if(core not in CORES)) for core in networks.CORES])
def test_every_core_is_of_the_size_class(core):
    job = leaderboard.Job(core, "tmaze-v2-40", leaderboard.FULL, Path())
    config = job.parse(leaderboard.sized_flags(job))
    expected = networks.hyperparameters(core) | leaderboard.INNER.get(core, {})
    chosen = {name: value for name, value in config.core.items() if name not in ("name", "d_model")}
    assert config.core["name"] == core and chosen == {k: v for k, v in expected.items() if k != "d_model"}
    trainer = leaderboard.algos.TRAINERS[job.trainer].make_train(config)
    params = jax.eval_shape(trainer.init, jax.random.key(0)).params
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert abs(count - leaderboard.PARAMETERS) <= leaderboard.TOLERANCE * leaderboard.PARAMETERS
    assert (1 + leaderboard.TOLERANCE) / (1 - leaderboard.TOLERANCE) < 1.05


def table_of(**scores):
    """A results.csv: core -> task -> scores of its seeds."""
    rows = []
    for core, tasks in scores.items():
        for task, values in tasks.items():
            job = leaderboard.Job(core, task, leaderboard.FULL._replace(num_seeds=len(values)), Path())
            for row, value in zip(rows_of(job), values, strict=True):
                rows.append(row | {"memory_score_drawn": value, "memory_score_mode": value})
    return pandas.DataFrame(rows)


def test_the_order_is_that_of_the_interquartile_mean_of_drawn_scores_over_all_tasks():
    one, two = "cartpole-p", "tmaze-v2-40"
    table = table_of(
        arelit={one: [0.0, 0.0], two: [0.5, 0.5]},
        gru={one: [0.9, 0.9], two: [1.0, 1.0]},
        lstm={one: [1.0, 1.0]},  # the other task is not done
    )
    ranked = leaderboard.rank(table)
    assert [each.core for each in ranked] == ["gru", "arelit", "lstm"]
    gru, arelit, lstm = ranked
    assert gru.score == pytest.approx((0.95, 0.95, 0.95)) and gru.improvement == (1, 1, 1)
    assert arelit.score[0] == 0.25 and np.isnan(arelit.improvement).all()
    assert np.isnan(lstm.score).all() and np.isnan(lstm.improvement).all()
    text = leaderboard.describe(table, leaderboard.FULL._replace(budget_scale=0.25), [])
    assert "| gru | 0.95 [0.95, 0.95] | 0.95 | 1.00 [1.00, 1.00] | 150,000 |" in text
    assert "0.25 times the steps" in text and "means nothing" not in text


def test_a_seed_that_diverged_is_named():
    table = table_of(arelit={"cartpole-p": [0.0, 0.5]})
    table.loc[1, "diverged_after_update"] = 7
    text = leaderboard.describe(table, leaderboard.FULL, [])
    assert "Diverged: seed 1 of arelit on cartpole-p, last logged at update 7" in text


def test_a_learning_rate_with_which_a_seed_diverges_is_not_chosen(tmp_path):
    job = leaderboard.Job("gru", "cartpole-p", leaderboard.FULL, tmp_path)
    scores = {2e-4: (1.0, 2.0), 6e-4: (3.0, 4.0), 2e-3: (100.0, None)}
    rows = [{"learning_rate": rate, "return_drawn": each} for rate, found in scores.items() for each in found]
    pandas.DataFrame(rows).to_csv(tmp_path / "search.csv", index=False)
    assert leaderboard.choose_rate(job, []) == 6e-4
    pandas.DataFrame(rows).assign(return_drawn=np.nan).to_csv(tmp_path / "search.csv", index=False)
    with pytest.raises(RunError, match="diverged at every learning rate"):
        leaderboard.choose_rate(job, [])


def test_one_seed_has_no_interval():
    table = table_of(arelit={"cartpole-p": [0.5]}).assign(success_drawn=0.97)
    assert leaderboard.with_interval(*leaderboard.cell(table, "arelit", "cartpole-p", "success_drawn")) == "0.97"


def test_what_was_computed_with_other_constants_is_not_gone_on_with(tmp_path, monkeypatch):
    leaderboard.create(tmp_path, leaderboard.FULL)
    leaderboard.check_directory(tmp_path, leaderboard.FULL)
    monkeypatch.setattr(leaderboard, "PARAMETERS", 1000)
    with pytest.raises(leaderboard.BadInput, match="parameters=1000: must be 150000"):
        leaderboard.check_directory(tmp_path, leaderboard.FULL)
