"""Checkpoints: the whole RunnerState of all seeds, atomic, two kept, a damaged one found before it is used.

    checkpoints/<update>/        written by orbax, under another name until it is whole
    checkpoints/<update>/SHA256  one line a file; written last, so a checkpoint without it is not whole

Arrays are stored by name ("params.torso.kernel") from host memory, so a checkpoint is independent of the
number of devices. Typed PRNG keys are stored as their key data. Nothing here is pickled.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algos.harness.errors import BadInput, RunError, one_line, writing

DIGESTS = "SHA256"
TEMPORARY = ".orbax-checkpoint-tmp"


class Checkpoints:
    """The checkpoints of one run directory.

    Args:
        directory: <run directory>/checkpoints; made by the first save.
        keep: how many to keep.
    """

    def __init__(self, directory: Path, keep: int = 2):
        self.directory = directory.absolute()
        self._keep = keep

    def updates(self) -> list[int]:
        """The update counts that have a checkpoint, whole or not, in ascending order.

        Raises:
            BadInput: the directory cannot be read.
        """
        try:
            names = os.listdir(self.directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise BadInput(f"{self.directory}: cannot be read: {error.strerror or error}") from error
        return sorted(int(name) for name in names if name.isdecimal())

    def save(self, update: int, state: Any, extra: dict[str, Any]) -> None:
        """Writes the state (arrays on any device) and `extra` (plain JSON) and removes what is too old.

        Returns when everything is on disk, so the caller may donate the state's buffers next.

        Raises:
            RunError: the checkpoint could not be written; those before it are untouched.
        """
        import orbax.checkpoint as ocp

        final = self.directory / str(update)
        try:
            self._remove_leftovers(update)
            with _checkpointer() as writer:
                writer.save(
                    final,
                    ocp.args.Composite(
                        state=ocp.args.StandardSave(to_arrays(state)), extra=ocp.args.JsonSave(extra)
                    ),
                )
            (final / DIGESTS).write_text(_digests(final), encoding="utf-8")
            for old in self.updates()[: -self._keep]:
                shutil.rmtree(self.directory / str(old))
        # tensorstore reports a full disk as a ValueError, so there is no narrower class that fits.
        except Exception as error:
            try:
                last = f"that of update {self.newest_whole() or '(none)'}"
            except BadInput:  # the disk that cannot be written cannot be read either
                last = "not known"
            raise RunError(
                f"{final}: checkpoint cannot be written: {_reason(error)}; the last whole checkpoint is {last}"
            ) from error

    def restore(
        self, abstract_state: Any, report: Callable[[str], None]
    ) -> tuple[int, Any, dict[str, Any]] | None:
        """The newest whole checkpoint, or None where there is none.

        Args:
            abstract_state: the state as jax.ShapeDtypeStructs, from jax.eval_shape.
            report: called with one line for every damaged checkpoint that was passed over.

        Returns:
            (update, state of host arrays, extra).

        Raises:
            BadInput: the checkpoint belongs to a state of other names, shapes or types.
        """
        for update in reversed(self.updates()):
            if not (damage := self.damage(update)):
                return update, *self._read(update, abstract_state)
            report(f"checkpoint of update {update} is damaged ({damage}); going back to the one before it")
        return None

    def newest_arrays(self, report: Callable[[str], None]) -> dict[str, np.ndarray] | None:
        """All arrays of the newest whole checkpoint by name, of whatever state; None where there is none."""
        import orbax.checkpoint as ocp

        for update in reversed(self.updates()):
            if damage := self.damage(update):
                report(f"checkpoint of update {update} is damaged ({damage}); going back to the one before it")
                continue
            directory = self.directory / str(update)
            with _checkpointer() as reader:
                stored = reader.metadata(directory).item_metadata["state"]
                like = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in stored.items()}
                return reader.restore(directory, ocp.args.Composite(state=ocp.args.StandardRestore(like))).state
        return None

    def newest_whole(self) -> int | None:
        """The update count of the newest whole checkpoint, None where there is none."""
        return next((update for update in reversed(self.updates()) if not self.damage(update)), None)

    def damage(self, update: int) -> str:
        """What is wrong with the files of a checkpoint; empty if they are as they were written."""
        directory = self.directory / str(update)
        listing = directory / DIGESTS
        if not os.path.isfile(listing):
            return "it was not written to its end"
        try:
            written = listing.read_text(encoding="utf-8", errors="replace").splitlines()
            found = _digests(directory).splitlines()
        except OSError as error:
            return f"it cannot be read: {error.strerror or error}"
        differing = set(written) ^ set(found)
        names = sorted({line.partition("  ")[2] for line in differing})
        return f"{', '.join(names[:3])} changed since it was written" if differing else ""

    def remove_after(self, update: int) -> None:
        """Removes the (damaged) checkpoints newer than `update`, which a resumed run will write again."""
        for newer in self.updates():
            if newer > update:
                with writing(self.directory / str(newer)):
                    shutil.rmtree(self.directory / str(newer))

    def _remove_leftovers(self, update: int) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for each in self.directory.iterdir():
            if TEMPORARY in each.name or each.name == str(update):
                shutil.rmtree(each)

    def _read(self, update: int, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
        import orbax.checkpoint as ocp

        wanted = empty_arrays(abstract_state)
        with _checkpointer() as reader:
            directory = self.directory / str(update)
            stored = reader.metadata(directory).item_metadata["state"]
            found = {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in stored.items()}
            expected = {name: (leaf.shape, np.dtype(leaf.dtype)) for name, leaf in wanted.items()}
            for name in sorted(found.keys() | expected.keys()):
                if found.get(name) != expected.get(name):
                    here, there = expected.get(name), found.get(name)
                    raise BadInput(f"{directory}: written by another version of the trainer: {name} is "
                                   f"{there} there and {here} now")  # fmt: skip
            restored = reader.restore(
                directory,
                ocp.args.Composite(
                    state=ocp.args.StandardRestore(wanted),
                    extra=ocp.args.JsonRestore(),
                ),
            )
        return from_arrays(abstract_state, restored.state), restored.extra


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp

    # In a job of several processes this one writes and reads alone, without waiting for the others.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="alone"
    )
    handlers = {
        "state": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        "extra": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    }
    composite = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone), **handlers
    )
    return ocp.Checkpointer(composite, multiprocessing_options=alone)


def to_arrays(state: Any) -> dict[str, np.ndarray]:
    """The leaves as copies in host memory, by name; orbax takes no arrays without elements, so not those."""
    return {name: np.array(leaf) for name, leaf in named(_raw_keys(state)).items() if leaf.size}


def empty_arrays(abstract_state: Any) -> dict[str, np.ndarray]:
    """Arrays of the names, shapes and types that to_arrays gives for this state, filled with zeros."""
    raw = named(jax.eval_shape(_raw_keys, abstract_state))
    return {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in raw.items() if leaf.size}


def from_arrays(abstract_state: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of to_arrays, for a state of this structure, with typed keys again."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(abstract_state)

    def leaf(path: Any, like: Any) -> Any:
        name = _name(path)
        if _is_key(like):
            return jax.random.wrap_key_data(jax.numpy.asarray(arrays[name]), impl=_key_impl(like))
        return arrays[name] if like.size else np.zeros(like.shape, like.dtype)

    return jax.tree.unflatten(tree, [leaf(path, like) for path, like in leaves])


def _raw_keys(state: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_impl(abstract_key: Any) -> Any:
    # jax.random.key_impl takes keys and tracers, but no ShapeDtypeStruct.
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), abstract_key)
    return found[0]


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a state by the names that they have in a checkpoint."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _digests(directory: Path) -> str:
    """One line a file, `sha256  name`, but for the listing itself."""
    files = sorted(each for each in directory.rglob("*") if each.is_file() and each.name != DIGESTS)
    return "".join(f"{_digest(each)}  {each.relative_to(directory)}\n" for each in files)


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    text = one_line(error)
    full = "No space left on device"
    return full if full in text or "ENOSPC" in text else text[:300]
