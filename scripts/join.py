"""Run a trainer as one process of a job of several, on one or many hosts.

    srun python scripts/join.py algos/ppo_arelit_continuous.py --run-dir runs/big       # SLURM

    export JAX_COORDINATOR_ADDRESS=host0:9876 JAX_NUM_PROCESSES=2                       # by hand, in two terminals
    JAX_PROCESS_ID=0 python scripts/join.py algos/ppo_arelit_continuous.py --run-dir runs/big
    JAX_PROCESS_ID=1 python scripts/join.py algos/ppo_arelit_continuous.py --run-dir runs/big

Every process gets the same flags; what differs is refused. The first writes the run directory and prints. If one
is lost, the others end; the run goes on from its last checkpoint with --resume, on any number of processes and
devices.
"""

import os
import runpy
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path

import jax

from algos.harness.errors import BadInput, exit_codes, one_line
from algos.harness.signals import STOPPED

START_S = 120
"""How long to wait for the other processes to come."""
HEARTBEAT_S = 30
"""A process that is silent for so long counts as lost."""


def settings(environment: Mapping[str, str]) -> dict[str, int]:
    """What jax.distributed.initialize does not read from the environment itself.

    Raises:
        BadInput: a variable that is no number in its range, or only some of the three.
    """
    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    found = {}
    for argument, name in names.items():
        if (text := environment.get(name)) is not None:
            if not text.isdecimal():
                raise BadInput(f"{name}={text!r}: must be an integer from {0 if argument == 'process_id' else 1}")
            found[argument] = int(text)
    if found and "JAX_COORDINATOR_ADDRESS" not in environment:
        raise BadInput("JAX_COORDINATOR_ADDRESS: must be set too, to host:port of the first process")
    if len(found) == 2 and not found["process_id"] < found["num_processes"]:
        raise BadInput(f"JAX_PROCESS_ID={found['process_id']}: must be below "
                       f"JAX_NUM_PROCESSES={found['num_processes']}")  # fmt: skip
    address = environment.get("JAX_COORDINATOR_ADDRESS", ":0")
    if not address.rpartition(":")[2].isdecimal():
        raise BadInput(f"JAX_COORDINATOR_ADDRESS={address!r}: must be host:port of the first process")
    return found


def give_up() -> None:
    """Ends this process, which waits inside JAX, with one line and code 2."""
    address = os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    needed = "all must have this address, the same number of processes and different ids"
    print(f"error: JAX_COORDINATOR_ADDRESS={address!r}: not all processes came there within {START_S} s; {needed}",
          file=sys.stderr, flush=True)  # fmt: skip
    os._exit(2)


def join() -> None:
    """Makes this process one of a job, before JAX starts its backend. Raises BadInput if there is no such job."""
    # SIGTERM is answered by a checkpoint already; JAX's own handler would take it.
    jax.config.update("jax_enable_preemption_service", False)
    found = settings(os.environ)
    # Where not all come, JAX aborts the process with a stack trace that names no field.
    timer = threading.Timer(START_S, give_up)
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            **found, initialization_timeout=2 * START_S, heartbeat_timeout_seconds=HEARTBEAT_S
        )
    except (ValueError, RuntimeError) as error:
        hint = "set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or start it by srun or mpirun"
        raise BadInput(f"no job of several processes to join: {hint} ({one_line(error)[:300]})") from error
    finally:
        timer.cancel()
    counts = [len(jax.local_devices(process_index=index)) for index in range(jax.process_count())]
    if len(set(counts)) > 1:
        raise BadInput(f"devices of the processes={counts}: must be equally many in each")


def main() -> None:
    with exit_codes():
        if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
            given = sys.argv[1] if len(sys.argv) > 1 else ""
            raise BadInput(f"TRAINER={given!r}: must be a trainer's file, and its flags after it")
        join()
    sys.argv = sys.argv[1:]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except BaseException as end:
        if isinstance(end, SystemExit) and end.code in (None, 0, *STOPPED):
            raise  # all processes end so
        if not isinstance(end, SystemExit):
            traceback.print_exc()
        # At an orderly end JAX waits for the other processes, which may be gone or have nothing to complain about.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2 if isinstance(end, SystemExit) and end.code == 2 else 1)


if __name__ == "__main__":
    main()
