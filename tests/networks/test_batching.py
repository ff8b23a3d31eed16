import jax
import jax.numpy as jnp
import numpy as np

from networks.batching import any_in_batch, repeat_until


def branch(flags, x):
    return jax.lax.cond(any_in_batch(flags), lambda: jnp.sin(x), lambda: jnp.zeros_like(x))


def primitives(jaxpr):
    """Names of all primitives, in branches and called functions too."""
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                names |= primitives(inner)
    return names


def test_a_branch_stays_one_under_vmaps():
    flags, x = jnp.zeros((2, 3, 4), bool), jnp.ones((2, 3, 4))
    for function in (jax.vmap(branch), jax.vmap(jax.vmap(branch))):
        names = primitives(jax.make_jaxpr(function)(flags, x).jaxpr)
        assert "cond" in names
        assert "select_n" not in names
    plain = jax.vmap(lambda flags, x: jax.lax.cond(flags.any(), lambda: jnp.sin(x), lambda: jnp.zeros_like(x)))
    assert "cond" not in primitives(jax.make_jaxpr(plain)(flags, x).jaxpr)


def test_taken_for_all_as_soon_as_one_needs_it():
    x = jnp.ones((2, 3))
    flags = jnp.zeros((2, 3), bool)
    np.testing.assert_array_equal(jax.vmap(branch)(flags, x), 0.0)
    np.testing.assert_allclose(jax.vmap(branch)(flags.at[1, 2].set(True), x), np.sin(1.0), rtol=1e-6)


def test_repeating_until_done_and_to_a_limit_agree():
    """On a loop that stays as it is where it is done."""

    def count(start, limit):
        step = lambda x: jnp.where(x < 5, x + 1, x)  # noqa: E731
        return repeat_until(lambda x: x >= 5, step, start, limit)

    starts = jnp.arange(8)
    for limit in (None, 10):
        counted = jax.vmap(lambda x, limit=limit: count(x, limit))(starts)
        np.testing.assert_array_equal(counted, jnp.maximum(starts, 5))
    assert count(jnp.int32(0), 3) == 3
    names = primitives(jax.make_jaxpr(lambda x: count(x, None))(0).jaxpr)
    assert "while" in names and "scan" not in names
    names = primitives(jax.make_jaxpr(jax.vmap(lambda x: count(x, 10)))(starts).jaxpr)
    assert "scan" in names and not {"while", "cond"} & names
