"""Everything of a trainer that touches disk, terminal, network or devices; nothing that changes its learning.

    main        the command line of a trainer, from its Config (cli.py)
    load_run    a run directory back as trainer and state (restore.py)

Importing this package is cheap; JAX, orbax, matplotlib and wandb are imported when they are needed.
"""

# Before JAX, of whose variables it says which are unusable.
from algos.harness import jax_variables  # noqa: F401  # isort: skip

# Before gymnax.
from algos.harness import lazy_imports  # noqa: F401  # isort: skip

from algos.harness.cli import OneLineParser, main, user_path
from algos.harness.errors import BadInput, RunError, exit_codes
from algos.harness.restore import LoadedRun, load_run

__all__ = ["BadInput", "LoadedRun", "OneLineParser", "RunError", "exit_codes", "load_run", "main", "user_path"]
