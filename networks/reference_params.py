"""Weights of the original repository (Pramanik et al., 2310.15719), as parameters of the cores here.

The original's flax modules name their arrays by path; `flat` maps such a path (without a leading "params/")
to an array. Where a core here computes several of the original's products as one, the matrices are put side
by side.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.relit import feature_width, gate_projections, kernel_projections


class _Flat:
    """The original's arrays under a path, remembering which were asked for and what was wrong with them."""

    def __init__(self, arrays: Mapping[str, np.ndarray], prefix: str = ""):
        self.arrays = arrays
        self.prefix = prefix
        self.used: set[str] = set()
        self.problems: list[str] = []

    def at(self, path: str) -> "_Flat":
        part = _Flat(self.arrays, f"{self.prefix}{path}/")
        part.used, part.problems = self.used, self.problems
        return part

    def take(self, path: str, *shape: int) -> np.ndarray:
        """The array, or zeros of the expected shape where it does not fit."""
        path = self.prefix + path
        self.used.add(path)
        if path not in self.arrays:
            self.problems.append(f"missing {path} {shape}")
            return np.zeros(shape, np.float32)
        array = np.asarray(self.arrays[path])
        if array.shape != shape:
            self.problems.append(f"{path} has shape {array.shape}, expected {shape}")
            return np.zeros(shape, np.float32)
        return array

    def kernels(self, names: str, *shape: int) -> np.ndarray:
        """The kernels of several Denses side by side."""
        return np.concatenate([self.take(f"{name}/kernel", *shape) for name in names.split()], axis=-1)

    def biases(self, names: str, *shape: int) -> np.ndarray:
        return np.concatenate([self.take(f"{name}/bias", *shape) for name in names.split()], axis=-1)

    def dense(self, name: str, d_in: int, d_out: int) -> dict[str, np.ndarray]:
        return {"kernel": self.kernels(name, d_in, d_out), "bias": self.biases(name, d_out)}

    def layer_norm(self, name: str, d: int) -> dict[str, np.ndarray]:
        return {"scale": self.take(f"{name}/scale", d), "bias": self.take(f"{name}/bias", d)}

    def gru_gate(self, name: str, d: int) -> dict[str, Any]:
        gate = self.at(name)
        return {
            "W": {"kernel": gate.kernels("Wr Wz Wg", d, d)},
            "U": {"kernel": gate.kernels("Ur Uz", d, d)},
            "U_g": {"kernel": gate.kernels("Ug", d, d)},
            "bias": gate.take("bgp", d),
        }


def _arelit(core: nn.Module, flat: _Flat, input_width: int) -> dict[str, Any]:
    d, heads = core.d_model, core.n_heads
    params: dict[str, Any] = {"embedding": flat.dense("layer1/emb_layer", input_width, d)}
    for i in range(core.n_layers):
        layer = flat.at(f"layer{i + 1}")
        attention = layer.at("AttentionORLiTLayer_0")
        params[f"layers_{i}"] = {
            "attention_norm": layer.layer_norm("LayerNorm_0", d),
            "kqvbg": attention.dense("linear_kqvbetagammas", d, heads * 5 * core.d_head),
            "expansions": attention.dense("linear_p1p2p3", d, heads * 3 * core.eta),
            "project": attention.dense("project", heads * core.d_head, d),
            "attention_gate": layer.gru_gate("GRUGatingUnit_0", d),
            "ffc_norm": layer.layer_norm("LayerNorm_1", d),
            "ffc_in": layer.dense("Dense_0", d, core.d_ffc),
            "ffc_out": layer.dense("Dense_1", core.d_ffc, d),
            "ffc_gate": layer.gru_gate("GRUGatingUnit_1", d),
        }
    return params


def _relit(core: nn.Module, flat: _Flat, input_width: int) -> dict[str, Any]:
    d, heads, d_head = core.d_model, core.n_heads, core.d_head
    settings = (core.kernel, d_head, core.nu)
    keys = kernel_projections(*settings)
    gates = {projection.name: projection for projection in gate_projections(core.update_rule, *settings)}
    # A factored projection, d_head outputs and their expansion, is a module of two Denses in the original.
    key_widths = [projection.width for projection in keys]
    gate_widths = []
    if "beta" in gates:
        gate_widths.append([gates["beta"].width])
    if "gamma" in gates:
        gate_widths.append([gate.width for name, gate in gates.items() if name.startswith("gamma")])

    def projections(flat: _Flat, d_in: int, widths: list[list[int]], first_dense: int = 0) -> list[dict]:
        """Projections of d_in numbers in the original's order: one a list of widths."""
        found, dense, factored = [], first_dense, 0
        for group in widths:
            if len(group) == 1:
                names, dense = [f"Dense_{dense}"], dense + 1
            else:
                names = [f"ParameteredProjection_{factored}/Dense_{j}" for j in range(len(group))]
                factored += 1
            for name, width in zip(names, group, strict=True):
                kernel, bias = flat.kernels(name, heads, d_in, width), flat.biases(name, heads, width)
                found.append({"kernel": np.moveaxis(kernel, 0, 1), "bias": bias})
        return found

    def side_by_side(denses: list[dict]) -> dict[str, np.ndarray]:
        return {name: np.concatenate([x[name] for x in denses], axis=-1) for name in ("kernel", "bias")}

    params: dict[str, Any] = {"embedding": flat.dense("layer0/emb_layer", input_width, d)}
    for i in range(core.n_layers):
        layer = flat.at(f"layer{i}")
        attention = layer.at("RLTAttentionLayer_0")
        inner = projections(attention.at("csop"), d, [key_widths, [d_head], *gate_widths])
        key, value, gate = inner[: len(keys)], inner[len(keys)], inner[len(keys) + 1 :]
        (query,) = projections(attention, d, [[d_head]])
        query_kernel = projections(attention, d_head, [key_widths], first_dense=1)
        output = "Dense_2" if len(keys) == 1 else "Dense_1"
        params[f"layers_{i}"] = {
            "attention_norm": layer.layer_norm("LayerNorm_0", d),
            "heads": side_by_side([value, query, *key, *gate]),
            "query_kernel": side_by_side(query_kernel),
            "project": attention.dense(output, heads * d_head, d),
            "attention_gate": layer.gru_gate("GRUGatingUnit_0", d),
            "ffc_norm": layer.layer_norm("LayerNorm_1", d),
            "ffc_in": layer.dense("Dense_0", d, core.d_ffc),
            "ffc_out": layer.dense("Dense_1", core.d_ffc, d),
            "ffc_gate": layer.gru_gate("GRUGatingUnit_1", d),
        }
        if core.update_rule == "mega":
            width = feature_width(*settings)
            constants = {"beta": d_head, "beta_damp": d_head, "gamma": width, "gamma_damp": width}
            params[f"layers_{i}"] |= {
                name: attention.take(f"csop/{name}", heads, width) for name, width in constants.items()
            }
    return params


