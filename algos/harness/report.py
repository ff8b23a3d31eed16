"""Where the numbers of a run go: metrics.csv, the progress bar, wandb."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from algos.harness import metrics, processes
from algos.harness.errors import RunError
from algos.harness.metrics import MetricsFile
from algos.harness.wandb_log import WandbLog


def say(message: str) -> None:
    """One line on stderr that leaves the progress bar whole; of several processes the first says it."""
    if processes.is_first():
        tqdm.write(message, file=sys.stderr)


class Report:
    """Collects the metrics of single updates and writes a row a seed at every log point.

    Args:
        file, wandb: where the rows go; None in the processes of a job that do not write.
        seeds: the seeds, in the order of the arrays' leading axis.
        steps_per_update: environment steps of one update of one seed.
        num_updates: length of the run.
        update: updates already done.
        carried: what `carry` gave when the run was last saved.

    Attributes:
        diverged: the update at which a seed's metrics or parameters were first not finite, by seed. It has no
            further rows.

    Raises:
        RunError: all seeds have diverged, or a row cannot be written.
    """

    def __init__(
        self,
        file: MetricsFile | None,
        wandb: WandbLog | None,
        seeds: Sequence[int],
        steps_per_update: int,
        num_updates: int,
        update: int,
        carried: Mapping[str, Any] | None,
    ):
        self._file, self._wandb, self._seeds = file, wandb, seeds
        self._steps_per_update, self._num_updates = steps_per_update, num_updates
        self.update = update
        carried = carried or {"interval": [], "elapsed_s": 0.0, "diverged": {}}
        self._interval = carried["interval"]
        self.diverged = {int(seed): at for seed, at in carried["diverged"].items()}
        self._start = time.monotonic() - carried["elapsed_s"]
        self.restart_clock()
        all_steps = len(seeds) * steps_per_update
        self.bar = tqdm(
            total=num_updates * all_steps, initial=update * all_steps, unit=" env steps", unit_scale=True,
            mininterval=0.2 if sys.stderr.isatty() else 30.0, dynamic_ncols=True, smoothing=0.1,
            disable=not processes.is_first(),
        )  # fmt: skip

    def restart_clock(self) -> None:
        """Leaves what was done since the last row (evaluation, saving) out of the next row's rate."""
        self._mark, self._marked_update = time.monotonic(), self.update

    def leave_out(self, seconds: float) -> None:
        """Leaves time in which no update could run (it waited for a compilation) out of the next row's rate."""
        self._mark += seconds

    def carry(self) -> dict[str, Any]:
        """What a resumed run needs to write the same rows, as JSON: the interval begun and the time taken."""
        elapsed_s = time.monotonic() - self._start
        diverged = {str(seed): at for seed, at in self.diverged.items()}
        return {"interval": self._interval, "elapsed_s": elapsed_s, "diverged": diverged}

    def add(self, update_metrics: Mapping[str, jax.Array], is_whole: jax.Array) -> None:
        """Waits for the metrics [S] of the next update, and whether each seed is still whole, bool [S]."""
        fetched, is_whole = jax.device_get((dict(update_metrics), is_whole))
        self.update += 1
        for index in np.flatnonzero(~is_whole).tolist():
            if (seed := self._seeds[index]) in self.diverged:
                continue
            self.diverged[seed] = self.update
            what = f"{metrics.not_finite(fetched, index) or 'a parameter'}: not finite in seed {seed} at update "
            what += f"{self.update}; "
            if len(self.diverged) == len(self._seeds):
                raise RunError(f"{what}stopped, the checkpoints hold the state before it")
            say(f"{what}it stays as it was before, the other seeds go on")
        # A float32 is exact as a Python float, and that as JSON, which has no NaN.
        self._interval.append({name: _plain(values) for name, values in fetched.items()})
        self.bar.update(len(self._seeds) * self._steps_per_update)

    def write_rows(self, evaluation: Mapping[str, jax.Array] | None = None) -> None:
        """Closes the interval with a row a seed; `evaluation` holds [S, E] values of E episodes."""
        now = time.monotonic()
        steps = (self.update - self._marked_update) * self._steps_per_update * len(self._seeds)
        clock = {"time_elapsed_s": now - self._start}
        if steps:
            clock["time_env_steps_per_s"] = steps / (now - self._mark)
        evaluated = {}
        if evaluation is not None:
            fetched = jax.device_get(dict(evaluation))
            means = {name: np.mean(values, axis=1, dtype=float) for name, values in fetched.items()}
            evaluated = {metrics.evaluation_column(name): mean for name, mean in means.items()}
        rows = [
            {
                "seed": seed,
                "update": self.update,
                "env_steps": self.update * self._steps_per_update,
                **metrics.reduce(self._interval, index),
                **{name: float(values[index]) for name, values in evaluated.items()},
                **clock,
            }
            for index, seed in enumerate(self._seeds)
            if seed not in self.diverged
        ]
        if self._file is not None and self._wandb is not None:
            self._file.append(rows)
            self._wandb.log(rows)
        self._interval = []
        self.restart_clock()
        returns = [row["episode_return"] for row in rows if row["episode_return"] is not None]
        if returns:
            self.bar.set_postfix_str(f"return {np.mean(returns):.4g}", refresh=False)


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
