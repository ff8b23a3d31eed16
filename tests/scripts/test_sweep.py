import dataclasses
import os
import shlex
import signal
import sys
import threading
import time

import jax
import numpy as np
import pandas
import pytest
import yaml

import algos
from algos import a2c_arelit
from algos.harness import BadInput, cli, devices, footprint, loop, metrics
from algos.harness.fields import traced_fields
from algos.harness.statistics import confidence_interval
from algos.presets import PRESETS
from scripts import sweep
from tests.algos.toy import Toy, environment_is
from tests.algos.trainers import cases, small_config
from tests.harness import stub

# ------------------------------------------------------------------------------------------------------------
# Settings side by side are those alone


@cases("ppo_continuous", "ppo_discrete", "a2c_discrete", slow=["ppo_discrete"])
def test_a_vmapped_setting_equals_the_setting_alone(case):
    """All traced fields at once, two settings of two seeds each; the second is looked at, all of it is its own."""
    names = traced_fields(case.module.Config)
    factors = {"gamma": 0.9, "gae_lambda": 0.8}
    config = small_config(case.module, total_timesteps=128, ent_coef=0.01)
    first = {name: getattr(config, name) for name in names}
    second = {name: value * factors.get(name, 0.1) for name, value in first.items()}
    seeds = 2
    with environment_is(Toy(num_actions=case.num_actions), max_steps_in_episode=5):
        values = {name: np.repeat(np.float32([first[name], second[name]]), seeds) for name in names}
        keys = devices.seed_keys(3, seeds)[np.tile(np.arange(seeds), 2)]
        mesh = devices.seed_mesh(1)
        programs = sweep.compile_programs(case.module, config, values, keys, mesh, "episode_return")
        state, found = programs.init(values, keys), []
        for _ in range(config.num_updates):
            before = state
            state, update_metrics = programs.update(values, state)
            found.append(update_metrics)
            assert all(
                x.is_deleted() for x in jax.tree.leaves((before.params, before.opt_state, before.stream.carry))
            )
        alone = jax.jit(case.module.make_train(sweep.changed(config, second)).train)
        results = {run: alone(keys[run]) for run in (2, 3)}
    for run, (one, one_metrics) in results.items():
        for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(state.params), strict=True):
            np.testing.assert_allclose(a, b[run], atol=1e-5)
        for name in ("episode_return", "loss"):
            ours = [each[name][run] for each in found]
            np.testing.assert_allclose(one_metrics[name], ours, rtol=1e-5, atol=1e-5)
    differences = [np.abs(x[0] - x[2]).max() for x in jax.tree.leaves(state.params)]
    assert max(differences) > 1e-4, "settings must differ"


@pytest.mark.parametrize("algo", algos.TRAINERS)
def test_every_traced_field_is_a_number_that_is_no_count(algo):
    config = algos.TRAINERS[algo].Config()
    own = "epsilon_start" if algo == "pqn_arelit" else "ent_coef"
    assert {"learning_rate", "gamma", "gae_lambda", own} <= set(traced_fields(type(config)))
    for name in traced_fields(type(config)):
        assert type(getattr(config, name)) in (float, type(None)), name


# ------------------------------------------------------------------------------------------------------------
# The search


def plan(*texts, algo="a2c_arelit", random=False, num_settings=None, search_seed=0, flags=()):
    grid, drawn = ([], texts) if random else (texts, [])
    return sweep.plan(algo, grid, drawn, num_settings, search_seed, flags)


def test_a_grid_has_all_combinations_and_a_program_a_shape():
    search = plan("learning-rate=1e-3,2e-3", "core.d_model=16,32", "ent-coef=0,0.1")
    assert len(search.settings) == 8 and search.settings[0] == {
        "learning_rate": 1e-3, "core.d_model": 16, "ent_coef": 0.0,
    }  # fmt: skip
    assert [(c.learning_rate, c.core["d_model"], c.ent_coef) for c in search.configs] == [
        tuple(setting.values()) for setting in search.settings
    ]
    assert search.configs[0].core["n_layers"] == a2c_arelit.Config().core["n_layers"]
    programs = sweep.groups(search.settings, search.traced)
    assert [[search.settings[i]["core.d_model"] for i in each] for each in programs] == [[16] * 4, [32] * 4]


