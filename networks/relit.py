"""ReLiT, the recurrent linear transformer (GaLiTe; Pramanik et al., arXiv 2310.15719, section 3).

Per head, with keys k and queries q of D features, values v of d_head, (x) the outer product:

    C_t = (1 - reset_t)(1 - beta_t (x) gamma_t) C_{t-1} + (beta_t v_t) (x) (gamma_t k_t)
    s_t = (1 - reset_t)(1 - gamma_t) s_{t-1} + gamma_t k_t
    a_t = C_t q_t / (s_t . q_t + 1e-10)

This is the update rule `projected_sigmoid`; the paper's ablations are `keyvalue_gated`, `gated_peng`, `delta`
and `mega` (see update_terms). Keys and queries come from one of five kernels (see feature_map) with
D = feature_width. C is d_head x D numbers per head, so it is read out as soon as it is made and never kept for
every t.

Plain form: `networks.plain_forms.relit_attention`, a loop over time.
"""

import functools
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.layers import Dense, common_dtype, gated_sublayers, orthogonal, product, run_layers
from networks.recurrence import MatrixInputs, default_form, linear_recurrence, matrix_recurrence

Kernel = Literal["relu", "eluplus1", "dpfp", "pp_relu", "pp_eluplus1"]
UpdateRule = Literal["projected_sigmoid", "keyvalue_gated", "gated_peng", "delta", "mega"]
SQRT2 = float(np.sqrt(2.0))
EPSILON = 1e-10


class LayerCarry(NamedTuple):
    """Memory of one layer."""

    matrix: jax.Array  # C [..., H, d_head, D]
    norm: jax.Array  # s [..., H, D]


class Projection(NamedTuple):
    """One of the linear maps that every head has: `width` outputs a head."""

    name: str
    width: int
    orthogonal: bool = True  # else flax's default initialiser

    @property
    def kernel_init(self):
        return orthogonal(SQRT2) if self.orthogonal else nn.initializers.lecun_normal()


def feature_width(kernel: Kernel, d_head: int, nu: int) -> int:
    """D, the number of features of a key or query."""
    return (2 if kernel == "dpfp" else 1) * d_head * nu


def kernel_projections(kernel: Kernel, d_head: int, nu: int) -> list[Projection]:
    """What a kernel reads: the linear maps of its input."""
    if kernel == "dpfp":
        return [Projection("key", d_head, orthogonal=False)]
    if kernel in ("relu", "eluplus1"):
        return [Projection("key", d_head * nu, orthogonal=False)]
    return [Projection("key", d_head), Projection("key_expansion", nu)]


