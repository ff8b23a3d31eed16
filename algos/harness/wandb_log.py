"""Weights & Biases as a second place for the rows; metrics.csv is always written."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from algos.harness.errors import BadInput, one_line
from algos.harness.metrics import Row
from algos.harness.run_dir import CONFIG


class WandbLog:
    """Rows as `seed_<k>/<column>`, their means over the seeds as `mean/<column>`, over `env_steps`.

    Does nothing, and imports nothing, if mode is "disabled".

    Args:
        mode: "disabled", "offline" or "online".
        run_dir: the run directory; wandb's files go there too. A resumed run continues the same wandb run.
        config: the run's configuration as a plain mapping.

    Raises:
        BadInput: wandb cannot be started: before the training, so that nothing is lost.
    """

    def __init__(self, mode: Any, run_dir: Path, config: dict[str, Any]):
        self._run = None
        if mode == "disabled":
            return
        # The same after a resume, another in a copy of the directory.
        lines = (run_dir / CONFIG).read_text(encoding="utf-8").splitlines()
        started = [line for line in lines if line.startswith("# started")]
        identity = hashlib.sha256("\n".join([str(run_dir.resolve()), *started]).encode()).hexdigest()[:16]
        try:
            import wandb

            self._run = wandb.init(
                project="recurrent-linear-transformers-jax", name=run_dir.name, id=identity, resume="allow",
                mode=mode, dir=str(run_dir), config=config,
                settings=wandb.Settings(init_timeout=60),
            )  # fmt: skip
            self._run.define_metric("*", step_metric="env_steps")
        # Whatever goes wrong in a third party's start-up, the answer is the same.
        except Exception as error:
            raise BadInput(f"wandb={mode!r}: cannot be started: {one_line(error)[:300]}; "
                           "offline and disabled need no network") from error  # fmt: skip

    def log(self, rows: Sequence[Row]) -> None:
        """Sends the rows of one log point. A failure is reported once and ends the sending, not the run."""
        if self._run is None:
            return
        values = {
            f"seed_{row['seed']}/{name}": value
            for row in rows
            for name, value in row.items()
            if value is not None and name not in ("seed", "env_steps")
        }
        for name in rows[0]:  # what a sweep of wandb compares, whatever the seeds
            there = [value for row in rows if (value := row[name]) is not None]
            if there and name not in ("seed", "env_steps"):
                values[f"mean/{name}"] = sum(there) / len(there)
        self._try(lambda run: run.log({"env_steps": rows[0]["env_steps"], **values}))

    def finish(self) -> None:
        """Flushes and closes the wandb run."""
        if self._run is not None:
            self._try(lambda run: run.finish())

    def _try(self, action: Callable[[Any], None]) -> None:
        try:
            action(self._run)
        # The local files are complete without it, so no failure of a third party's service ends the run.
        except Exception as error:
            print(f"wandb failed, going on without it: {one_line(error)[:300]}", file=sys.stderr)
            self._run = None
