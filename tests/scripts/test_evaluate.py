import importlib.machinery
import json
import sys

import numpy as np
import pytest

from scripts import evaluate
from tests.harness import stub


@pytest.fixture(autouse=True)
def stub_trainer(monkeypatch):
    """The stub as a trainer in algos/, with its own environments and cores."""
    for name, module in stub.MODULES.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(stub, "__spec__", importlib.machinery.ModuleSpec("algos.stub", None))
    monkeypatch.setitem(sys.modules, "algos.stub", stub)


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
        (["RUN", "--episodes", "0"], ["episodes=0", "at least 1"]),
        (["RUN", "--episodes", "many"], ["--episodes", "'many'"]),
        (["RUN", "--seed", "-1"], ["seed=-1"]),
        (["RUN", "--surprise"], ["--surprise"]),
        (["EMPTY"], ["EMPTY", "no whole checkpoint"]),
        (["FOREIGN"], ["os.system", "no module of algos/"]),
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
