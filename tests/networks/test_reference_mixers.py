"""The cores' mixers against what the official implementations compute (tests/golden_modern/README.md)."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import networks
from tests.networks.cases import assert_close, bounds

FILES = sorted((Path(__file__).parents[1] / "golden_modern").glob("*.npz"))
# Where gates, states or decays are extreme.
EXTREME = [path for path in FILES if path.stem.endswith(("strong_decay", "extreme_gates", "large", "clamped"))]
golden_files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def load(path):
    """(meta, arrays)"""
    with np.load(path) as file:
        arrays = dict(file)
    return json.loads(str(arrays["meta"])), arrays


def both_runs(arrays, dtype):
    """Inputs [T, 2, D], resets [T, 2], outputs [T, 2, d]: side by side without resets and with them."""
    step = "_step" if "outputs_step" in arrays else ""  # the form whose memory starts as it does here
    inputs = np.stack([arrays["inputs"]] * 2, axis=1)
    resets = np.stack([np.zeros_like(arrays["resets"]), arrays["resets"]], axis=1)
    outputs = np.stack([arrays[f"outputs{step}"], arrays[f"outputs_reset{step}"]], axis=1)
    return jnp.asarray(inputs, dtype), jnp.asarray(resets), outputs


@golden_files
def test_segment_steps_and_chunks_are_the_official_outputs(path, x64):
    meta, arrays = load(path)
    module, variables = networks.reference_mixer(meta, arrays)
    inputs, resets, expected = both_runs(arrays, jnp.float64)
    apply, length = jax.jit(module.apply), len(inputs)
    for pieces in ([length], [1] * length, [7] * (length // 7) + [1] * (length % 7)):
        carry, outputs = module.initialize_carry((2,)), []
        for start, stop in bounds(pieces):
            carry, output = apply(variables, carry, inputs[start:stop], resets[start:stop])
            outputs.append(output)
        assert_close(jnp.concatenate(outputs), expected, 1e-9 if meta["kind"] == "ffm" else 1e-10)


@pytest.mark.parametrize("path", EXTREME, ids=lambda path: path.stem)
def test_extremes_are_finite_in_float32(path):
    meta, arrays = load(path)
    module, variables = networks.reference_mixer(meta, arrays)
    inputs, resets, expected = both_runs(arrays, jnp.float32)
    carry = module.initialize_carry((2,))

    @jax.jit
    def run(variables, carry, inputs):
        outputs, pull = jax.vjp(lambda *args: module.apply(*args, resets)[1], variables, carry, inputs)
        return outputs, pull(jnp.ones_like(outputs))

    outputs, gradient = run(jax.tree.map(jnp.float32, variables), carry, inputs)
    assert outputs.dtype == jnp.float32
    assert_close(outputs, expected, 1e-4)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


# What a file may not say, by its kind: (label of a file, setting, value, what is said about it).
WRONG_SETTINGS = [
    ("mingru_a", "what", "mixer", "must be layer or block"),
    ("lru_a", "what", "block", "must be mixer or layer"),
    ("s5_a", "discretization", "foh", "must be zoh or bilinear"),
    ("s5_c_layer", "activation", "relu", "must be full_glu or half_glu1"),
    ("rtu_a_linear_relu", "activation", "gelu", "must be tanh or relu"),
    ("lru_c_layer", "ln_eps", 1e-5, "must be 1e-06"),
    ("rtu_a_linear_relu", "norm_eps", 1e-6, "must be 1e-08"),
    ("ffm_a", "context_size", 3, "must be even"),
    ("ffm_a", "ln_eps", 1e-6, "must be 1e-5"),
    ("mamba2_b", "n_groups", 4, "must divide num_heads=6"),
    ("gated_deltanet_b", "num_k_heads", 3, "must divide num_v_heads=4"),
    ("mlstm_a", "num_heads", 3, "must divide inner_dim=32"),
    ("mlstm_a", "qkv_proj_blocksize", 5, "must divide inner_dim=32"),
    ("mlstm_a", "cell_eps", 1e-5, "must be 1e-06"),
    ("memory_trace_a", "lams", [0.5, 1.0], "must be from 0 to below 1"),
]


@pytest.mark.parametrize("label,setting,value,message", WRONG_SETTINGS)
def test_wrong_settings_are_named(label, setting, value, message):
    meta, arrays = load(FILES[0].with_name(f"{label}.npz"))
    meta["settings"][setting] = value
    with pytest.raises(ValueError, match=f"settings.{setting}=.*{message}"):
        networks.reference_mixer(meta, arrays)


@golden_files
def test_wrong_files_are_named(path):
    meta, arrays = load(path)
    kind = meta["kind"]
    with pytest.raises(ValueError, match="kind='transformer': unknown; allowed: .*mingru"):
        networks.reference_mixer(meta | {"kind": "transformer"}, arrays)
    for name in (name for name in arrays if name.startswith("params/")):
        lacking = {key: x for key, x in arrays.items() if key != name}
        # gated DeltaNet takes some of its arrays by their plain names.
        if kind != "gated_deltanet":
            with pytest.raises(ValueError, match=f"{kind}: arrays: missing {name}"):
                networks.reference_mixer(meta, lacking)
            misshapen = arrays | {name: np.concatenate([arrays[name]] * 2)}
            with pytest.raises(ValueError):
                networks.reference_mixer(meta, misshapen)
    if kind != "gated_deltanet":
        with pytest.raises(ValueError, match=f"{kind}: arrays that are not part of it: params/another"):
            networks.reference_mixer(meta, arrays | {"params/another": np.zeros(2)})
    with pytest.raises(ValueError, match=f"{kind}: settings: missing"):
        networks.reference_mixer(meta | {"settings": {}}, arrays)


def test_eigenvalues_that_grow_are_refused():
    meta, arrays = load(FILES[0].with_name("s5_a.npz"))
    with pytest.raises(ValueError, match="Lambda_re has numbers that are not negative"):
        networks.reference_mixer(meta, arrays | {"params/Lambda_re": -arrays["params/Lambda_re"]})