def _gtrxl(core: nn.Module, flat: _Flat, input_width: int) -> dict[str, Any]:
    d, heads, d_head = core.d_model, core.n_heads, core.d_head
    position_width = 2 * -(-d // 2)
    params = {
        "embedding": flat.dense("embedding/layers_0", input_width, d),
        "u": flat.take("u", heads, d_head),
        "v": flat.take("v", heads, d_head),
    }
    for i in range(core.n_layers):
        layer = flat.at(f"layers_{i}")
        attention = layer.at("attention")
        position = attention.dense("project_pos", position_width, heads * d_head)  # its bias changes nothing
        params[f"layers_{i}"] = {
            "attention_norm": layer.layer_norm("layernorm1", d),
            "kv": attention.dense("attention_kv", d, 2 * heads * d_head),
            "query": attention.dense("attention_q", d, heads * d_head),
            "position": position["kernel"].reshape(position_width, heads, d_head),
            "project": attention.dense("project", heads * d_head, d),
            "attention_gate": layer.gru_gate("gate1", d),
            "mlp_norm": layer.layer_norm("layernorm2", d),
            "mlp_gate": layer.gru_gate("gate2", d),
        }
        for j in range(core.mlp_num):  # the original's list alternates with activations
            params[f"layers_{i}"][f"mlp_{j}"] = layer.dense(f"mlp/layers_{2 * j}/layers_0", d, d)
    return params


def _lstm(core: nn.Module, flat: _Flat, input_width: int) -> dict[str, Any]:
    params, d = {}, core.d_model
    for i in range(core.n_layers):
        cell = flat.at(f"LSTM_{i}/ScanLSTMout_0/OptimizedLSTMCell_0")
        params[f"layers_{i}"] = {
            "input": {"kernel": cell.kernels("ii if ig io", d if i else input_width, d)},
            "kernel": cell.kernels("hi hf hg ho", d, d),
            "bias": cell.biases("hi hf hg ho", d),
        }
    return params


def _gru(core: nn.Module, flat: _Flat, input_width: int) -> dict[str, Any]:
    params, d = {}, core.d_model
    for i in range(core.n_layers):
        cell = flat.at(f"GRU_{i}/ScanGRUout_0/GRUCell_0")
        kernel = cell.kernels("ir iz in", d if i else input_width, d)
        params[f"layers_{i}"] = {
            "input": {"kernel": kernel, "bias": cell.biases("ir iz in", d)},
            "kernel": cell.kernels("hr hz hn", d, d),
            "bias_n": cell.biases("hn", d),
        }
    return params


_LSTM, _GRU = "LSTM_0/ScanLSTMout_0/OptimizedLSTMCell_0", "GRU_0/ScanGRUout_0/GRUCell_0"
# By the class name of the core: (translation, paths of matrices whose first axis is the input's width).
_TRANSLATIONS = {
    "AReLiT": (_arelit, ["layer1/emb_layer/kernel"]),
    "ReLiT": (_relit, ["layer0/emb_layer/kernel"]),
    "GTrXL": (_gtrxl, ["embedding/layers_0/kernel"]),
    "LSTM": (_lstm, [f"{_LSTM}/{name}/kernel" for name in ("ii", "if", "ig", "io")]),
    "GRU": (_gru, [f"{_GRU}/{name}/kernel" for name in ("ir", "iz", "in")]),
}


def import_reference_params(core: nn.Module, flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Variables for core.apply from the original repository's weights.

    Args:
        core: the module of make_core, with the hyperparameters the weights were trained with.
        flat: array by path in the original's parameter tree, without "params/".

    Returns:
        {"params": ...}, the same tree as core.init returns.

    Raises:
        ValueError: no translation for this core, or arrays missing, left over or misshapen; lists them.
    """
    kind = type(core).__name__
    if kind not in _TRANSLATIONS:
        raise ValueError(f"core={kind}: the original repository has no such core")
    translate, input_paths = _TRANSLATIONS[kind]
    input_shapes = [np.shape(flat[path]) for path in input_paths if path in flat]
    input_width = next((shape[0] for shape in input_shapes if len(shape) == 2), 0)
    source = _Flat(flat)
    params = translate(core, source, input_width)
    left_over = sorted(set(flat) - source.used)
    problems = source.problems + [f"not part of this core: {path}" for path in left_over]
    if problems:
        raise ValueError(f"flat: does not fit this {kind}: " + "; ".join(problems))
    return {"params": jax.tree.map(jnp.asarray, params)}
