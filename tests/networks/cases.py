"""Cores small enough to test in every shape, found by the registry, and what the tests do with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import networks

# Variants of one core that run different code; the registry gives every core with its defaults besides.
VARIANTS = {
    "arelit": [{"r": 5}],
    "relit": [
        {"update_rule": "delta", "kernel": "eluplus1"},
        {"update_rule": "mega", "kernel": "dpfp"},
        {"update_rule": "gated_peng", "kernel": "relu"},
        {"update_rule": "keyvalue_gated", "kernel": "pp_eluplus1"},
    ],
    "gtrxl": [{"normalize_query": True, "memory_len": 7}],
    "rtu": [{"update": "nonlinear"}],
    "memory_trace": [{"episodic": True}],
}
INPUT_WIDTH = 4


def small(name: str, **settings):
    """The core with its counts cut down: 2 layers, where it has some, and 3 of everything else."""
    for field, default in networks.hyperparameters(name).items():
        if type(default) is int:
            settings.setdefault(field, 2 if field == "n_layers" else min(default, 3))
    return networks.make_core(name, **settings)


def case_ids() -> list[tuple[str, tuple]]:
    """(name, settings) of every registered core and of the variants."""
    cases = [(name, ()) for name in networks.CORES]
    return cases + [(name, tuple(settings.items())) for name in VARIANTS for settings in VARIANTS[name]]


def show(case) -> str:
    name, settings = case
    return "-".join([name, *[x if isinstance(x, str) else f"{field}={x}" for field, x in settings]])


class Harness:
    """A small core with parameters far from their initial ones, compiled by segment length."""

    def __init__(self, core, dtype):
        self.core, self.dtype = core, dtype
        inputs, resets = jnp.zeros((1, 1, INPUT_WIDTH), dtype), jnp.zeros((1, 1), bool)
        # Shapes alone: compiling the initialisers would take longer than the tests.
        shapes = jax.eval_shape(core.init, jax.random.key(0), core.initialize_carry((1,)), inputs, resets)
        rng = np.random.default_rng(0)

        def draw(path, leaf, bias):
            name = path[-1].key
            noise = rng.normal(0, 0.5, leaf.shape)
            values = 1 + 0.5 * noise if name == "scale" else bias * noise if name.startswith("bias") else noise
            return jnp.asarray(values, dtype)

        self.params = jax.tree_util.tree_map_with_path(lambda *leaf: draw(*leaf, bias=1), shapes)
        self.unbiased = jax.tree_util.tree_map_with_path(lambda *leaf: draw(*leaf, bias=0), shapes)
        self.apply = jax.jit(core.apply)

        @jax.jit
        def pull(params, carry, inputs, resets, d_carry, d_outputs):
            def run(params, carry, inputs):
                return core.apply(params, carry, inputs, resets)

            _, backward = jax.vjp(run, params, carry, inputs)
            return backward((d_carry, d_outputs))

        self.pull = pull

    def carry(self, batch: tuple[int, ...]):
        return jax.tree.map(
            lambda x: x.astype(self.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x,
            self.core.initialize_carry(batch),
        )

    def run(self, carry, inputs, resets, pieces):
        """Outputs and carry of the segment cut into pieces (lengths)."""
        outputs = []
        for start, stop in bounds(pieces):
            carry, output = self.apply(self.params, carry, inputs[start:stop], resets[start:stop])
            outputs.append(output)
        return carry, jnp.concatenate(outputs)

    def gradient(self, carry, inputs, resets, d_outputs, pieces):
        """Gradients (params, carry, inputs) of sum(d_outputs * outputs) of the segment cut into pieces."""
        carries = []
        for start, stop in bounds(pieces):
            carries.append(carry)
            carry, _ = self.apply(self.params, carry, inputs[start:stop], resets[start:stop])
        d_carry = jax.tree.map(zero_cotangent, carry)
        d_params, d_inputs = jax.tree.map(jnp.zeros_like, self.params), []
        for (start, stop), carry in reversed([*zip(bounds(pieces), carries, strict=True)]):
            more, d_carry, d_input = self.pull(
                self.params, carry, inputs[start:stop], resets[start:stop], d_carry, d_outputs[start:stop]
            )
            d_params = jax.tree.map(jnp.add, d_params, more)
            d_inputs.insert(0, d_input)
        return d_params, d_carry, jnp.concatenate(d_inputs)


@functools.cache
def harness(case, dtype) -> Harness:
    name, settings = case
    return Harness(small(name, **dict(settings)), dtype)


def bounds(pieces):
    stops = np.cumsum(pieces)
    return [*zip(stops - pieces, stops, strict=True)]


def zero_cotangent(x):
    is_float = jnp.issubdtype(x.dtype, jnp.floating)
    return jnp.zeros_like(x) if is_float else np.zeros(x.shape, jax.dtypes.float0)


def floats(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def segment(seed: int, length: int, batch: tuple[int, ...], dtype, reset_rate: float = 0.2):
    """Random inputs [T, *batch, D] and resets [T, *batch]."""
    rng = np.random.default_rng(seed)
    inputs = jnp.asarray(rng.normal(size=(length, *batch, INPUT_WIDTH)), dtype)
    return inputs, jnp.asarray(rng.random((length, *batch)) < reset_rate)


def assert_close(actual, expected, tolerance):
    """Equal relative to the largest number of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        if a.dtype == jax.dtypes.float0:
            continue
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1e-3, np.abs(b).max(initial=0)))
