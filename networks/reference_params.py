"""Weights of the original repository (Pramanik et al., 2310.15719), as parameters of the cores here.

The original's flax modules name their arrays by path; `flat` maps such a path (without a leading "params/") to
an array. Where a core here computes several of the original's products as one, the matrices are put side by
side.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class _Flat:
    """The original's arrays, remembering which were used and which were sought in vain."""

    def __init__(self, arrays: Mapping[str, np.ndarray], prefix: str = ""):
        self.arrays = arrays
        self.prefix = prefix
        self.used: set[str] = set()
        self.missing: list[str] = []

    def at(self, path: str) -> "_Flat":
        """The arrays under a path; use is recorded in this one."""
        part = _Flat(self.arrays, f"{self.prefix}{path}/")
        part.used, part.missing = self.used, self.missing
        return part

    def __getitem__(self, path: str) -> np.ndarray:
        path = self.prefix + path
        if path not in self.arrays:
            self.missing.append(path)
            return np.zeros((1, 1), np.float32)
        self.used.add(path)
        return np.asarray(self.arrays[path])

    def columns(self, *paths: str) -> np.ndarray:
        """The matrices of several Denses side by side."""
        parts = [self[path] for path in paths]
        if len({part.shape[0] for part in parts}) > 1:  # reported by the caller, as missing or as misshapen
            return np.zeros((0, 0), np.float32)
        return np.concatenate(parts, axis=-1)


def dense(flat: _Flat) -> dict[str, np.ndarray]:
    return {"kernel": flat["kernel"], "bias": flat["bias"]}


def layer_norm(flat: _Flat) -> dict[str, np.ndarray]:
    return {"scale": flat["scale"], "bias": flat["bias"]}


def gru_gate(flat: _Flat) -> dict[str, Any]:
    return {
        "W": {"kernel": flat.columns("Wr/kernel", "Wz/kernel", "Wg/kernel")},
        "U": {"kernel": flat.columns("Ur/kernel", "Uz/kernel")},
        "U_g": {"kernel": flat["Ug/kernel"]},
        "bias": flat["bgp"],
    }


def _arelit(core: nn.Module, flat: _Flat) -> dict[str, Any]:
    params = {"embedding": dense(flat.at("layer1/emb_layer"))}
    for i in range(core.n_layers):
        layer = flat.at(f"layer{i + 1}")
        attention = layer.at("AttentionORLiTLayer_0")
        params[f"layers_{i}"] = {
            "attention_norm": layer_norm(layer.at("LayerNorm_0")),
            "kqvbg": dense(attention.at("linear_kqvbetagammas")),
            "expansions": dense(attention.at("linear_p1p2p3")),
            "project": dense(attention.at("project")),
            "attention_gate": gru_gate(layer.at("GRUGatingUnit_0")),
            "ffc_norm": layer_norm(layer.at("LayerNorm_1")),
            "ffc_in": dense(layer.at("Dense_0")),
            "ffc_out": dense(layer.at("Dense_1")),
            "ffc_gate": gru_gate(layer.at("GRUGatingUnit_1")),
        }
    return params


# By the class name of the core: (translation, path of the array whose first axis is the input's width).
_TRANSLATIONS = {
    "AReLiT": (_arelit, "layer1/emb_layer/kernel"),
}


def import_reference_params(core: nn.Module, flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Variables for core.apply from the original repository's weights.

    Args:
        core: the module of make_core, with the hyperparameters the weights were trained with.
        flat: array by path in the original's parameter tree, without "params/".

    Returns:
        {"params": ...}, the same tree as core.init returns.

    Raises:
        ValueError: no translation for this core, or arrays missing, left over or of the wrong shape; lists them.
    """
    kind = type(core).__name__
    if kind not in _TRANSLATIONS:
        raise ValueError(f"core={kind}: the original repository has no such core")
    translate, input_path = _TRANSLATIONS[kind]
    source = _Flat(flat)
    input_width = source[input_path].shape[0]
    params = translate(core, source)
    problems = [f"missing {path}" for path in sorted(set(source.missing))]
    problems += [f"not part of this core: {path}" for path in sorted(set(flat) - source.used)]
    if not problems:
        inputs, resets = jnp.zeros((1, 1, input_width)), jnp.zeros((1, 1), bool)
        expected = jax.eval_shape(core.init, jax.random.key(0), core.initialize_carry((1,)), inputs, resets)
        expected = dict(jax.tree_util.tree_leaves_with_path(expected["params"]))
        for path, array in jax.tree_util.tree_leaves_with_path(params):
            if array.shape != expected[path].shape:
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                problems.append(f"{name}: shape {array.shape}, expected {expected[path].shape}")
    if problems:
        raise ValueError(f"flat: does not fit {core}: " + "; ".join(problems))
    return {"params": jax.tree.map(jnp.asarray, params)}
