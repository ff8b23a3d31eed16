"""Recorded episodes of classic control and of POBAX (tests/oracle), one row per step."""

import json
import pathlib
import types

import numpy as np

ORACLE = pathlib.Path(__file__).parents[1] / "oracle"


def load(name):
    """The arrays of a file, and `meta` where it has one."""
    with np.load(ORACLE / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files if key != "meta"}
        meta = json.loads(str(file["meta"])) if "meta" in file.files else None
    return types.SimpleNamespace(**arrays, meta=meta)


def by_step(name):
    """A file of classic control with the rows `before` and `after` each step, its `time` and `episode`."""
    data = load(f"classic_control/{name}")
    data.episode = np.repeat(np.arange(len(data.length)), data.length)
    data.before = np.arange(len(data.episode)) + data.episode  # arrays of what is seen have a row more per episode
    data.after = data.before + 1
    data.first = np.cumsum(data.length + 1) - data.length - 1
    data.time = data.before - data.first[data.episode]
    return data