def gate_projections(rule: UpdateRule, kernel: Kernel, d_head: int, nu: int) -> list[Projection]:
    """The linear maps behind an update rule's beta and gamma."""
    width = feature_width(kernel, d_head, nu)
    return {
        "projected_sigmoid": [
            Projection("beta", d_head),
            Projection("gamma", d_head),
            Projection("gamma_expansion", width // d_head),
        ],
        "keyvalue_gated": [Projection("beta", d_head), Projection("gamma", width)],
        "gated_peng": [Projection("beta", 1)],
        "delta": [Projection("beta", 1), Projection("gamma", 1)],
        "mega": [],
    }[rule]


def outer(vector: jax.Array, expansion: jax.Array) -> jax.Array:
    """Flattened outer product: [..., d], [..., n] to [..., d n], the expansion innermost."""
    return (vector[..., :, None] * expansion[..., None, :]).reshape(*vector.shape[:-1], -1)


def feature_map(kernel: Kernel, nu: int, projected: list[jax.Array]) -> jax.Array:
    """Features [..., D] from the kernel's projections [..., width]."""

    def activation(x):
        return nn.elu(x) + 1 if kernel.endswith("eluplus1") else nn.relu(x)

    if kernel == "dpfp":
        u = jnp.concatenate([nn.relu(projected[0]), nn.relu(-projected[0])], axis=-1)
        return jnp.concatenate([u * jnp.roll(u, j, axis=-1) for j in range(1, nu + 1)], axis=-1)
    activated = [activation(x) for x in projected]
    return outer(*activated) if len(activated) == 2 else activated[0]


def unit(x: jax.Array, epsilon: float = 0.0) -> jax.Array:
    """x / (|x| + epsilon) along the last axis; zero stays zero, and its gradient is finite."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    nonzero = square > 0
    return jnp.where(nonzero, x, 0.0) / (jnp.sqrt(jnp.where(nonzero, square, 1.0)) + epsilon)


class UpdateTerms(NamedTuple):
    """A step: C = (1 - b (x) g) C + (w - e C k) (x) k;  s = (1 - g_s) s + u_s."""

    row_gate: jax.Array  # b [..., d_head]
    column_gate: jax.Array  # g [..., D]
    row: jax.Array  # w [..., d_head]
    column: jax.Array  # k [..., D]
    norm_gate: jax.Array  # g_s [..., D or 1]
    norm_update: jax.Array  # u_s [..., D]
    erase: jax.Array | None = None  # e [...]


def update_terms(rule: UpdateRule, k: jax.Array, v: jax.Array, gates: dict[str, jax.Array]) -> UpdateTerms:
    """The update rule, for keys k [..., D], values v [..., d_head] and the sigmoids of its gates.

    projected_sigmoid   C = (1 - beta (x) gamma) C + beta v (x) gamma k          gamma = d_head (x) expansion
    keyvalue_gated      the same with a gamma of D free gates
    gated_peng          C = (1 - beta) C + beta v (x) k                          beta a scalar
    delta               C = (1 - gamma) C + gamma beta (v - C k) (x) k           beta, gamma scalars, |k| = 1
    mega                C = (1 - (beta (x) gamma)(beta' (x) gamma')) C + beta v (x) gamma k      all learned c
    """
    beta = gates["beta"]
    if rule == "gated_peng":
        return UpdateTerms(
            row_gate=jnp.broadcast_to(beta, v.shape),
            column_gate=jnp.ones_like(k),
            row=beta * v,
            column=k,
            norm_gate=beta,
            norm_update=beta * k,
        )
    gamma = gates["gamma"]
    if rule == "delta":
        rate = gamma * beta
        return UpdateTerms(
            row_gate=jnp.broadcast_to(gamma, v.shape),
            column_gate=jnp.ones_like(k),
            row=rate * v,
            column=k,
            norm_gate=gamma,
            norm_update=rate * k,
            erase=rate[..., 0],
        )
    if rule == "mega":
        beta_damp, gamma_damp = gates["beta_damp"], gates["gamma_damp"]
        return UpdateTerms(
            row_gate=jnp.broadcast_to(beta * beta_damp, v.shape),
            column_gate=jnp.broadcast_to(gamma * gamma_damp, k.shape),
            row=beta * v,
            column=gamma * k,
            norm_gate=gamma * gamma_damp,
            norm_update=gamma * k,
        )
    if "gamma_expansion" in gates:
        gamma = outer(gamma, gates["gamma_expansion"])
    return UpdateTerms(
        row_gate=beta,
        column_gate=gamma,
        row=beta * v,
        column=gamma * k,
        norm_gate=gamma,
        norm_update=gamma * k,
    )


def attention(
    settings: tuple[Kernel, UpdateRule, int],
    carry: LayerCarry,
    keep: jax.Array,
    key: Any,
    query: Any,
    value: jax.Array,
    gates: dict[str, jax.Array],
) -> tuple[LayerCarry, jax.Array]:
    """Features, recurrence and read-out.

    Args:
        settings: kernel, update rule, nu.
        carry: memory before the first step.
        keep: [T, ...], 0 where the step starts an episode, else 1.
        key, query: the kernel's projections [T, ..., H, width].
        value: [T, ..., H, d_head].
        gates: the update rule's by name [T, ..., H, width], before the sigmoid.

    Returns:
        (carry after the last step, a [T, ..., H, d_head]).
    """
    kernel, rule, nu = settings
    key, query = feature_map(kernel, nu, key), feature_map(kernel, nu, query)
    if rule == "delta":
        key, query = unit(key), unit(query, 1e-6)
    terms = update_terms(rule, key, value, jax.tree.map(nn.sigmoid, gates))
    keep = jnp.broadcast_to(keep[..., None], query.shape[:-1]).astype(query.dtype)  # [T, ..., H]
    matrix, readout = matrix_recurrence(
        carry.matrix,
        MatrixInputs(keep, terms.row_gate, terms.column_gate, terms.row, terms.column, query, terms.erase),
    )
    norm_decay = keep[..., None] * (1 - terms.norm_gate)
    norm = linear_recurrence(norm_decay, terms.norm_update, carry.norm, default_form())
    denominator = jnp.sum(norm * query, axis=-1, keepdims=True) + EPSILON
    return LayerCarry(matrix=matrix, norm=norm[-1]), readout / denominator


class HeadDense(nn.Module):
    """Several projections at once, each head with its own matrices.

    Of [..., d], read by every head, or with `per_head` of [..., H, d], each head reading its own row.
    Returns an array [..., H, width] for every projection.
    """

    projections: tuple[Projection, ...]
    n_heads: int
    per_head: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        widths = [projection.width for projection in self.projections]

        def init(key, shape, dtype=jnp.float32):
            def matrices(key, projection):  # [d, H, width]
                one_head = functools.partial(
                    projection.kernel_init, shape=(shape[0], projection.width), dtype=dtype
                )
                return jnp.moveaxis(jax.vmap(one_head)(jax.random.split(key, self.n_heads)), 0, 1)

            keys = jax.random.split(key, len(widths))
            return jnp.concatenate([*map(matrices, keys, self.projections)], axis=-1)

        kernel = self.param("kernel", init, (x.shape[-1], self.n_heads, sum(widths)))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.n_heads, sum(widths)))
        if self.per_head:
            x = jnp.einsum("...hi,iho->...ho", x, kernel)
        else:
            x = product(x, kernel.reshape(len(kernel), -1)).reshape(*x.shape[:-1], *kernel.shape[1:])
        return jnp.split(x + bias, np.cumsum(widths)[:-1], axis=-1)


class Block(nn.Module):
    """LayerNorm, attention, relu, gate; LayerNorm, feed-forward, relu, gate."""

    d_model: int
    d_head: int
    d_ffc: int
    n_heads: int
    nu: int
    kernel: Kernel
    update_rule: UpdateRule

    @nn.compact
    def __call__(self, carry: LayerCarry, x: jax.Array, keep: jax.Array) -> tuple[LayerCarry, jax.Array]:
        """x: [T, ..., d_model]; keep: [T, ...]. Returns (carry, [T, ..., d_model])."""

        sizes = (self.kernel, self.d_head, self.nu)
        key_maps, gate_maps = kernel_projections(*sizes), gate_projections(self.update_rule, *sizes)
        value_query = (Projection("value", self.d_head), Projection("query", self.d_head))
        normed = nn.LayerNorm(name="attention_norm")(x)
        projected = HeadDense((*value_query, *key_maps, *gate_maps), self.n_heads, name="heads")(normed)
        value, query, key, gates = *projected[:2], projected[2 : 2 + len(key_maps)], projected[2 + len(key_maps) :]
        query = HeadDense(tuple(key_maps), self.n_heads, per_head=True, name="query_kernel")(query)
        gates = {gate.name: x for gate, x in zip(gate_maps, gates, strict=True)}
        if self.update_rule == "mega":
            width, normal = feature_width(*sizes), nn.initializers.normal(0.2)
            widths = {"beta": self.d_head, "beta_damp": self.d_head, "gamma": width, "gamma_damp": width}
            gates = {name: self.param(name, normal, (self.n_heads, width)) for name, width in widths.items()}
        # Features are many times as wide as the projections they come from, so the gradient makes them again.
        attend = jax.checkpoint(functools.partial(attention, (self.kernel, self.update_rule, self.nu)))
        carry, attended = attend(carry, keep, key, query, value, gates)
        return carry, gated_sublayers(x, attended, self.d_ffc)


class ReLiT(nn.Module):
    """Stack of ReLiT blocks behind a Dense embedding."""

    n_layers: int = 4
    """blocks"""
    d_model: int = 128
    """width of inputs and outputs of a block"""
    d_head: int = 64
    """width of a head"""
    d_ffc: int = 128
    """width of the feed-forward layer"""
    n_heads: int = 4
    """heads"""
    nu: int = 2
    """expansion of keys and queries"""
    kernel: Kernel = "pp_relu"
    """how keys and queries become features"""
    update_rule: UpdateRule = "projected_sigmoid"
    """how the memory decays and takes in"""

    def setup(self):
        self.embedding = Dense(self.d_model, kernel_init=orthogonal(SQRT2))
        self.layers = [
            Block(self.d_model, self.d_head, self.d_ffc, self.n_heads, self.nu, self.kernel, self.update_rule)
            for _ in range(self.n_layers)
        ]

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> tuple[LayerCarry, ...]:
        """Empty memory; every leaf leads with batch_shape."""
        width = feature_width(self.kernel, self.d_head, self.nu)
        layer = LayerCarry(
            matrix=jnp.zeros((*batch_shape, self.n_heads, self.d_head, width)),
            norm=jnp.zeros((*batch_shape, self.n_heads, width)),
        )
        return (layer,) * self.n_layers

    def __call__(self, carry: tuple[LayerCarry, ...], inputs: jax.Array, resets: jax.Array):
        """inputs: [T, *batch, D]; resets: [T, *batch] bool, true where the input starts an episode.

        Returns (carry, outputs [T, *batch, d_model]).
        """
        carry, inputs = common_dtype(carry, inputs)
        return run_layers(self.layers, carry, self.embedding(inputs), jnp.logical_not(resets))