def test_fields_that_limit_each_other_are_searched_over_together():
    """None of these lengths divides the default number of steps."""
    search = plan(
        "sequence-length=24,48", algo="ppo_arelit", flags=["--num-steps", "48", "--num-minibatches", "1"]
    )
    assert [config.sequence_length for config in search.configs] == [24, 48]


def test_draws_are_different_in_range_and_the_same_for_the_same_seed():
    texts = ("learning-rate=log:1e-4:1e-2", "gamma=uniform:0.9:0.99", "num-envs=4,8", "num-steps=uniform:8:12")
    settings = plan(*texts, random=True, num_settings=64).settings
    assert settings == plan(*texts, random=True, num_settings=64).settings
    assert settings != plan(*texts, random=True, num_settings=64, search_seed=1).settings
    rates = np.array([each["learning_rate"] for each in settings])
    assert rates.min() >= 1e-4 and rates.max() <= 1e-2 and len(set(rates)) > 60
    assert 0.3 < np.mean(rates < 1e-3) < 0.7  # evenly on a log scale
    assert all(0.9 <= each["gamma"] <= 0.99 for each in settings)
    assert {each["num_envs"] for each in settings} == {4, 8}
    assert {each["num_steps"] for each in settings} == {8, 9, 10, 11, 12}
    assert len(plan("gamma=uniform:0.9:0.99", random=True).settings) == 16


A2C = "a2c_arelit"
RATES = ["--grid", "learning-rate=1e-3,2e-3"]


