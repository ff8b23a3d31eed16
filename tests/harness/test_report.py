"""What a row says of speed."""

import types

import numpy as np
import pytest

from algos.harness import report


@pytest.mark.parametrize("waited, rate", [(0.0, 2 * 30 / 6), (4.0, 2 * 30 / 2)])
def test_the_rate_of_a_row_leaves_out_what_was_waited_for_a_compilation(waited, rate, monkeypatch):
    now, rows = [100.0], []
    monkeypatch.setattr(report, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    file, wandb = types.SimpleNamespace(append=rows.extend), types.SimpleNamespace(log=lambda rows: None)
    told = report.Report(file, wandb, seeds=[5, 6], steps_per_update=30, num_updates=9, update=0, carried=None)
    numbers = np.ones(2, np.float32)
    told.add({"episodes": numbers, "episode_return": numbers, "loss": numbers}, np.array([True, True]))
    now[0] += 6.0
    told.leave_out(waited)
    told.write_rows()
    assert [row["time_env_steps_per_s"] for row in rows] == [rate, rate]
    assert [row["time_elapsed_s"] for row in rows] == [6.0, 6.0]
