import jax
import jax.numpy as jnp
import numpy as np

from networks.batching import any_in_batch


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
