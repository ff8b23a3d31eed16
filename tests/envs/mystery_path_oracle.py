"""Traces of the original Mystery Path (tests/oracle/mystery_path/README.md)."""

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOLDER = Path(__file__).parents[1] / "oracle" / "mystery_path"
SETTINGS = ("default", "easy", "variant", "edge")
FILES = {f"MysteryPath-{grid}v0 {name}": f"mystery_path_{grid.lower().replace('-', '_')}{name}.npz"
         for grid in ("Grid-", "") for name in SETTINGS}  # fmt: skip
ENDLESS_FILES = ("endless_mystery_path_default.npz", "endless_mystery_path_variant.npz")


class Episode(NamedTuple):
    """An episode of T steps; arrays as the README names them."""

    env_id: str
    options: dict[str, Any]
    success: int | None  # None: the endless form has no success
    arrays: dict[str, np.ndarray]

    def __getitem__(self, name: Any) -> np.ndarray:
        return self.arrays[name]

    @property
    def path(self) -> np.ndarray:
        """bool [49]."""
        members = np.zeros((7, 7), bool)
        members[tuple(self.arrays["path"].T)] = True
        return members.ravel()

    @property
    def ends(self) -> tuple[int, int]:
        """Cell ids of origin and goal."""
        return tuple(int(7 * self.arrays[name][0] + self.arrays[name][1]) for name in ("start", "end"))


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / name) as file:
        return dict(file)


@functools.cache
def episodes(name: str) -> list[Episode]:
    arrays = load(name)
    meta = json.loads(str(arrays["meta"]))
    found = []
    for i, about in enumerate(meta["episodes"]):
        prefix = f"ep{i}_"
        own = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
        found.append(Episode(meta["env_id"], about["options"], about.get("info_success"), own))
    return found
