"""The trained policy as one file that needs nothing of this repository, only jax.

    python scripts/export.py runs/NAME
    python scripts/export.py runs/NAME --seed 1 --no-deterministic --output agent.zip

Writes a zip archive of two functions by jax.export and a description. The batch size B is free; parameters and the
frozen normalisation statistics are inside; observations are raw, actions are what the environment takes:

    start         (reset [B] bool) -> carry, the empty memory of B environments; the values of reset do not matter
    act           (carry, obs [B, ...], reset [B] bool) -> (carry, actions [B, ...]), the mode of the policy
                  with --no-deterministic it takes a fourth argument, the data of a key (uint32 [2]), and draws
    policy.json   what it is and what it takes: environment, core, shapes, bounds, steps of training

A carry is a tuple of arrays; reset is true where the observation starts an episode. Lowered for CPU and CUDA.
"""

# Before JAX, of whose variables it says which are unusable.
from algos import harness  # isort: skip  # noqa: F401

import argparse
import io
import json
import statistics
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from algos.harness import LoadedRun, OneLineParser, exit_codes, load_run, loop, user_path
from algos.harness.errors import check_output, writing

PLATFORMS = ("cpu", "cuda")
KEY_IMPL = "threefry2x32"
START, ACT, DESCRIPTION = "start", "act", "policy.json"


def functions(trainer: Any, state: Any, deterministic: bool) -> tuple[jax.export.Exported, jax.export.Exported]:
    """(start, act) of a Trainer with the RunnerState of one seed, for any batch size."""
    (batch,) = jax.export.symbolic_shape("B")
    flags = jax.ShapeDtypeStruct((batch,), bool)
    space = trainer.env.observation_space(trainer.env_params)
    obs = jax.ShapeDtypeStruct((batch, *space.shape), space.dtype)
    # jax.export knows no types but its own: the carry crosses as the tuple of its leaves.
    structure = jax.tree.structure(jax.eval_shape(lambda: trainer.initial_carry(1)))

    def start(reset):
        return tuple(jax.tree.leaves(trainer.initial_carry(reset.shape[0])))

    def act(carry, obs, reset, key=None):
        key = None if key is None else jax.random.wrap_key_data(key, impl=KEY_IMPL)
        carry = jax.tree.unflatten(structure, carry)
        carry, action, _ = trainer.act(state, carry, obs, reset, key, deterministic)
        return tuple(jax.tree.leaves(carry)), action

    exported_start = jax.export.export(jax.jit(start), platforms=PLATFORMS)(flags)
    carry = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in exported_start.out_avals)
    key = () if deterministic else (jax.ShapeDtypeStruct((2,), jnp.uint32),)
    return exported_start, jax.export.export(jax.jit(act), platforms=PLATFORMS)(carry, obs, flags, *key)


def describe(loaded: LoadedRun, seed: int, deterministic: bool) -> dict[str, Any]:
    """What policy.json holds."""
    config, trainer = loaded.config, loaded.trainer
    obs, action = trainer.env.observation_space(trainer.env_params), trainer.env.action_space(trainer.env_params)
    if isinstance(action, spaces.Discrete):
        actions = {"discrete": int(action.n)}
    else:
        low, high = (bounds(x, action.shape) for x in (action.low, action.high))
        actions = {"shape": list(action.shape), "low": low, "high": high}
    return {
        "algo": loaded.algo,
        "env": config.env,
        "core": config.core,
        "previous_action_reward": config.previous_action_reward,
        "seed": seed,
        "update": loaded.update,
        "env_steps": loaded.update * config.num_envs * config.num_steps,
        "deterministic": deterministic,
        "observation": {"shape": list(obs.shape), "dtype": np.dtype(obs.dtype).name},
        "action": actions,
        "platforms": PLATFORMS,
        "jax": jax.__version__,
    }


def bounds(bound: Any, shape: tuple[int, ...]) -> Any:
    """The bounds of actions as nested lists; None where there is none, for JSON has no infinity."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value if np.isfinite(value) else None

    return plain(np.broadcast_to(bound, shape).tolist())


def export(run_dir: str | Path, output: Path, seed: int | None, deterministic: bool) -> dict[str, Any]:
    """Writes the policy of one seed of a run.

    Args:
        run_dir: a run directory with a checkpoint.
        output: the file; overwritten.
        seed: which of the run's seeds; None: its first.
        deterministic: the mode of the policy instead of draws from it.

    Returns:
        The description.

    Raises:
        BadInput: no run that can be loaded, or it has no such seed.
        RunError: the file cannot be written.
    """
    return write(load_run(run_dir, lambda line: print(line, file=sys.stderr)), output, seed, deterministic)


def write(loaded: LoadedRun, output: Path, seed: int | None, deterministic: bool) -> dict[str, Any]:
    """`export` of a run that is loaded already."""
    seed, state = loaded.of_seed(seed)
    start, act = functions(loaded.trainer, state, deterministic)
    description = describe(loaded, seed, deterministic)
    members = {
        START: start.serialize(),
        ACT: act.serialize(),
        DESCRIPTION: json.dumps(description, indent=2, allow_nan=False),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, bytes(data) if isinstance(data, bytearray) else data)
    with writing(output):
        output.write_bytes(buffer.getvalue())
    return description


def load(path: Path) -> tuple[Callable, Callable, dict[str, Any]]:
    """(start, act, description) of a file that `export` wrote, compiled at their first call."""
    with zipfile.ZipFile(path) as archive:
        start, act = (jax.export.deserialize(bytearray(archive.read(name))) for name in (START, ACT))
        return jax.jit(start.call), jax.jit(act.call), json.loads(archive.read(DESCRIPTION))


def latency(path: Path, batch: int, steps: int = 200) -> float:
    """Median seconds of one call of `act`, its dispatch from Python included."""
    start, act, description = load(path)
    obs = jnp.zeros((batch, *description["observation"]["shape"]), description["observation"]["dtype"])
    key = () if description["deterministic"] else (jax.random.key_data(jax.random.key(0, impl=KEY_IMPL)),)
    reset = jnp.zeros(batch, bool)
    carry, _ = act(start(reset), obs, reset, *key)
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        carry, _ = jax.block_until_ready(act(carry, obs, reset, *key))
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    parser = OneLineParser(
        prog="scripts/export.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run_dir", type=user_path, help="run directory of a trainer")
    parser.add_argument("--output", type=user_path, help="the file (default: RUN_DIR/policy.zip)")
    parser.add_argument("--seed", type=int, help="which of the run's seeds (default: its first)")
    parser.add_argument(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        default=loop.DETERMINISTIC,
        help="the mode of the policy, or draws from it",
    )
    with exit_codes():
        args = parser.parse_args()
        output = args.output or Path(args.run_dir) / "policy.zip"
        if args.output is not None:
            check_output(output)
        description = export(args.run_dir, output, args.seed, args.deterministic)
        policy = "mode of the policy" if args.deterministic else "actions drawn from the policy"
        core, env = description["core"]["name"], description["env"]["id"]
        print(f"{output}: {core} on {env}, {policy}, {output.stat().st_size / 1e3:,.0f} kB")
        times = ", ".join(f"{1e3 * latency(output, batch):.2f} ms for {batch}" for batch in (1, 16))
        print(f"one step on this {jax.devices()[0].platform}, called from Python: {times} at once")


if __name__ == "__main__":
    main()
