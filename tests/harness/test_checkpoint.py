import os
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from algos.harness import BadInput, RunError, checkpoint
from algos.harness.checkpoint import Checkpoints


class Pair(NamedTuple):
    a: jax.Array
    b: jax.Array | None


@flax.struct.dataclass
class State:
    params: dict
    opt_state: optax.OptState
    pair: Pair
    key: jax.Array


def init(key):
    params = {
        "w": jax.random.normal(key, (50, 7)),
        "half": jnp.ones(3, jnp.bfloat16),
        "list": [jnp.bool_(True)],
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    pair = Pair(jnp.zeros((0, 4)), None)
    return State(params, optimizer.init(params["w"]), pair, jax.random.fold_in(key, 1))


KEYS = jax.random.split(jax.random.key(3), 2)


@pytest.fixture
def state():
    return jax.vmap(init)(KEYS)


@pytest.fixture
def abstract():
    return jax.eval_shape(jax.vmap(init), KEYS)


def assert_equal(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_every_leaf_comes_back_with_its_type_and_bits(tmp_path, state, abstract):
    extra = {"interval": [{"loss": [0.1, 1e-30]}], "elapsed_s": 1.5}
    Checkpoints(tmp_path / "c").save(3, state, extra)
    update, restored, got = Checkpoints(tmp_path / "c").restore(abstract, pytest.fail)
    assert (update, got) == (3, extra)
    assert_equal(restored, state)


def test_no_checkpoint_is_none(tmp_path, abstract):
    assert Checkpoints(tmp_path / "c").restore(abstract, pytest.fail) is None


def test_two_are_kept(tmp_path, state):
    saved = Checkpoints(tmp_path / "c")
    for update in (2, 10, 9, 30):
        saved.save(update, state, {})
    assert saved.updates() == [10, 30]


def files_of(directory):
    return sorted(each for each in directory.rglob("*") if each.is_file())


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, os.remove], ids=lambda fn: fn.__name__)
def test_damage_to_any_file_of_the_newest_is_reported_and_the_one_before_is_used(
    tmp_path, state, abstract, damage, capfd
):
    saved = Checkpoints(tmp_path / "c")
    saved.save(1, state, {"n": 1})
    saved.save(2, state, {"n": 2})
    files = files_of(saved.directory / "2")
    assert len(files) > 5
    for file in files:
        content = file.read_bytes()
        if not content:
            continue
        damage(file)
        reports = []
        update, restored, extra = saved.restore(abstract, reports.append)
        assert (update, extra) == (1, {"n": 1}), file
        assert len(reports) == 1 and "update 2" in reports[0] and "\n" not in reports[0]
        file.write_bytes(content)
    assert_equal(restored, state)
    assert "Traceback" not in capfd.readouterr().err
    assert saved.restore(abstract, pytest.fail)[0] == 2


def test_remains_of_a_save_that_was_killed_are_ignored_and_then_removed(tmp_path, state, abstract):
    saved = Checkpoints(tmp_path / "c")
    saved.save(1, state, {})
    saved.save(2, state, {})
    remains = saved.directory / f"2{checkpoint.TEMPORARY}"
    (saved.directory / "2").rename(remains)
    assert saved.restore(abstract, pytest.fail)[0] == 1
    saved.save(2, state, {})
    assert not remains.exists() and saved.restore(abstract, pytest.fail)[0] == 2


def test_a_checkpoint_of_another_state_names_the_array_that_differs(tmp_path, state, abstract):
    Checkpoints(tmp_path / "c").save(1, state, {})
    other = abstract.replace(params=abstract.params | {"w": jax.ShapeDtypeStruct((2, 50, 8), jnp.float32)})
    with pytest.raises(BadInput, match=r"params\.w .*\(2, 50, 7\).*\(2, 50, 8\)"):
        Checkpoints(tmp_path / "c").restore(other, pytest.fail)


def test_a_failed_save_names_the_last_whole_checkpoint_and_leaves_it(tmp_path, state, abstract, monkeypatch):
    saved = Checkpoints(tmp_path / "c")
    saved.save(4, state, {})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_digests", full)
    with pytest.raises(RunError, match="8: .*No space left on device.* update 4"):
        monkeypatch.setattr(Checkpoints, "damage", lambda self, update: update != 4)
        saved.save(8, state, {})
    monkeypatch.undo()
    reports = []
    assert saved.restore(abstract, reports.append)[0] == 4 and len(reports) == 1


def unreadable(*_):
    raise OSError(5, "Input/output error")


def test_a_failed_save_on_a_disk_that_cannot_be_read_either_is_one_line(tmp_path, state, abstract, monkeypatch):
    saved = Checkpoints(tmp_path / "c")
    saved.save(4, state, {})
    monkeypatch.setattr(checkpoint, "_digest", unreadable)
    with pytest.raises(RunError, match=r"8: .*Input/output error; .* that of update \(none\)"):
        saved.save(8, state, {})
    monkeypatch.setattr(checkpoint.os, "listdir", unreadable)
    with pytest.raises(RunError, match="8: .*Input/output error; .* checkpoint is not known"):
        saved.save(8, state, {})


def test_a_checkpoint_that_cannot_be_read_is_damaged(tmp_path, state, abstract, monkeypatch):
    saved = Checkpoints(tmp_path / "c")
    saved.save(4, state, {})
    monkeypatch.setattr(checkpoint, "_digest", unreadable)
    assert saved.damage(4) == "it cannot be read: Input/output error"
    monkeypatch.setattr(checkpoint.os, "listdir", unreadable)
    with pytest.raises(BadInput, match="c: cannot be read: Input/output error"):
        saved.restore(abstract, pytest.fail)