@pytest.mark.parametrize(
    "flags, words",
    [
        ([], ["trainer"]),
        (["a2c", *RATES], ["trainer='a2c'", "a2c_arelit"]),
        (["--preset", "default", A2C, *RATES], ["'--preset'", "must come first"]),
        ([A2C], ["--grid", "--random"]),
        ([A2C, *RATES, "--random", "gamma=uniform:0:1"], ["--grid", "one of the two"]),
        ([A2C, "--grid", "learning-rat=1,2"], ["--learning-rat", "--learning-rate"]),
        ([A2C, "--grid", "core.nu=1,2"], ["--core.nu"]),
        ([A2C, "--grid", "learning-rate="], ["'learning-rate='", "FIELD=VALUE"]),
        ([A2C, "--grid", "learning-rate=1,,2"], ["'learning-rate=1,,2'"]),
        ([A2C, "--grid", "learning-rate=1e-3,a"], ["learning_rate='a'", "a number"]),
        ([A2C, "--grid", "learning-rate=b,1e-3"], ["learning-rate='b'", "a number"]),
        ([A2C, "--grid", "num-envs=2,2.5"], ["num_envs='2.5'", "an integer"]),
        ([A2C, "--grid", f"core.d-model=8,{10**30}"], ["core.d_model=1000", "2^62"]),
        ([A2C, "--grid", "learning-rate=1e-3,nan"], ["learning_rate=nan", "finite"]),
        ([A2C, "--grid", "learning-rate=1e-3,-1"], ["learning_rate=-1.0", "greater than 0"]),
        ([A2C, "--grid", "gamma=0.9,1.5"], ["gamma=1.5", "from 0 to 1"]),
        ([A2C, "--grid", "core.n-heads=2,0"], ["core.n_heads=0"]),
        ([A2C, "--grid", "env.corridor-len=5,1000"], ["env.corridor_len=1000"]),
        ([A2C, "--grid", "learning-rate=1e-3,0.001"], ["learning_rate", "twice"]),
        ([A2C, *RATES, "--grid", "learning_rate=1"], ["learning_rate", "given twice"]),
        ([A2C, *RATES, "--learning-rate", "1"], ["learning_rate", "leave the flag out"]),
        ([A2C, *RATES, "--learning_rate=1"], ["learning_rate", "leave the flag out"]),
        ([A2C, "--grid", "seed=1,2"], ["seed", "--num-seeds"]),
        ([A2C, "--grid", "preset=default"], ["preset", "numbers"]),
        ([A2C, "--grid", "core.name=gru,lstm"], ["core.name", "numbers"]),
        ([A2C, "--grid", "anneal-learning-rate=True,False"], ["anneal_learning_rate", "numbers"]),
        ([A2C, *RATES, "--run-dir", "x"], ["run_dir='x'", "--output"]),
        ([A2C, *RATES, "--wandb", "online"], ["wandb='online'", "--wandb-sweep"]),
        ([A2C, *RATES, "--num-settings", "3"], ["num_settings=3", "--random"]),
        ([A2C, *RATES, "--surprise"], ["--surprise"]),
        ([A2C, *RATES, "--output", ""], ["output=''"]),
        ([A2C, *RATES, "--num-seeds", "40000"], ["2 settings x num_seeds=40000", "65536"]),
        ([A2C, *RATES, "--metric", "loss"], ["metric='loss'", "episode_success", "eval_return"]),
        ([A2C, "--random", "learning-rate=log:2:1"], ["learning_rate", "0 < LOW < HIGH"]),
        ([A2C, "--random", "ent-coef=log:0:1"], ["ent_coef", "0 < LOW < HIGH"]),
        ([A2C, "--random", "gamma=uniform:0.5:1.5"], ["gamma=1.5"]),
        ([A2C, "--random", "num-envs=uniform:1:4"], ["num_settings=16", "only 4"]),
        ([A2C, "--random", "gamma=uniform:0:1", "--num-settings", "0"], ["num_settings=0"]),
        ([A2C, "--random", "gamma=uniform:0:1", "--num-settings", "999999999"], ["999999999 settings"]),
        ([A2C, "--random", "gamma=uniform:0:1", "--search-seed", "-1"], ["search_seed=-1"]),
        ([A2C, *RATES, "--env.id", "gymnasium/CartPole-v1"], ["env.id='gymnasium/CartPole-v1'", "in JAX"]),
        (["ppo_arelit", "--grid", "num-minibatches=4,7"], ["num_minibatches=7", "divisor"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(flags, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["scripts/sweep.py", *flags])
    with pytest.raises(SystemExit) as end:
        sweep.main()
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    for word in words:
        assert word in err
    assert not list(tmp_path.iterdir()), "bad input must leave nothing behind"


# ------------------------------------------------------------------------------------------------------------
# A whole sweep, of the stub


@pytest.fixture
def main(monkeypatch, capsys):
    """Runs a sweep of the stub in this process: main(*flags) -> (exit code, stdout, stderr)."""
    for name, module in stub.MODULES.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(algos, "TRAINERS", {"stub": stub})
    monkeypatch.setitem(PRESETS, "stub", stub.PRESETS)
    monkeypatch.setattr(loop.curve, "draw", lambda *args: None)
    monkeypatch.setattr(loop.episode, "record", lambda *args: None)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["scripts/sweep.py", "stub", *map(str, flags)])
        capsys.readouterr()
        code = 0
        try:
            sweep.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


GRID = ("--grid", "learning-rate=0.01,0.1", "--grid", "core.d-model=6,8", "--seed", 3, "--num-seeds", 2)


def curves(path, setting):
    """Rows of a setting but for the clock, as a run's own metrics.csv has them."""
    rows = metrics.read(path / "curves.csv")
    return [
        {name: value for name, value in row.items() if name != "setting" and not name.startswith("time_")}
        for row in rows
        if row["setting"] == setting
    ]


def test_the_best_command_is_that_setting_alone(main, tmp_path, monkeypatch):
    code, out, err = main(*GRID, "--output", tmp_path / "sweep")
    assert code == 0 and "4 setting(s) x 2 seed(s) in 2 program(s)" in err, err
    table = pandas.read_csv(tmp_path / "sweep" / "results.csv")
    assert sorted(table.setting) == [0, 1, 2, 3] and list(table.status) == ["done"] * 4
    assert list(table.episode_return) == sorted(table.episode_return, reverse=True)
    for row in table.to_dict("records"):
        scores = np.array([row["seed_3"], row["seed_4"]])
        mean, half = confidence_interval(scores)
        assert [row["episode_return"], row["low"], row["high"]] == pytest.approx([mean, mean - half, mean + half])

    command = shlex.split((tmp_path / "sweep" / "best_command.txt").read_text())
    assert f"best: {shlex.join(command)}" in out and command[:2] == ["python", "algos/stub.py"]
    assert "The score of the best of 4 is that of a selected maximum" in out
    assert command.count("--seed") == 1 and command[command.index("--seed") + 1] == "5"  # 3 and 4 had a part in it
    command[command.index("--seed") + 1] = "3"
    monkeypatch.setattr(sys, "argv", [*command[1:], "--run-dir", str(tmp_path / "alone")])
    stub.main()
    best = table.iloc[0]
    config = yaml.safe_load((tmp_path / "alone" / "config.yaml").read_text())
    assert (config["learning_rate"], config["core"]["d_model"]) == (best.learning_rate, best["core.d_model"])
    alone = metrics.read(tmp_path / "alone" / "metrics.csv")
    ours = curves(tmp_path / "sweep", best.setting)
    assert len(ours) == 2 * stub.NUM_UPDATES
    for one, row in zip(sorted(alone, key=order), sorted(ours, key=order), strict=True):
        for name, value in row.items():
            assert value == (one[name] if one[name] is None else pytest.approx(one[name], rel=1e-4, abs=1e-5)), (
                name
            )
    assert (tmp_path / "sweep" / "results.png").stat().st_size > 5000
    about = yaml.safe_load((tmp_path / "sweep" / "sweep.yaml").read_text())
    assert about["search"] == {"learning_rate": [0.01, 0.1], "core.d_model": [6, 8]} and about["num_seeds"] == 2

    before = {file.name: file.read_bytes() for file in (tmp_path / "sweep").iterdir()}
    code, _, err = main(*GRID, "--output", tmp_path / "sweep")
    assert code == 2 and "already holds a sweep" in err and err.count("\n") == 1
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "sweep").iterdir()}


def test_a_random_search_trains_its_draws(main, tmp_path):
    texts = ("learning-rate=log:0.001:0.1", "core.d-model=6,8", "num-steps=uniform:3:4")
    random = [part for text in texts for part in ("--random", text)]
    code, _, err = main(*random, "--num-settings", 4, "--output", tmp_path)
    assert code == 0, err
    table = pandas.read_csv(tmp_path / "results.csv").sort_values("setting")
    settings = sweep.plan("stub", [], texts, 4, 0, []).settings
    assert table[["learning_rate", "core.d_model", "num_steps"]].to_dict("records") == settings
    assert list(table.status) == ["done"] * 4 and (tmp_path / "results.png").stat().st_size > 5000


def order(row):
    return row["seed"], row["update"]


def test_a_final_evaluation_as_the_score_is_the_trainers_own(main, tmp_path, monkeypatch):
    code, *_ = main("--grid", "learning-rate=0.05", "--metric", "eval_return", "--output", tmp_path / "sweep")
    assert code == 0
    table = pandas.read_csv(tmp_path / "sweep" / "results.csv")
    monkeypatch.setattr(sys, "argv", ["stub.py", "--learning-rate", "0.05", "--run-dir", str(tmp_path / "alone")])
    stub.main()
    last = metrics.read(tmp_path / "alone" / "metrics.csv")[-1]
    assert table.eval_return[0] == pytest.approx(last["eval_return"], rel=1e-5)
    assert np.isnan(table.low[0])  # one seed has no interval


def test_a_setting_that_diverges_is_reported_and_the_others_go_on(main, tmp_path):
    code, out, _ = main("--grid", "learning-rate=0.01,1e30", "--num-seeds", 2, "--output", tmp_path / "both")
    assert code == 0
    table = pandas.read_csv(tmp_path / "both" / "results.csv")
    assert list(table.setting) == [0, 1] and list(table.diverged) == [0, 2]
    assert table.status[1].startswith("diverged at update ") and "diverged at update" in out
    update = int(table.status[1].split()[-1])
    assert [row["update"] for row in curves(tmp_path / "both", 1)][-1] == update - 1
    main("--grid", "learning-rate=0.01", "--num-seeds", 2, "--output", tmp_path / "one")
    alone, ours = (curves(tmp_path / name, 0) for name in ("one", "both"))
    for one, row in zip(alone, ours, strict=True):
        assert row == {name: v if v is None else pytest.approx(v, rel=1e-5, abs=1e-6) for name, v in one.items()}
    code, _, err = main("--grid", "learning-rate=1e30,2e30", "--output", tmp_path / "none")
    assert code == 1 and "no setting has a value" in err
    assert len(pandas.read_csv(tmp_path / "none" / "results.csv")) == 2
    assert not (tmp_path / "none" / "best_command.txt").exists()


def test_one_diverged_seed_ranks_its_setting_last(main, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB_NAN", "1:20")
    code, _, err = main("--grid", "learning-rate=0.01,0.1", "--num-seeds", 2, "--output", tmp_path / "sweep")
    table = pandas.read_csv(tmp_path / "sweep" / "results.csv")
    assert code == 1 and list(table.diverged) == [1, 1] and list(table.status) == ["diverged at update 20"] * 2
    assert table.seed_1.isna().all() and table.episode_return.tolist() == table.seed_0.tolist()


def test_a_failure_leaves_what_was_written(main, tmp_path, monkeypatch):
    original, calls = sweep.compile_programs, []

    def compile_programs(*args):
        calls.append(args)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return original(*args)

    monkeypatch.setattr(sweep, "compile_programs", compile_programs)
    with pytest.raises(RuntimeError, match="out of memory"):
        main(*GRID, "--output", tmp_path)
    assert list(pandas.read_csv(tmp_path / "results.csv").status) == ["done"] * 2
    assert len(metrics.read(tmp_path / "curves.csv")) == 2 * 2 * stub.NUM_UPDATES


@pytest.mark.parametrize("free, bound", [(100, "at least "), (2000, "")])
def test_settings_that_do_not_fit_are_refused_at_once(main, tmp_path, monkeypatch, free, bound):
    monkeypatch.setattr(footprint, "bytes_available", lambda mesh: free)
    code, _, err = main("--grid", "learning-rate=1,2,3,4,5,6", "--num-seeds", 2, "--output", tmp_path / "sweep")
    assert code == 2 and f"error: num_seeds=2: an update needs {bound}" in err, err
    assert err.endswith("lower it, or num_envs=3 or num_steps=4 or the 6 settings side by side\n")
    assert "compiled in" not in err and not (tmp_path / "sweep").exists()


def test_nothing_is_left_of_a_sweep_that_fails_before_its_first_row(main, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(sweep, "compile_programs", lambda *args: exec('raise RuntimeError("out of memory")'))
        main(*GRID, "--output", tmp_path)
    assert main("--grid", "learning-rate=0.1", "--output", tmp_path)[0] == 0


def test_ctrl_c_writes_the_table_of_what_was_trained(main, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB_SLEEP", "0.02")

    def interrupt():
        while not (tmp_path / "curves.csv").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    shapes = ("--grid", "learning-rate=0.1,0.2", "--grid", "core.d-model=6,8")
    code, *_ = main(*shapes, "--total-timesteps", 12000, "--output", tmp_path)
    thread.join()
    assert code == 130
    table = pandas.read_csv(tmp_path / "results.csv")
    assert sorted(table.setting) == [0, 2], "the second program must not begin"
    assert table.status.str.startswith("stopped").all() and 0 < table.env_steps[0] < 12000
    rows = curves(tmp_path, 0)
    assert rows[-1]["env_steps"] == table.env_steps[0]


def test_the_score_is_the_mean_over_the_episodes_of_the_last_tenth(tmp_path):
    class Programs:
        columns = ["setting", *metrics.columns(["episode_return", "loss"], [])]

    config = a2c_arelit.Config(num_envs=1, num_steps=128, total_timesteps=128 * 100)
    log = sweep.RunLog([0, 1], [5], config, Programs, sweep.Curves(tmp_path / "curves.csv"))
    rng = np.random.default_rng(0)
    episodes, returns = rng.integers(0, 3, (100, 2)), rng.normal(size=(100, 2))
    episodes[90:, 1] = 0
    for update in range(100):
        log.add({"episodes": episodes[update], "episode_return": returns[update], "loss": np.zeros(2)})
    score = log.score("episode_return")
    assert score[0] == pytest.approx(np.average(returns[90:, 0], weights=episodes[90:, 0]))
    assert np.isnan(score[1])
    rows = metrics.read(tmp_path / "curves.csv")
    assert len(rows) == 2 * sweep.LOG_POINTS and {row["seed"] for row in rows} == {5}


def test_the_best_is_done_and_has_a_score_of_every_seed():
    """What has diverged stands last, whatever its other seeds reached; before it what was stopped or lacks one."""
    search = plan("learning-rate=1,2,3,4,5,6", flags=["--num-seeds", "2"])
    score = np.array([[5.0, 6.0], [9.0, np.nan], [7.0, 7.5], [99.0, np.nan], [np.nan, np.nan]])
    diverged = np.array([[0, 0], [0, 0], [0, 0], [0, 17], [4, 2]])
    stopped = sweep.Outcome([5], np.array([[50.0, 51.0]]), np.zeros((1, 2), int), 10, False)
    rows = sweep.table(
        search, "episode_return", [sweep.Outcome([0, 1, 2, 3, 4], score, diverged, 20, True), stopped]
    )
    assert [(row["setting"], row["status"]) for row in rows] == [
        (2, "done"),
        (0, "done"),
        (5, "stopped"),
        (1, "done, no episode ended"),
        (3, "diverged at update 17"),
        (4, "diverged at update 2"),
    ]
    assert [sweep.is_scored(row, "episode_return") for row in rows] == [True, True, True, True, False, False]


# ------------------------------------------------------------------------------------------------------------
# wandb


def agent_flags(content, parameters):
    """What `wandb agent` runs for one draw, by wandb's own functions, after the program."""
    from wandb.sdk.launch.sweeps import utils

    drawn = {"args": {name: {"value": value} for name, value in parameters.items()}}
    args = utils.create_sweep_command_args(drawn)["args"]
    command = utils.create_sweep_command(list(content["command"]))
    assert command[:3] == ["${env}", "${interpreter}", "${program}"] and command[-1] == "${args}"
    return [*command[3:-1], *args]


def write_yaml(path, monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["scripts/sweep.py", *flags, "--wandb-sweep", str(path)])
    sweep.main()
    return yaml.safe_load(path.read_text())


def test_wandb_runs_the_same_grid(tmp_path, monkeypatch):
    texts = ("learning-rate=1e-3,1e-5", "core.d-model=16,32")
    flags = ["--preset", "tmaze-arelit", "--num-seeds", "3", "--env.corridor-len", "20"]
    grid = [part for text in texts for part in ("--grid", text)]
    content = write_yaml(tmp_path / "sweep.yaml", monkeypatch, A2C, *grid, *flags)
    assert (content["program"], content["method"]) == ("algos/a2c_arelit.py", "grid")
    assert content["metric"] == {"name": "mean/episode_return", "goal": "maximize"}
    search, configs = plan(*texts, flags=flags), []
    for rate in content["parameters"]["learning_rate"]["values"]:
        for width in content["parameters"]["core.d_model"]["values"]:
            asked = agent_flags(content, {"learning_rate": rate, "core.d_model": width})
            parsed = cli.parse(a2c_arelit.Config, PRESETS[A2C], "doc", A2C, asked).config
            assert parsed.wandb == "online"
            configs.append(dataclasses.replace(parsed, wandb="disabled"))
    assert configs == search.configs


def test_wandb_draws_from_the_same_ranges(tmp_path, monkeypatch):
    texts = ("learning-rate=log:1e-4:1e-2", "gamma=uniform:0.9:0.99", "num-envs=4,8", "num-steps=uniform:8:12")
    random = [part for text in texts for part in ("--random", text)]
    content = write_yaml(tmp_path / "sweep.yaml", monkeypatch, A2C, *random, "--metric", "eval_return")
    assert (content["method"], content["run_cap"]) == ("random", 16)
    assert content["metric"]["name"] == "mean/eval_return"
    assert content["parameters"] == {
        "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "gamma": {"distribution": "uniform", "min": 0.9, "max": 0.99},
        "num_envs": {"values": [4, 8]},
        "num_steps": {"distribution": "int_uniform", "min": 8, "max": 12},
    }
    asked = agent_flags(content, {"learning_rate": 1.5e-4, "gamma": 0.95, "num_envs": 8, "num_steps": 9})
    config = cli.parse(a2c_arelit.Config, PRESETS[A2C], "doc", A2C, asked).config
    assert (config.learning_rate, config.gamma, config.num_envs, config.num_steps) == (1.5e-4, 0.95, 8, 9)
    with pytest.raises(SystemExit):  # the file is there
        write_yaml(tmp_path / "sweep.yaml", monkeypatch, A2C, *random)
    whole = sweep.plan(A2C, [], ["num-envs=log:2:64"], 4, 0, [])
    with pytest.raises(BadInput, match="num_envs.*log scale"):
        sweep.wandb_sweep(whole, "episode_return")
