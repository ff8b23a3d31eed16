"""LRU (Orvieto et al., 2023, arXiv 2303.06349) and S5 (Smith et al., 2023, arXiv 2208.04933; in reinforcement
learning Lu et al., 2023, arXiv 2303.03982): one recurrence with a complex diagonal, two ways to its numbers.

    x_t = keep_t lambda * x_{t-1} + in * (B u_t)         y_t = gain Re(C x_t) + D * u_t

    LRU:            |lambda| = exp(-exp(nu_log))    arg lambda = exp(theta_log)    in = exp(gamma_log)    gain = 1
    S5, zoh:        lambda = exp(Lambda Delta)                                 in = (lambda - 1) / Lambda
    S5, bilinear:   lambda = (1 + Lambda Delta/2) / (1 - Lambda Delta/2)       in = Delta / (1 - Lambda Delta/2)
                    Lambda = -exp(a_log) + i b    Delta = exp(log_step)        gain = 2: n of n conjugate pairs

Lambda starts as the eigenvalues of HiPPO-LegS. Its real part is minus an exponential, so no parameter makes the
memory grow; the released code clips it, and a clip's gradient dies.

Plain form: what minimal-LRU bbd71b11 and lindermanlab/S5 3c18fdb6 compute (both MIT), in tests/golden_modern.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.blocks import LayerNorm, Stack
from networks.complex_pairs import Pair, pair_recurrence, polar, times
from networks.layers import Dense, product

Discretization = Literal["zoh", "bilinear"]
Activation = Literal["full_glu", "half_glu1"]
EPSILON = 1e-6  # of the LayerNorm


class System(NamedTuple):
    """The numbers of the recurrence for n complex states of width d."""

    decay: Pair  # lambda [n]
    scale: Pair  # `in` [n]
    B: jax.Array  # [d, 2, n], real and imaginary part
    C: jax.Array  # [2, n, d]
    gain: float


# (param of the module that holds the parameters, d) -> System
MakeSystem = Callable[[Callable, int], System]


def clear_of_0_and_1(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform numbers whose logarithms, and those of 1 minus them, are finite."""
    return jax.random.uniform(key, shape, jnp.float32, 1e-6, 1 - 1e-6)


def ring_init(r_min: float, r_max: float) -> Callable:
    """nu_log of |lambda| = exp(-exp(nu_log)), uniform by area between the radii r_min and r_max."""

    def init(key, shape, dtype=jnp.float32):
        square = clear_of_0_and_1(key, shape) * (r_max**2 - r_min**2) + r_min**2
        return jnp.log(-0.5 * jnp.log(square)).astype(dtype)

    return init


def phase_init(max_phase: float) -> Callable:
    """theta_log of angles uniform in 0 .. max_phase."""

    def init(key, shape, dtype=jnp.float32):
        return jnp.log(max_phase * clear_of_0_and_1(key, shape)).astype(dtype)

    return init


def lru_system(param: Callable, d: int, *, n: int, r_min: float, r_max: float, max_phase: float) -> System:
    nu_log = param("nu_log", ring_init(r_min, r_max), (n,))
    theta_log = param("theta_log", phase_init(max_phase), (n,))
    # sqrt(1 - |lambda|^2): the states of white noise then have variance 1, whatever their decay.
    gamma_log = param("gamma_log", lambda key: 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(nu_log))))
    gamma = jnp.exp(gamma_log)
    return System(
        decay=polar(jnp.exp(-jnp.exp(nu_log)), jnp.exp(theta_log)),
        scale=Pair(gamma, jnp.zeros_like(gamma)),
        B=param("B", nn.initializers.normal(1 / np.sqrt(2 * d)), (d, 2, n)),
        C=param("C", nn.initializers.normal(1 / np.sqrt(n)), (2, n, d)),
        gain=1.0,
    )


