"""Released weights: the golden vectors, every ReLiT rule and kernel, and errors that say what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import networks
from tests.networks import golden, relit_numpy
from tests.networks.cases import assert_close

golden_files = pytest.mark.parametrize("path", golden.FILES, ids=lambda path: path.stem)


def tolerance(kind):
    return 1e-4 if kind in ("relit", "gtrxl") else 1e-5


@golden_files
def test_tree_is_that_of_init(path):
    case = golden.load(path)
    carry = case.core.initialize_carry((1,))
    expected = jax.eval_shape(case.core.init, jax.random.key(0), carry, case.inputs, case.resets)
    variables = networks.import_reference_params(case.core, case.flat)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, expected)


@golden_files
@pytest.mark.parametrize("piece", [1, 48])
def test_outputs_are_the_released_ones(path, piece):
    case = golden.load(path)
    variables = networks.import_reference_params(case.core, case.flat)
    apply, carry, outputs = jax.jit(case.core.apply), case.core.initialize_carry((1,)), []
    for t in range(0, len(case.inputs), piece):
        part = slice(t, t + piece)
        carry, output = apply(variables, carry, case.inputs[part], case.resets[part])
        outputs.append(output)
    assert_close(jnp.concatenate(outputs), case.outputs, tolerance(case.kind))
    if case.kind in ("lstm", "gru"):
        assert_close([leaf[0] for leaf in jax.tree.leaves(carry)], case.final_state, 1e-5)


@pytest.mark.parametrize("rule", ["projected_sigmoid", "keyvalue_gated", "gated_peng", "delta", "mega"])
@pytest.mark.parametrize("kernel", ["relu", "eluplus1", "dpfp", "pp_relu", "pp_eluplus1"])
def test_every_relit_rule_and_kernel(rule, kernel, x64):
    """Against a loop over steps and heads in numpy that reads the original's arrays by name."""
    settings = {"n_layers": 1, "d_model": 6, "d_head": 4, "d_ffc": 5, "n_heads": 2, "nu": 3}
    core = networks.make_core("relit", kernel=kernel, update_rule=rule, **settings)
    rng = np.random.default_rng(0)
    shapes = relit_numpy.shapes(core, input_width=3)
    flat = {path: rng.normal(0, 0.5, shape) for path, shape in shapes.items()}
    inputs, resets = rng.normal(size=(20, 3)), rng.random(20) < 0.15
    expected = relit_numpy.apply(core, flat, inputs, resets)
    variables = networks.import_reference_params(core, flat)
    carry = core.initialize_carry((1,))
    outputs = jax.jit(core.apply)(variables, carry, inputs[:, None], resets[:, None])[1]
    assert_close(outputs[:, 0], expected, 1e-9)


@golden_files
def test_errors_list_every_array(path):
    case = golden.load(path)
    names = sorted(case.flat)
    missing, misshapen = names[1], names[-2]
    flat = case.flat | {misshapen: np.zeros((3, 1, 4)), "layer9/Dense_0/kernel": np.zeros(2)}
    del flat[missing]
    with pytest.raises(ValueError) as error:
        networks.import_reference_params(case.core, flat)
    message = str(error.value)
    assert f"missing {missing}" in message
    assert f"{misshapen} has shape (3, 1, 4), expected {case.flat[misshapen].shape}" in message
    assert "not part of this core: layer9/Dense_0/kernel" in message
    assert message.count(";") == 2


@golden_files
def test_any_single_array_is_needed(path):
    case = golden.load(path)
    for name in case.flat:
        flat = {k: v for k, v in case.flat.items() if k != name}
        with pytest.raises(ValueError, match=f"missing {name}"):
            networks.import_reference_params(case.core, flat)


def test_a_core_the_original_lacks():
    with pytest.raises(ValueError, match="FeedForward"):
        networks.import_reference_params(networks.make_core("feedforward"), {})
