"""Returns (and success, where the environment tells) of a trained agent over fresh episodes, with 95 % intervals.

    python scripts/evaluate.py runs/NAME
    python scripts/evaluate.py runs/NAME --episodes 1000 --no-deterministic --json
    python scripts/evaluate.py runs/NAME --env.corridor-len 40

Loads the newest whole checkpoint. Normalisation statistics are frozen, returns are raw and undiscounted.
The interval of a seed is over its episodes (Student's t; Wilson's for a success rate); that over all seeds is over
the seeds' means, because the episodes of one seed share its parameters. Other options of the environment, such as
--env.corridor-len 40, show how far what was learnt reaches.
"""

# Before JAX, of whose variables it says which are unusable.
from algos import harness  # isort: skip  # noqa: F401

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from algos.harness import BadInput, OneLineParser, devices, exit_codes, footprint, load_run, loop, user_path
from algos.harness.signals import Interrupts
from algos.harness.statistics import mean_and_interval, pooled_mean_and_interval

# Sets the keys apart from those of training and of its evaluations, which derive from the same small seeds.
FRESH = 0x66726573


ROUND = 128
"""Episodes of a seed that are played at once, or as many as in the run's own evaluations where those are more."""


def evaluate(
    run_dir: str | Path, episodes: int, deterministic: bool, seed: int, env_flags: Sequence[str] = ()
) -> dict:
    """Plays fresh episodes with every seed's agent.

    Args:
        run_dir: a run directory with a checkpoint.
        episodes: how many for each seed.
        deterministic: play the mode of the policy instead of drawing from it.
        seed: of the episodes.
        env_flags: other options of the environment, as --env.<option> flags.

    Returns:
        Plain numbers as --json prints them; an interval is null where one value is all there is.

    Raises:
        BadInput: the directory holds no run that can be evaluated.
        RunError: a worker process with environments failed.
    """
    loaded = load_run(run_dir, lambda line: print(line, file=sys.stderr), env_flags)
    config, trainer = loaded.config, loaded.trainer
    on_host = trainer.lives_on_host
    # Environments on the host can take much RAM each: no more at once than in the run's own evaluations.
    at_once = min(episodes, config.eval_episodes if on_host else max(ROUND, config.eval_episodes))
    mesh = devices.seed_mesh(1 if on_host else config.num_seeds)
    key = jax.random.fold_in(jax.random.key(seed), FRESH)
    keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(np.arange(config.num_seeds))
    state, keys = jax.device_put((loaded.state, keys), devices.seed_sharding(mesh))
    play = jax.jit(
        devices.over_seeds(lambda state, key: trainer.evaluate(state, key, deterministic, at_once), mesh)
    )
    rounds = [keys]
    if on_host or episodes > at_once:
        fold = jax.vmap(jax.random.fold_in, (0, None))
        rounds = [fold(keys, number) for number in range(-(-episodes // at_once))]
    program = play.lower(state, keys).compile()
    footprint.check(program, config, mesh, of="a round of episodes", lowered_by={"episodes": episodes})
    with loop.environment_failures(config, trainer):
        played = [jax.device_get(program(state, each)) for each in rounds]
    measured = {
        name.removeprefix("episode_"): np.concatenate([each[name] for each in played], axis=1, dtype=float)
        for name in played[0]
    }  # [S, at least E]
    measured = {name: each[:, :episodes] for name, each in measured.items()}
    by_seed = [
        {"seed": config.seed + k, **_summaries({name: each[k] for name, each in measured.items()})}
        for k in range(config.num_seeds)
    ]
    return {
        "run_dir": str(run_dir),
        "algo": loaded.algo,
        "env": config.env["id"],
        "env_options": {name: value for name, value in config.env.items() if name != "id"},
        "core": config.core["name"],
        "update": loaded.update,
        "env_steps": loaded.update * config.num_envs * config.num_steps,
        "episodes": episodes,
        "deterministic": deterministic,
        "seeds": by_seed,
        "all": _summaries(measured, pooled_mean_and_interval),
    }


def _summaries(measured: dict[str, np.ndarray], summary: Callable = mean_and_interval) -> dict:
    """Mean and interval of the return, and those of everything else under its name."""
    others = {name: summary(values) for name, values in measured.items() if name != "return"}
    return {**summary(measured["return"]), **others}


def _table(result: dict, name: str) -> list[str]:
    """The lines of one measure, a seed each and all of them."""
    rows = [(f"seed {each['seed']}", each) for each in result["seeds"]]
    rows += [("all seeds", result["all"])] if len(rows) > 1 else []
    lines = []
    for title, found in rows:
        values = found if name == "return" else found[name]
        mean, interval = values["mean"], values["interval"]
        text = f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "(no interval over one value)"
        lines.append(f"{title:>10}  {mean:12.3f}  {text}")
    return lines


def main() -> None:
    parser = OneLineParser(prog="scripts/evaluate.py", description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("run_dir", type=user_path, help="run directory of a trainer")
    parser.add_argument("--episodes", type=int, default=100, help="for each seed (default: 100)")
    parser.add_argument(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        default=loop.DETERMINISTIC,
        help="play the mode of the policy, as the evaluations during training do, or draw from it",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the episodes (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    with Interrupts(), exit_codes():
        args, flags = parser.parse_known_args()
        if not 1 <= args.episodes <= 2**20:
            raise BadInput(f"episodes={args.episodes}: must be from 1 to 2^20")
        if not 0 <= args.seed < 2**31:
            raise BadInput(f"seed={args.seed}: must be from 0 to 2^31 - 1")
        result = evaluate(args.run_dir, args.episodes, args.deterministic, args.seed, flags)
        show(result, args)


def show(result: dict, args: argparse.Namespace) -> None:
    """Prints JSON, or a table a measure."""
    if args.json:
        print(json.dumps(result, indent=2, allow_nan=False))
        return
    policy = "mode of the policy" if args.deterministic else "actions drawn from the policy"
    print(f"{result['algo']}, {result['env']}, {result['core']}, after {result['env_steps']:,} steps per seed")
    print(f"{args.episodes} fresh episodes per seed, {policy}; mean and 95 % confidence interval")
    others = [name for name in result["all"] if name not in ("mean", "interval")]
    for name in ["return", *others]:
        print(f"episode {name}", *_table(result, name), sep="\n")


if __name__ == "__main__":
    main()
