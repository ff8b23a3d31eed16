"""Settings of every test process."""

import os

# Tests compile many programs and run each a few times: half of LLVM's work would be wasted. XLA's own passes,
# which decide what is computed, stay as they are.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
