"""Several processes, on one or many hosts, that run one job together: what each has to know of the others.

All of them run the same program in the same order, each on its own devices. The first alone touches the disk and
prints. In a run of one process everything here is an identity.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from algos.harness.errors import BadInput, RunError, one_line

_MESSAGE_BYTES = 2000


def is_alone() -> bool:
    """Whether this process is all of the job; does not start the backend, for which bad input need not wait."""
    return not jax.distributed.is_initialized() or jax.process_count() == 1


def is_first() -> bool:
    """Whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def on_all(fn: Callable[[], Any]) -> Any:
    """What `fn` returns in this process; called in all processes together.

    Raises:
        BadInput, RunError: in every process, where `fn` raised it in any.
    """
    if is_alone():
        return fn()
    result, message = None, b""
    try:
        result = fn()
    except (BadInput, RunError) as error:
        message = f"{type(error).__name__} {one_line(error)}".encode()[:_MESSAGE_BYTES]
    padded = np.frombuffer(message.ljust(_MESSAGE_BYTES, b"\0"), np.uint8)
    for received in np.asarray(multihost_utils.process_allgather(padded), np.uint8):
        if received.any():
            kind, _, text = bytes(received).rstrip(b"\0").decode(errors="replace").partition(" ")
            raise (BadInput if kind == "BadInput" else RunError)(text)
    return result


def on_first(fn: Callable[[], Any]) -> Any:
    """What `fn` returns in the first process; None in the others, where it is not called. Raises as on_all."""
    return on_all(lambda: fn() if is_first() else None)


def check_same(fields: Mapping[str, Any]) -> None:
    """Raises BadInput in every process, with one that differs, unless all processes have the same fields.

    Nothing else would notice: each would train its part of the job with its own settings.
    """
    if is_alone():
        return
    lines = [f"{name}={value!r}" for name, value in fields.items()]
    text = "\n".join(lines).encode()
    length = int(from_first(np.int32(len(text))))
    padded = np.frombuffer(text[:length].ljust(length, b"\0"), np.uint8)
    first = bytes(np.asarray(from_first(padded), np.uint8)).decode().split("\n")

    def compare() -> None:
        for here, there in itertools.zip_longest(lines, first, fillvalue="no more fields"):
            if here != there:
                raise BadInput(
                    f"{here}: in process {jax.process_index()}, but {there} in process 0; "
                    "all processes of a job must get the same flags"
                )

    on_all(compare)


def from_first(tree: Any) -> Any:
    """The arrays of the first process, in every process; elsewhere `tree` gives their shapes and types only."""
    return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def is_loss(error: Exception) -> bool:
    """Whether JAX raised this because another process cannot be reached."""
    # JAX has no class for it: gloo's failures come as ValueError, NCCL's as JaxRuntimeError.
    return jax.process_count() > 1 and any(word in str(error) for word in ("Gloo", "NCCL", "oordination service"))


def placed(tree: Any, shardings: Any) -> Any:
    """Arrays that every process has whole, laid out by `shardings`; each process keeps its part."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)

    def place(leaf: Any, sharding: NamedSharding) -> jax.Array:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        whole = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        array = jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if is_key else array

    return jax.tree.map(place, tree, shardings)


def gathered(tree: Any, mesh: Mesh) -> Any:
    """Begins to copy arrays that lie on the mesh to every process; fetching the result waits for them."""
    return tree if jax.process_count() == 1 else _copy(mesh)(tree)


@functools.cache
def _copy(mesh: Mesh) -> Callable[[Any], Any]:
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))


def local(tree: Any) -> Any:
    """The same values as arrays that lie in this process; called in all processes together."""

    def fetch(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        # One leaf after the other, so that no device has to hold the whole.
        array = multihost_utils.process_allgather(jax.random.key_data(leaf) if is_key else leaf, tiled=True)
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if is_key else array

    return jax.tree.map(fetch, tree)


def marks(mesh: Mesh, number: int) -> jax.Array:
    """int32 [devices]: where each device is, the number that its process gave."""
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    return jax.make_array_from_callback(
        (mesh.size,), sharding, lambda index: np.full(mesh.size, number, np.int32)[index]
    )
