"""Traces of the original POPGym (tests/oracle/popgym/README.md), as batches of episodes."""

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOLDER = Path(__file__).parents[1] / "oracle" / "popgym"
LAYOUT = ("deck", "value_deck", "query_deck", "board", "mines", "bandits", "grid", "start", "end")


class Traces(NamedTuple):
    """E episodes of at most T steps; what lies behind an episode's end is zero."""

    meta: dict[str, Any]
    length: np.ndarray  # int [E]
    layout: dict[str, np.ndarray]  # of every episode
    actions: np.ndarray  # int32 [E, T]
    draws: np.ndarray  # float32 [E, T], the bandits' random numbers, else zeros
    obs: np.ndarray  # float32 [E, T + 1, size], one-hot
    rewards: np.ndarray  # float64 [E, T]
    terminated: np.ndarray  # bool [E, T]
    truncated: np.ndarray  # bool [E, T]

    def running(self, extra: int = 0) -> np.ndarray:
        """Which steps belong to an episode: bool [E, T + extra]; with an extra one, which observations."""
        return np.arange(self.actions.shape[1] + extra) < self.length[:, None] + extra


@functools.cache
def generators() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "generators.npz") as file:
        return dict(file)


@functools.cache
def traces(task: str) -> Traces:
    with np.load(FOLDER / f"{task}.npz") as file:
        arrays = dict(file)
    meta, length = json.loads(str(arrays["meta"])), arrays["length"]
    steps = _batched(length)
    sizes = meta["observation_sizes"]
    one_hot = [np.eye(size, dtype=np.float32)[arrays["obs"][:, i]] for i, size in enumerate(sizes)]
    return Traces(
        meta=meta,
        length=length,
        layout={name: arrays[name] for name in LAYOUT if name in arrays},
        actions=steps(arrays["actions"].astype(np.int32)),
        draws=steps(arrays.get("draws", np.zeros(len(arrays["actions"]))).astype(np.float32)),
        obs=_batched(length + 1)(np.concatenate(one_hot, 1)),
        rewards=steps(arrays["rewards"]),
        terminated=steps(arrays["terminated"]),
        truncated=steps(arrays["truncated"]),
    )


def _batched(length: np.ndarray):
    """A function from rows of all episodes one after the other to [E, longest, ...]."""
    running = np.arange(length.max()) < length[:, None]

    def batch(rows: np.ndarray) -> np.ndarray:
        batched = np.zeros((*running.shape, *rows.shape[1:]), rows.dtype)
        batched[running] = rows
        return batched

    return batch