@functools.lru_cache
def hippo(n: int, n_blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """HiPPO-LegS made normal, n_blocks times along the diagonal, of which one of each conjugate pair is kept.

    Returns:
        (imaginary parts of the eigenvalues [n], ascending in each block; eigenvectors [2 n, n]). The real parts
        are -1/2.
    """
    size = 2 * n // n_blocks
    p = np.sqrt(np.arange(size) + 0.5)
    row, column = np.indices((size, size))
    A = -np.where(row > column, 2 * p[row] * p[column], 0.0) - np.diag(np.arange(1.0, size + 1))
    frequencies, vectors = np.linalg.eigh(-1j * (A + np.outer(p, p)))
    half = size // 2
    return np.tile(frequencies[:half], n_blocks), np.kron(np.eye(n_blocks), vectors[:, :half])


def s5_system(
    param: Callable,
    d: int,
    *,
    n: int,
    n_blocks: int = 1,
    discretization: Discretization = "zoh",
    step_min: float = 1e-3,
    step_max: float = 1e-1,
    gain: float = 2.0,
) -> System:
    def frequency_init(key):
        return jnp.asarray(hippo(n, n_blocks)[0], jnp.float32)

    def step_init(key):
        return jax.random.uniform(key, (n,), jnp.float32, np.log(step_min), np.log(step_max))

    def B_init(key):
        V = hippo(n, n_blocks)[1]
        B = nn.initializers.lecun_normal()(key, (2 * n, d))
        return jnp.stack([V.real.T @ B, -V.imag.T @ B], axis=1).transpose(2, 1, 0).astype(jnp.float32)

    def C_init(key):
        # Both parts of every number have variance 1 / 2n. (The released code's lecun_normal counts d times as many
        # inputs: D u would outweigh the memory sqrt(d) times.)
        V = hippo(n, n_blocks)[1]
        C_re, C_im = jax.random.normal(key, (2, d, 2 * n)) / np.sqrt(2 * n)
        parts = [C_re @ V.real - C_im @ V.imag, C_re @ V.imag + C_im @ V.real]
        return jnp.stack(parts).transpose(0, 2, 1).astype(jnp.float32)

    a = -jnp.exp(param("a_log", nn.initializers.constant(np.log(0.5)), (n,)))
    b = param("b", frequency_init)
    step = jnp.exp(param("log_step", step_init))
    decay, scale = discretize(a, b, step, discretization)
    return System(decay, scale, B=param("B", B_init), C=param("C", C_init), gain=gain)


def discretize(a: jax.Array, b: jax.Array, step: jax.Array, discretization: Discretization) -> tuple[Pair, Pair]:
    """(lambda, in) of Lambda = a + i b and Delta = step, all [n]."""
    if discretization == "zoh":
        decay = polar(jnp.exp(a * step), b * step)
        # lambda - 1, without the cancellation of small steps.
        change = Pair(jnp.expm1(a * step) * jnp.cos(b * step) - 2 * jnp.square(jnp.sin(b * step / 2)), decay.im)
        return decay, times(change, inverse(Pair(a, b)))
    shrink = inverse(Pair(1 - a * step / 2, -b * step / 2))
    return times(Pair(1 + a * step / 2, b * step / 2), shrink), Pair(step * shrink.re, step * shrink.im)


def inverse(x: Pair) -> Pair:
    square = jnp.square(x.re) + jnp.square(x.im)
    return Pair(x.re / square, -x.im / square)


class DiagonalSSM(nn.Module):
    """The recurrence; `system` makes its numbers."""

    n: int
    system: MakeSystem

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Pair:
        zeros = jnp.zeros((*batch_shape, self.n))
        return Pair(zeros, zeros)

    @nn.compact
    def __call__(self, carry: Pair, x: jax.Array, keep: jax.Array) -> tuple[Pair, jax.Array]:
        """carry: pair of [..., n]; x: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., d])."""
        d = x.shape[-1]
        system = self.system(self.param, d)
        D = self.param("D", nn.initializers.normal(1.0), (d,))
        projected = Pair(*jnp.split(product(x, system.B.reshape(d, -1)), 2, axis=-1))
        keep = keep[..., None]
        decay = Pair(keep * system.decay.re, keep * system.decay.im)
        states = pair_recurrence(decay, times(system.scale, projected), carry)
        readout = product(jnp.concatenate([states.re, -states.im], axis=-1), system.C.reshape(-1, d))
        return Pair(states.re[-1], states.im[-1]), system.gain * readout + D * x


class Layer(nn.Module):
    """x + glu(gelu(ssm(norm(x)))), the official codes' layer; after the norm or before it.

    full_glu: (W_1 y + b_1) * sigmoid(W_2 y + b_2). half_glu1: y * sigmoid(W_2 y + b_2).
    """

    n: int
    system: MakeSystem
    activation: Activation = "full_glu"
    prenorm: bool = True

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Pair:
        return DiagonalSSM(self.n, self.system, parent=None).initialize_carry(batch_shape)

    @nn.compact
    def __call__(self, carry: Pair, x: jax.Array, keep: jax.Array) -> tuple[Pair, jax.Array]:
        """x: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., d])."""
        d, norm = x.shape[-1], LayerNorm(epsilon=EPSILON, name="norm")
        carry, y = DiagonalSSM(self.n, self.system, name="ssm")(carry, norm(x) if self.prenorm else x, keep)
        y = nn.gelu(y)
        if self.activation == "full_glu":
            y, gate = jnp.split(Dense(2 * d, name="glu")(y), 2, axis=-1)
        else:
            gate = Dense(d, name="glu")(y)
        x = x + y * nn.sigmoid(gate)
        return carry, x if self.prenorm else norm(x)


class LRU(Stack):
    """Stack of LRU layers with LayerNorm in front and a gated linear unit behind."""

    n_layers: int = 4
    """layers"""
    d_model: int = 128
    """width of inputs and outputs of a layer"""
    d_state: int = 128
    """complex numbers of the state"""
    r_min: float = 0.0
    """smallest |lambda| at the start"""
    r_max: float = 1.0
    """largest |lambda| at the start; 0.9 to 0.999 for long memory"""
    max_phase: float = 6.28
    """largest angle of lambda at the start, in radians; 0.314 for long memory"""

    def __post_init__(self):
        for name in ("r_min", "r_max"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"core.{name}={value}: must be from 0 to 1")
        if self.r_min >= self.r_max:
            raise ValueError(f"core.r_min={self.r_min}: must be smaller than r_max={self.r_max}")
        if not 0 < self.max_phase < float("inf"):
            raise ValueError(f"core.max_phase={self.max_phase}: must be greater than 0")
        super().__post_init__()

    @nn.nowrap
    def block(self, **flax: Any) -> Layer:
        ring = dict(r_min=self.r_min, r_max=self.r_max, max_phase=self.max_phase)
        return Layer(self.d_state, functools.partial(lru_system, n=self.d_state, **ring), **flax)

    @nn.nowrap
    def norm(self) -> nn.Module:
        return LayerNorm(epsilon=EPSILON)


class S5(Stack):
    """Stack of S5 layers with LayerNorm in front and a gated linear unit behind."""

    n_layers: int = 4
    """layers"""
    d_model: int = 128
    """width of inputs and outputs of a layer"""
    d_state: int = 128
    """complex numbers of the state, one for each conjugate pair"""
    n_blocks: int = 1
    """HiPPO matrices along the diagonal at the start; divides d_state"""
    discretization: Discretization = "zoh"
    """zoh (zero-order hold) or bilinear"""
    activation: Activation = "full_glu"
    """the gated linear unit: full_glu or half_glu1"""
    step_min: float = 1e-3
    """smallest time step at the start"""
    step_max: float = 1e-1
    """largest time step at the start"""

    def __post_init__(self):
        if self.d_state % self.n_blocks:
            raise ValueError(f"core.n_blocks={self.n_blocks}: must divide d_state={self.d_state}")
        if not 0 < self.step_min < float("inf"):
            raise ValueError(f"core.step_min={self.step_min}: must be greater than 0")
        if not self.step_min < self.step_max < float("inf"):
            raise ValueError(f"core.step_max={self.step_max}: must be greater than step_min={self.step_min}")
        super().__post_init__()

    @nn.nowrap
    def block(self, **flax: Any) -> Layer:
        system = functools.partial(
            s5_system,
            n=self.d_state,
            n_blocks=self.n_blocks,
            discretization=self.discretization,
            step_min=self.step_min,
            step_max=self.step_max,
        )
        return Layer(self.d_state, system, self.activation, **flax)

    @nn.nowrap
    def norm(self) -> nn.Module:
        return LayerNorm(epsilon=EPSILON)


def lru_from_reference(settings: dict, arrays: dict) -> tuple[nn.Module, dict, int]:
    """Of minimal-LRU: `LRU` ("mixer") or `SequenceLayer` ("layer"). See networks.reference_mixers."""
    prefix = _prefix("lru", settings)
    params = {name: arrays[f"{prefix}{name}"] for name in ("nu_log", "theta_log", "gamma_log", "D")}
    params["B"] = np.stack([arrays[f"{prefix}B_re"].T, arrays[f"{prefix}B_im"].T], axis=1)
    params["C"] = np.stack([arrays[f"{prefix}C_re"].T, arrays[f"{prefix}C_im"].T])
    n = settings["d_hidden"]
    system = functools.partial(lru_system, n=n, r_min=0.0, r_max=1.0, max_phase=6.28)
    return *_mixer_or_layer("lru", "normalization", n, system, settings, arrays, params), settings["d_model"]


def s5_from_reference(settings: dict, arrays: dict) -> tuple[nn.Module, dict, int]:
    """Of lindermanlab/S5: `S5SSM` ("mixer") or `SequenceLayer` ("layer"). See networks.reference_mixers."""
    prefix = _prefix("s5", settings)
    discretization = settings["discretization"]
    if discretization not in get_args(Discretization):
        raise ValueError(f"s5: settings.discretization={discretization!r}: must be zoh or bilinear")
    a = arrays[f"{prefix}Lambda_re"]
    if settings["clip_eigs"]:
        a = np.minimum(a, -1e-4)
    if np.any(a >= 0):
        raise ValueError(f"s5: arrays: {prefix}Lambda_re has numbers that are not negative: the memory would grow")
    params = {
        "a_log": np.log(-a),
        "b": arrays[f"{prefix}Lambda_im"],
        "log_step": arrays[f"{prefix}log_step"].reshape(-1),
        "B": arrays[f"{prefix}B"].transpose(1, 2, 0),
        "C": arrays[f"{prefix}C"].transpose(2, 1, 0),
        "D": arrays[f"{prefix}D"],
    }
    n, gain = settings["P"], 2.0 if settings.get("conj_sym", True) else 1.0
    system = functools.partial(s5_system, n=n, discretization=discretization, gain=gain)
    return *_mixer_or_layer("s5", "norm", n, system, settings, arrays, params), settings["d_model"]


def _prefix(kind, settings):
    prefixes = {"mixer": "params/", "layer": "params/seq."}
    if settings["what"] not in prefixes:
        raise ValueError(f"{kind}: settings.what={settings['what']!r}: must be mixer or layer")
    return prefixes[settings["what"]]


def _mixer_or_layer(kind, norm, n, system, settings, arrays, params):
    """(module, params): the recurrence alone, or in its layer."""
    if settings["what"] == "mixer":
        return DiagonalSSM(n, system), params
    if (epsilon := settings.get("ln_eps", EPSILON)) != EPSILON:
        raise ValueError(f"{kind}: settings.ln_eps={epsilon}: must be {EPSILON}")
    activation = settings.get("activation", "full_glu")
    if activation not in get_args(Activation):
        raise ValueError(f"{kind}: settings.activation={activation!r}: must be full_glu or half_glu1")
    outs = ("out1", "out2") if activation == "full_glu" else ("out2",)
    glu = {
        name: np.concatenate([arrays[f"params/{out}.{name}"] for out in outs], -1) for name in ("kernel", "bias")
    }
    norm = {name: arrays[f"params/{norm}.{name}"] for name in ("scale", "bias")}
    return Layer(n, system, activation, settings["prenorm"]), {"ssm": params, "glu": glu, "norm": norm}
