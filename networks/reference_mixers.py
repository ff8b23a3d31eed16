"""Mixers with the weights of the official implementations, from arrays by their official names.

Every core that has an official implementation translates for itself, by a function of its file

    from_reference(settings, arrays) -> (mixer, params, input_width)

with `settings` and `arrays` of one file, which complain about a name they lack; `mixer` is a flax module under
the contract of networks.blocks, `params` its tree of parameters and `input_width` the width of its inputs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks import ffm, frame_stack, gated_deltanet, lru, mamba2, memory_trace, mingru, mlstm, rtu
from networks.layers import common_dtype

# One line a kind of file.
TRANSLATIONS: dict[str, Callable] = {
    "mingru": mingru.from_reference,
    "lru": lru.lru_from_reference,
    "s5": lru.s5_from_reference,
    "rtu": rtu.from_reference,
    "ffm": ffm.from_reference,
    "mamba2": mamba2.from_reference,
    "gated_deltanet": gated_deltanet.from_reference,
    "mlstm": mlstm.from_reference,
    "frame_stack": frame_stack.from_reference,
    "memory_trace": memory_trace.from_reference,
}


class Named(dict):
    """A dictionary that names what it lacks, and remembers what it was asked for."""

    def __init__(self, what: str, values: Mapping[str, Any]):
        super().__init__(values)
        self.what = what
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.used.add(name)
        return super().__getitem__(name)

    def __missing__(self, name: str) -> Any:
        raise ValueError(f"{self.what}: missing {name}")


class ReferenceMixer(nn.Module):
    """A mixer or a block called like a core."""

    mixer: nn.Module

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Any:
        return self.mixer.initialize_carry(batch_shape)

    def __call__(self, carry: Any, inputs: jax.Array, resets: jax.Array) -> tuple[Any, jax.Array]:
        """inputs: [T, *batch, D]; resets: [T, *batch] bool. Returns (carry, outputs [T, *batch, d])."""
        carry, inputs = common_dtype(carry, inputs)
        return self.mixer(carry, inputs, jnp.logical_not(resets).astype(inputs.dtype))


def reference_mixer(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> tuple[nn.Module, dict[str, Any]]:
    """The mixer of one official module (or its block, where the settings say so) and its variables.

    Args:
        meta: `kind` names the core, `settings` are the official module's.
        arrays: the weights as "params/<official name>", and "plain/<name>" where the core's table has them; what
            else stands in a file (inputs, outputs) may be among them.

    Returns:
        (module, variables): module.initialize_carry(batch_shape), and
        module.apply(variables, carry, inputs [T, *batch, D], resets [T, *batch]) -> (carry, outputs).

    Raises:
        ValueError: unknown kind or setting, or arrays that are missing, left over or misshapen.
    """
    kind = meta.get("kind")
    if kind not in TRANSLATIONS:
        raise ValueError(f"kind={kind!r}: unknown; allowed: {', '.join(TRANSLATIONS)}")
    weights = {name: x for name, x in arrays.items() if name.startswith(("params/", "plain/"))}
    settings, weights = Named(f"{kind}: settings", meta.get("settings", {})), Named(f"{kind}: arrays", weights)
    mixer, params, input_width = TRANSLATIONS[kind](settings, weights)
    plain = any(name.startswith("plain/") for name in weights.used)
    if left_over := sorted(weights.keys() - weights.used - ({*arrays} if plain else set())):
        raise ValueError(f"{kind}: arrays that are not part of it: {', '.join(left_over)}")
    module, variables = ReferenceMixer(mixer), {"params": {"mixer": jax.tree.map(np.asarray, params)}}
    _check_shapes(kind, module, variables, input_width)
    return module, variables


def _check_shapes(kind: str, module: nn.Module, variables: dict[str, Any], input_width: int) -> None:
    carry, inputs = module.initialize_carry((1,)), jnp.zeros((1, 1, input_width))
    expected = jax.eval_shape(module.init, jax.random.key(0), carry, inputs, jnp.zeros((1, 1), bool))
    shapes = [
        {jax.tree_util.keystr(path[2:]): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (expected, variables)
    ]
    wrong = [
        f"{name} has shape {shapes[1].get(name)}, expected {shapes[0].get(name)}"
        for name in sorted({*shapes[0], *shapes[1]})
        if shapes[0].get(name) != shapes[1].get(name)
    ]
    if wrong:
        raise ValueError(f"{kind}: arrays of the wrong shape: {'; '.join(wrong)}")
