"""Settings of every test process."""

import gc
import os

import jaxlib
import pytest

# Tests compile many programs and run each a few times: most of LLVM's work would be wasted. What is computed stays
# the same but for rounding.
flags = ["--xla_backend_optimization_level=0"]
if jaxlib.__version__.startswith("0.10."):  # XLA ends the process at a flag that it does not know
    # Of XLA's two ways to compile a fusion, the older takes half the time.
    flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])
# Many small programs, each compiled once: writing them all down takes longer than it saves.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs():
    """A compiled program holds some of a process's memory maps; LLVM crashes after the last of Linux's 65,530."""
    yield
    import jax  # not above: XLA reads its flags when it is imported

    jax.clear_caches()
    gc.collect()
