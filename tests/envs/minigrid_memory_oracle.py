"""Episodes of the original MiniGrid-Memory (tests/oracle/minigrid_memory/README.md)."""

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOLDER = Path(__file__).parents[1] / "oracle" / "minigrid_memory"
NAMES = ("S7", "S9", "S11", "S13", "S13Random", "S17Random")
FILES = tuple(sorted(path.stem.removeprefix("minigrid_memory_") for path in FOLDER.glob("*_view*.npz")))


class Episode(NamedTuple):
    """An episode of T steps; arrays [T, ...], and [T + 1, ...] with the first observation."""

    policy: str
    layout: np.ndarray
    max_steps: int
    outer_limit: int
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    seen: np.ndarray
    direction: np.ndarray
    pos: np.ndarray


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"minigrid_memory_{name}.npz") as file:
        return dict(file)


def made_with(name: str) -> tuple[str, dict[str, Any]]:
    """(id, options of what is observed) of a file."""
    meta = json.loads(str(load(name)["meta"]))
    frame = {"observation": "frame", "tile_size": meta["tile"]} if meta["tile"] else {}
    return meta["env_id"], {"agent_view_size": meta["agent_view_size"], **frame}


def episodes(name: str) -> list[Episode]:
    arrays = load(name)
    about = json.loads(str(arrays["meta"]))["episodes"]
    found, begin = [], 0
    for e, length in enumerate(arrays["length"]):
        steps, rows = slice(begin, begin + length), slice(begin + e, begin + e + length + 1)
        begin += length
        found.append(
            Episode(
                about[e]["policy"],
                arrays["layout"][e],
                int(arrays["max_steps"][e]),
                int(arrays["outer_limit"][e]),
                *(arrays[key][steps] for key in ("actions", "rewards", "terminated", "truncated")),
                *(arrays[key][rows] for key in ("rgb" if "rgb" in arrays else "image", "direction", "pos")),
            )
        )
    return found
