import json
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algos
import envs
from algos.harness import LoadedRun
from scripts import evaluate
from tests.envs.host_environments import LIMIT
from tests.harness import stub


@pytest.fixture(autouse=True)
def stub_trainer(monkeypatch):
    """The stub as a trainer in algos/, with its own environments and cores."""
    for name, module in stub.MODULES.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(algos, "TRAINERS", {"stub": stub})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of two seeds, 3 and 4."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stub.MODULES.items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(sys, "argv", ["stub.py", "--seed", "3", "--num-seeds", "2", "--run-dir", str(path)])
        stub.main()
    return path


@pytest.fixture
def main(monkeypatch, capsys):
    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, flags)])
        try:
            evaluate.main()
            code = 0
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


def test_json_holds_means_and_intervals_of_every_seed_and_over_them(main, trained):
    code, out, _ = main(trained, "--episodes", 50, "--no-deterministic", "--json")
    assert code == 0
    result = json.loads(out)
    assert [each["seed"] for each in result["seeds"]] == [3, 4]
    assert (result["update"], result["env_steps"], result["episodes"]) == (25, 300, 50)
    means = [each["mean"] for each in result["seeds"]]
    assert result["all"]["mean"] == pytest.approx(np.mean(means))
    for each in [*result["seeds"], result["all"]]:
        low, high = each["interval"]
        assert low < each["mean"] < high
        assert low + high == pytest.approx(2 * each["mean"])


def test_episodes_are_new_for_every_seed_of_the_evaluation_and_the_same_for_the_same(main, trained):
    runs = [json.loads(main(trained, "--episodes", 5, "--json", "--seed", seed)[1]) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0]["seeds"] != runs[2]["seeds"]


def test_the_mode_of_the_policy_varies_less_than_its_draws(main, trained):
    widths = []
    for flag in ("--deterministic", "--no-deterministic"):
        low, high = json.loads(main(trained, "--episodes", 50, "--json", flag)[1])["seeds"][0]["interval"]
        widths.append(high - low)
    assert widths[0] < widths[1]


def test_one_episode_has_no_interval(main, trained):
    code, out, _ = main(trained, "--episodes", 1, "--json")
    assert code == 0 and json.loads(out)["seeds"][0]["interval"] is None
    code, out, _ = main(trained, "--episodes", 1)
    assert code == 0 and "nan" not in out


def test_the_table_has_a_line_a_seed_and_one_over_all(main, trained):
    code, out, _ = main(trained, "--episodes", 20)
    assert code == 0
    for word in ("seed 3", "seed 4", "all seeds", "300 steps", "stub/a", "20 fresh episodes"):
        assert word in out


@pytest.mark.parametrize(
    "flags, words",
    [
        (["nowhere"], ["run_dir='nowhere'", "config.yaml"]),
        ([], ["run_dir"]),
        (["RUN", "--episodes", "0"], ["episodes=0", "from 1 to 2^20"]),
        (["RUN", "--episodes", "1048577"], ["episodes=1048577", "from 1 to 2^20"]),
        (["RUN", "--determin"], ["--determin"]),
        (["RUN", "--episodes", "many"], ["--episodes", "'many'"]),
        (["RUN", "--seed", "-1"], ["seed=-1"]),
        (["RUN", "--surprise"], ["--surprise"]),
        (["EMPTY"], ["EMPTY", "no whole checkpoint"]),
        (["FOREIGN"], ["os.system", "no trainer of algos/"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(main, trained, tmp_path, flags, words):
    text = (trained / "config.yaml").read_text()
    for name, content in (("EMPTY", text), ("FOREIGN", text.replace("algo: stub", "algo: os.system"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(content)
    places = {"RUN": trained, "EMPTY": tmp_path / "EMPTY", "FOREIGN": tmp_path / "FOREIGN"}
    code, _, err = main(*[places.get(flag, flag) for flag in flags])
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1, err
    for word in words:
        assert word in err


# ----------------------------------------------------------------------------------------------------------------
# Environments in worker processes


@pytest.fixture
def hosted(monkeypatch):
    """A run of two seeds with 3 episodes an evaluation: hosted(factory) -> sizes of the evaluations played."""

    def make(factory):
        sizes = []

        def make_train(config):
            env, params = envs.make(config.env["id"], max_steps_in_episode=LIMIT, workers=1)

            def play(state, key, deterministic, count):
                def step(env_state, key):
                    _, env_state, reward, _, _ = jax.vmap(env.step_env, (0, 0, 0, None))(
                        jax.random.split(key, count), env_state, actions, params
                    )
                    return env_state, reward

                sizes.append(count)
                actions = jnp.ones(count, int)
                keys = jax.random.split(key, count)
                _, env_state = jax.vmap(env.reset_env, (0, None))(keys, params)
                rewards = jax.lax.scan(step, env_state, jax.random.split(key, LIMIT))[1]
                return {"episode_return": rewards.sum(0)}

            return SimpleNamespace(env=env, lives_on_host=True, evaluate=play)

        config = HostedConfig({"id": f"host/{factory}"})
        loaded = LoadedRun("hosted", config, make_train(config), jnp.zeros(2), 5)
        monkeypatch.setattr(evaluate, "load_run", lambda *args: loaded)
        return sizes

    return make


@dataclass
class HostedConfig:
    env: dict
    core: dict = field(default_factory=lambda: {"name": "none"})
    seed: int = 0
    num_seeds: int = 2
    num_envs: int = 1
    num_steps: int = 1
    eval_episodes: int = 3


@pytest.mark.parametrize("episodes, at_once", [(7, 3), (2, 2)])
def test_no_more_episodes_at_once_than_in_the_runs_own_evaluations(main, hosted, monkeypatch, episodes, at_once):
    """Each draws once, at its start, and pays that and the action in every step."""
    returns = []
    summaries = evaluate._summaries
    monkeypatch.setattr(
        evaluate,
        "_summaries",
        lambda measured, *how: returns.append(measured["return"]) or summaries(measured, *how),
    )
    sizes = hosted("tests.envs.host_environments:counter")
    code, out, err = main("run", "--episodes", episodes, "--json")
    assert code == 0, err
    assert json.loads(out)["episodes"] == episodes
    assert sizes == [at_once]  # compiled once
    by_seed = np.concatenate(returns[:2])
    assert by_seed.shape == (2 * episodes,) and len(set(by_seed)) == 2 * episodes  # rounds differ, and seeds
    assert ((by_seed > LIMIT) & (by_seed < 2 * LIMIT)).all()


def test_a_worker_that_fails_is_one_line_at_the_end_and_exit_code_1(main, hosted, tmp_path):
    faulty = tmp_path / "faulty.py"
    faulty.write_text(
        "from tests.envs.host_environments import Faulty\ndef third_step():\n    return Faulty('raise', 3)\n"
    )
    hosted(f"{faulty}:third_step")
    code, out, err = main("run", "--json")
    assert code == 1 and out == ""
    assert err.splitlines()[-1].endswith("raised EOFError: the ball is gone")
    assert [line for line in err.splitlines() if line.startswith("error: ")] == err.splitlines()[-1:]
