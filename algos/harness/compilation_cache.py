"""JAX's persistent compilation cache, on by default: the second start of a trainer compiles nothing.

JAX's own variables decide where they are set: JAX_COMPILATION_CACHE_DIR names another folder, and
JAX_ENABLE_COMPILATION_CACHE=0 turns the cache off.
"""

import hashlib
import os
import platform
from pathlib import Path


def enable() -> None:
    """Points JAX at a folder of the user's cache, one per kind of processor and jaxlib.

    To be called before anything is compiled.
    A program for one processor can crash another. Without a folder that can be written nothing is kept.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is None and jax.config.jax_enable_compilation_cache:
        try:
            folder = default_folder()
            folder.mkdir(parents=True, exist_ok=True)
        # A home directory that is not known, not there or read-only: the run compiles as without a cache.
        except (OSError, RuntimeError):
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def default_folder() -> Path:
    """<user's cache>/recurrent-linear-transformers-jax/<kind of machine>-jaxlib-<version>."""
    import jaxlib

    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kind = f"{platform.system()}-{platform.machine()}-{_processor()}".lower()
    return root / "recurrent-linear-transformers-jax" / f"{kind}-jaxlib-{jaxlib.__version__}"


def _processor() -> str:
    """A short name of what this processor is and can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = [platform.processor()]
    telling = ("model name", "flags", "Features", "CPU part")
    told = sorted({line for line in lines if line.startswith(telling)}) or lines[:1]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]
