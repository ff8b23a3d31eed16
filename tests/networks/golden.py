"""The golden vectors of the released modules (tests/golden/README.md)."""

import json
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import numpy as np

import networks

FILES = sorted((Path(__file__).parents[1] / "golden").glob("*.npz"))
RENAMED = {"head_dim": "d_head", "embedding_dim": "d_model", "head_num": "n_heads", "layer_num": "n_layers"}


class Golden(NamedTuple):
    kind: str
    core: nn.Module
    flat: dict[str, np.ndarray]
    inputs: np.ndarray  # [T, 1, D]
    resets: np.ndarray  # [T, 1]
    outputs: np.ndarray  # [T, 1, d], one step at a time
    final_state: list[np.ndarray]


def load(path: Path) -> Golden:
    with np.load(path) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays["meta"]))
    kind = meta.pop("kind")
    settings = {RENAMED.get(k, k): v for k, v in meta.items() if k not in ("seed", "T", "input_dim")}
    states = sorted((k for k in arrays if k.startswith("final_state")), key=lambda k: int(k.split("/")[1]))
    return Golden(
        kind=kind,
        core=networks.make_core(kind, **settings),
        flat={k.removeprefix("params/"): v for k, v in arrays.items() if k.startswith("params/")},
        inputs=arrays["inputs"][:, None],
        resets=arrays["terminations"][:, None],
        outputs=arrays["outputs_stepwise"][:, None],
        final_state=[arrays[k] for k in states],
    )


def by_kind(kind: str) -> list[Path]:
    return [path for path in FILES if path.stem.startswith(kind)]
