"""One update of trainers on one device and on eight; prints what the tests look at as one JSON object.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.algos.over_devices a2c_discrete pqn
"""

import json
import math
import re
import sys
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from algos.harness import devices, loop, restore
from algos.harness.checkpoint import to_arrays
from tests.algos.toy import Toy, environment_is
from tests.algos.trainers import CASES, Case, small_config, small_core

CORES = {"ppo_continuous": "gru", "ppo_discrete": "gru", "a2c_discrete": "arelit", "pqn": "gru"}
"""Cases, and a core that each is compiled with quickly."""
COLLECTIVES = "all-reduce all-gather reduce-scatter all-to-all collective-permute collective-broadcast".split()


def program(case: Case, num_seeds: int, seed_devices: int, env_devices: int) -> tuple[Any, Any]:
    """(state after init, compiled update), laid out as the harness does it."""
    # Adam's first step of a gradient that is all but zero is as large as any, with the sign of the last bit.
    config = small_config(
        case.module, num_seeds=num_seeds, num_envs=8, core=small_core(CORES[case.name]), adam_eps=1e-5
    )
    # Short episodes: the Toy's map is chaotic, and a last bit that differs grows with every step.
    with environment_is(Toy(num_actions=case.num_actions), max_steps_in_episode=3, termination=0.1):
        trainer = case.module.make_train(config)
        chosen = np.array(jax.devices()[: seed_devices * env_devices])
        mesh = Mesh(chosen.reshape(seed_devices, env_devices), ("seed", "env"))
        sharding = devices.seed_sharding(mesh)
        state_sharding = devices.state_sharding(mesh, restore.abstract_state(trainer, num_seeds), config.num_envs)
        keys = jax.device_put(devices.seed_keys(0, num_seeds), sharding)
        init = jax.jit(devices.over_seeds(trainer.init, mesh), out_shardings=state_sharding)
        state = init.lower(keys).compile(loop.start_options())(keys)
        update = jax.jit(
            devices.over_seeds(trainer.update, mesh), out_shardings=(state_sharding, sharding), donate_argnums=0
        )
        return state, update.lower(state).compile()


def plain(tree: Any) -> dict[str, list]:
    return {name: array.tolist() for name, array in to_arrays(tree).items()}


def collectives(text: str) -> list[dict[str, Any]]:
    """Of every collective of an HLO text: its kind, elements, loops it is inside of, and groups of devices."""
    found = []
    for line in text.splitlines():
        match = re.search(rf" = (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", line)
        if not match:
            continue
        shapes = re.findall(r"\b[a-z]\w*\[([\d,]*)\]", match[1])
        scope = re.search(r'op_name="([^"]*)"', line)
        found.append({
            "kind": match[2],
            "elements": sum(math.prod(int(n) for n in shape.split(",") if n) for shape in shapes),
            "loops": scope[1].count("while/body") if scope else None,
            "groups": groups(line),
        })  # fmt: skip
    return found


def groups(line: str) -> list[list[int]]:
    """The devices that talk to each other, from any of XLA's notations."""
    if listed := re.search(r"replica_groups=\{(\{.*?\})\}", line):
        return [numbers(group) for group in re.findall(r"\{([\d,]+)\}", listed[1])]
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):  # axes of a mesh in device order
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
        within = [name in re.findall(r"'(\w+)'", named[2]) for name in sizes]
        ids = np.arange(math.prod(sizes.values())).reshape(list(sizes.values()))
        order = np.argsort(within, kind="stable")  # those that talk come last
        size = math.prod(size for size, inside in zip(sizes.values(), within, strict=True) if inside)
        return ids.transpose(order).reshape(-1, size).tolist()
    short = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line)
    ids = np.arange(math.prod(numbers(short[2]))).reshape(numbers(short[2]))
    return ids.transpose(numbers(short[3]) if short[3] else None).reshape(numbers(short[1])).tolist()


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    results: dict[str, Any] = {}
    names = sys.argv[1:]
    for name in names:
        entry = results[name] = {}
        for place, envs_on in (("one", 1), ("eight", 8)):
            state, update = program(CASES[name], 1, 1, envs_on)
            stats = update.memory_analysis()
            entry[place] = {
                "start": plain(state),
                "collectives": collectives(update.as_text()),
                "spread": str(state.stream.obs.sharding.spec),
                "arguments": stats.argument_size_in_bytes,
                "aliased": stats.alias_size_in_bytes,
            }
            state, metrics = update(state)
            entry[place] |= {"end": plain(state), "metrics": plain(metrics)}
    layouts = (("seeds on eight", (8, 1)), ("two seeds on four each", (2, 4)))
    for name, shape in layouts if "a2c_discrete" in names else ():
        state, update = program(CASES["a2c_discrete"], shape[0], *shape)
        results[name] = {"collectives": collectives(update.as_text()), "end": plain(update(state)[0])}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
