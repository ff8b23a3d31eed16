import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from algos.harness import checkpoint, loop, metrics, restore
from tests.harness import stub

STUB = Path(stub.__file__)


@pytest.fixture(autouse=True)
def stub_modules(monkeypatch):
    for name, module in stub.MODULES.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def main(monkeypatch, capfd):
    """Runs the stub without pictures in this process: main(*flags) -> (exit code, stderr)."""
    monkeypatch.setattr(loop.curve, "draw", lambda *args: None)
    monkeypatch.setattr(loop.episode, "record", lambda *args: None)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["stub.py", *map(str, flags)])
        capfd.readouterr()
        code = 0
        try:
            stub.main()
        except SystemExit as end:
            code = end.code
        return code, capfd.readouterr().err

    return run


def start(*flags, **environment) -> subprocess.Popen:
    """Starts the stub in a process of its own, by default without pictures, which take most of its time."""
    environment = {"STUB_PLAIN": 1, **environment}
    return subprocess.Popen(
        [sys.executable, str(STUB), *map(str, flags)],
        env=os.environ | {name: str(value) for name, value in environment.items()},
        stderr=subprocess.PIPE,
        text=True,
    )


def final_state(run_dir: Path, config: stub.Config | None = None):
    """The RunnerState in the newest checkpoint."""
    config = config or stub.Config()
    abstract = restore.abstract_state(stub.make_train(config), config.num_seeds)
    _, state, _ = checkpoint.Checkpoints(run_dir / "checkpoints").restore(abstract, pytest.fail)
    return state


def final_arrays(run_dir: Path, config: stub.Config | None = None) -> dict[str, np.ndarray]:
    """The newest checkpoint's arrays by name."""
    return checkpoint.to_arrays(final_state(run_dir, config))


def rows_without_clock(run_dir: Path) -> list[dict]:
    rows = metrics.read(run_dir / "metrics.csv")
    return [{name: cell for name, cell in row.items() if not name.startswith("time_")} for row in rows]


def assert_same_run(one: Path, other: Path, config: stub.Config | None = None) -> None:
    """The rows but for the clock, and every array of the last checkpoint, bit for bit."""
    assert rows_without_clock(one) == rows_without_clock(other)
    assert_same_arrays(final_state(one, config), final_state(other, config))


def assert_same_arrays(one, other) -> None:
    expected, got = checkpoint.to_arrays(one), checkpoint.to_arrays(other)
    assert expected.keys() == got.keys()
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)
