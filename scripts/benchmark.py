"""Speed and memory: of a whole trainer part by part, of environments, memory cores, and AReLiT's recurrence.

    python scripts/benchmark.py                                    # the default trainer
    python scripts/benchmark.py trainer --preset halfcheetah-arelit
    python scripts/benchmark.py trainer --algo a2c_arelit --preset tmaze-arelit
    python scripts/benchmark.py environments                       # alone, with random actions
    python scripts/benchmark.py recurrence                         # against its plain form
    python scripts/benchmark.py cores                              # acting, learning and memory, paper's sizes
    python scripts/benchmark.py exported                           # a policy's file called from Python, same sizes
    python scripts/benchmark.py ppo                                # the same trainer with three cores
    python scripts/benchmark.py pqn                                # PQN against PPO, the same sizes
    python scripts/benchmark.py scaling                            # 1, 4, 16 and 64 seeds, T-Maze and Brax
    python scripts/benchmark.py scaling --algo a2c_arelit --preset tmaze-arelit --seeds 1 64
    python scripts/benchmark.py bridge                             # Memory Maze in workers; needs the extra
    python scripts/benchmark.py trainer recurrence --json

Every ratio compares two things measured in the same run; the rate of float32 matrix products of this machine is
measured too. Times are medians of several calls. Run it on an otherwise idle machine.
"""

# Before JAX, of whose variables it says which are unusable.
from algos import harness  # isort: skip

import argparse
import dataclasses
import functools
import json
import math
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

import envs
import networks
from algos import TRAINERS, a2c_arelit, ppo_arelit, pqn_arelit
from algos.harness import LoadedRun, devices, footprint, loop, restore
from algos.presets import PRESETS
from envs import memory_maze
from envs.host import Workers
from networks import arelit, chunked, plain_forms
from networks.precision import matmul, product_precision
from scripts import export

Results = dict[str, Any]


def median_seconds(fn: Callable, *args: Any, repeats: int = 7) -> float:
    """Median time of a call, after one that is not counted."""
    jax.block_until_ready(fn(*args))
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(fn(*args))
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def compile_timed(fn: Callable, *args: Any, **options: Any) -> tuple[Callable, float]:
    """(compiled program, seconds of tracing and compiling)."""
    begin = time.perf_counter()
    program = jax.jit(fn).lower(*args).compile(options)
    return program, time.perf_counter() - begin


def machine() -> Results:
    """The device and its rate of float32 matrix products of 2048 x 2048."""
    size = 2048
    a, b = jax.random.normal(jax.random.key(0), (2, size, size))
    seconds = median_seconds(jax.jit(matmul), a, b)
    return {
        "device": jax.devices()[0].device_kind,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "matrix_product_gflops": 2 * size**3 / seconds / 1e9,
    }


# ------------------------------------------------------------------------------------------------------------
# Trainer


def matrix_flops(params: Any, tokens: int) -> float:
    """Floating-point operations of the parameters' matrix products on this many tokens, forward only."""
    return 2.0 * tokens * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params) if leaf.ndim > 1)


def matrix_products(params: Any, tokens: int) -> float:
    """Seconds of nothing but the parameters' matrix products, forward and both products of the gradient."""
    leaves = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    shapes = [(leaf.shape[0], math.prod(leaf.shape[1:])) for leaf in leaves]
    inputs = [jnp.ones((tokens, shape[0])) for shape in shapes]
    kernels = [jnp.ones(shape) for shape in shapes]
    grads = [jnp.ones((tokens, shape[1])) for shape in shapes]

    @jax.jit
    def products(inputs, kernels, grads):
        triples = zip(inputs, kernels, grads, strict=True)
        return [(matmul(x, w), matmul(g, w.T), matmul(x.T, g)) for x, w, g in triples]

    return median_seconds(products, inputs, kernels, grads)


def random_rollout(vec_env: envs.VectorEnv, params: Any, num_steps: int) -> Callable:
    """(state, key) -> state after num_steps random actions in every environment, restarts included.

    The actions of a step are drawn from one key, as a policy draws them.
    """
    space = vec_env.env.action_space(params)

    def draw(key):
        if isinstance(space, spaces.Discrete):
            return jax.random.randint(key, (vec_env.num_envs,), 0, space.n)
        return jax.random.uniform(key, (vec_env.num_envs, *space.shape), minval=space.low, maxval=space.high)

    def rollout(state, key):
        def step(seen, key):
            _, state = seen  # the observation is carried so that it is made
            action_key, env_key = jax.random.split(key)
            obs, state, *_ = vec_env.step(env_key, state, draw(action_key), params)
            return (obs, state), None

        state = vec_env.refresh(key, state, params)
        obs = jax.tree.map(lambda x: x[: vec_env.num_envs], state.pool[0])
        return jax.lax.scan(step, (obs, state), jax.random.split(key, num_steps))[0]

    return rollout


def build(algo: str, preset: str) -> tuple[Any, Any]:
    """(Config, Trainer) of a preset.

    Raises:
        BadInput: unknown, or it cannot run here.
    """
    if algo not in TRAINERS:
        raise harness.BadInput(f"algo={algo!r}: allowed: {', '.join(TRAINERS)}")
    if preset not in PRESETS[algo]:
        raise harness.BadInput(f"preset={preset!r}: allowed with algo={algo}: {', '.join(PRESETS[algo])}")
    config = TRAINERS[algo].Config(**PRESETS[algo][preset])
    try:
        return config, TRAINERS[algo].make_train(config)
    except ValueError as error:
        raise harness.BadInput(str(error)) from error


def trainer(algo: str, preset: str, gemm_gflops: float) -> Results:
    """Compile times, and the rates of environment, acting, learning and the whole update."""
    module, (config, built) = TRAINERS[algo], build(algo, preset)
    key = jax.random.key(0)
    init, init_seconds = compile_timed(built.init, key, **loop.start_options())
    state = init(key)
    update, update_seconds = compile_timed(built.update, state)
    _, evaluate_seconds = compile_timed(
        lambda s, k: built.evaluate(s, k, True), state, key, **loop.evaluation_options()
    )
    steps = config.num_envs * config.num_steps

    vec_env = envs.vectorize(built.env, config.num_envs, max(config.num_envs, steps // 16))
    _, env_state = jax.jit(vec_env.reset)(key, built.env_params)
    env_rollout = random_rollout(vec_env, built.env_params, config.num_steps)

    # Acting: the policy alone, its memory carried along.
    def act_rollout(state, key):
        def step(carry, key):
            carry, action, _ = built.act(state, carry, state.stream.obs, state.stream.reset & False, key)
            return carry, action.sum()

        return jax.lax.scan(step, state.stream.carry, jax.random.split(key, config.num_steps))[1]

    _, rollout = jax.jit(built.collect)(state, key)
    tokens = built.gradient.length * built.gradient.sequences
    same = {name: config.core[name] for name in networks.hyperparameters("feedforward") if name in config.core}
    memoryless = module.make_train(dataclasses.replace(config, core={"name": "feedforward", **same}))
    memoryless_state = jax.jit(memoryless.init)(key)

    seconds = {
        "update": median_seconds(update, state),
        "environment": median_seconds(jax.jit(env_rollout), env_state, key),
        "acting": median_seconds(jax.jit(act_rollout), state, key),
        "learning": median_seconds(jax.jit(built.learn), state, rollout, key),
        "learning, matrix products alone": built.gradient.steps * matrix_products(state.params, tokens),
        "update with core feedforward": median_seconds(jax.jit(memoryless.update), memoryless_state),
    }
    if config.core["name"] == "arelit":
        hyper = networks.hyperparameters("arelit") | config.core
        layer = recurrence_seconds(built.gradient.sequences, built.gradient.length, hyper, plain=False)["ours"]
        seconds["learning, recurrence alone"] = built.gradient.steps * hyper["n_layers"] * layer
    forward = matrix_flops(state.params, steps)
    acting_gflops = forward / seconds["acting"] / 1e9
    learning_gflops = 3 * built.gradient.steps * matrix_flops(state.params, tokens) / seconds["learning"] / 1e9
    return {
        "algo": algo,
        "preset": preset,
        "environment": config.env["id"],
        "core": config.core["name"],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "compile_seconds": {"init": init_seconds, "update": update_seconds, "evaluate": evaluate_seconds},
        "seconds_an_update": seconds,
        "env_steps_per_second": {
            "environment alone": steps / seconds["environment"],
            "acting alone": steps / seconds["acting"],
            "learning alone": steps / seconds["learning"],
            "whole trainer": steps / seconds["update"],
            "whole trainer with core feedforward": steps / seconds["update with core feedforward"],
        },
        "matrix_product_fraction": {
            "acting": acting_gflops / gemm_gflops,
            "learning": learning_gflops / gemm_gflops,
        },
        "update_buffers_mb": update.memory_analysis().temp_size_in_bytes / 2**20,
    }


# ------------------------------------------------------------------------------------------------------------
# Environments

# Id, options that are not the default, environments at once, steps of each.
ENVIRONMENTS: tuple[tuple[str, dict[str, Any], int, int], ...] = (
    ("TMaze-v1", {}, 1024, 1000),
    ("TMaze-v2", {}, 1024, 1000),
    ("TMazeOurs", {}, 1024, 1000),
    *((f"TMaze-{name}", {}, 1024, 1000) for name in ("Passive", "Active", "Endless", "Traces", "Pobax")),
    *((f"popgym/{name}Easy", {}, 1024, 1000) for name in ("RepeatFirst", "RepeatPrevious", "Autoencode")),
    *((f"popgym/{name}Easy", {}, 1024, 1000) for name in ("CountRecall", "HigherLower", "Concentration")),
    *((f"popgym/{name}Hard", {}, 1024, 1000) for name in ("RepeatFirst", "RepeatPrevious", "Autoencode")),
    *((f"popgym/{name}Hard", {}, 1024, 1000) for name in ("CountRecall", "HigherLower", "Concentration")),
    ("popgym/BattleshipEasy", {}, 1024, 1000),
    ("MysteryPath-Grid-v0", {"observation": "symbolic"}, 4096, 1000),
    ("MysteryPath-Grid-Easy-v0", {"observation": "symbolic"}, 4096, 1000),
    ("MysteryPath-Grid-v0", {}, 256, 128),
    ("MysteryPath-Grid-Easy-v0", {}, 256, 128),
    ("MysteryPath-v0", {}, 256, 128),
    ("MysteryPath-Easy-v0", {}, 256, 128),
    ("Endless-MysteryPath-v0", {}, 256, 128),
    *(("MiniGrid-MemoryS11-v0", {"observation": kind}, 1024, 512) for kind in ("symbolic", "frame")),
    *(("MiniGrid-MemoryS17Random-v0", {"observation": kind}, 1024, 512) for kind in ("symbolic", "frame")),
    *((name, {}, 1024, 500) for name in ("rocksample", "battleship", "popgym/NoisyPositionOnlyCartPoleEasy")),
    ("rocksample", {"n": 15, "k": 15}, 1024, 500),
)
MAX_POOL = 4096  # start states drawn before every rollout


def environments() -> Results:
    """Steps a second of environments alone: random actions drawn, restarts included."""
    rates = {}
    for env_id, options, num_envs, num_steps in ENVIRONMENTS:
        env, params = envs.make(env_id, **options)
        vec_env = envs.VectorEnv(env, num_envs, min(num_envs * num_steps // 16, MAX_POOL))
        _, state = jax.jit(vec_env.reset)(jax.random.key(0), params)
        rollout = jax.jit(random_rollout(vec_env, params, num_steps))
        seconds = median_seconds(rollout, state, jax.random.key(1))
        named = ", ".join([env_id, *map(str, options.values()), f"{num_envs} at once"])
        rates[named] = num_envs * num_steps / seconds
    return {"steps_per_second": rates}


# ------------------------------------------------------------------------------------------------------------
# Bridge

BRIDGE_ENV, BRIDGE_ENVS, BRIDGE_STEPS = "MemoryMaze-9x9-v0", 8, 100
ORIGINAL_STEPS = 150  # of one environment alone


def made(env_id: str) -> tuple:
    """envs.make; what it lacks is bad input."""
    try:
        return envs.make(env_id)
    except ValueError as error:
        raise harness.BadInput(str(error)) from error


def bridge() -> Results:
    """Memory Maze in compiled programs against a Python loop over the same workers, and against the original.

    Random actions, no restarts. Loop and program take turns, so that what else the machine does hits both.
    """
    env, params = made(BRIDGE_ENV)
    vec_env = envs.vectorize(env, BRIDGE_ENVS, 1)
    group = env.workers.open(BRIDGE_ENVS, restarts=True)
    group.reset(np.arange(BRIDGE_ENVS))
    actions = np.random.default_rng(0).integers(6, size=(BRIDGE_STEPS, BRIDGE_ENVS), dtype=np.int32)

    def python_loop():
        for action in actions:
            group.step(action)

    @jax.jit
    def program(state, key):
        def step(seen, inputs):
            (_, state), (key, action) = seen, inputs
            obs, state, *_ = vec_env.step(key, state, action, params)
            return (obs, state), None

        obs = jnp.zeros((BRIDGE_ENVS, *env.spec.obs_shape), env.spec.obs_dtype)
        return jax.lax.scan(step, (obs, state), (jax.random.split(key, BRIDGE_STEPS), actions))[0]

    key = jax.random.key(0)
    _, state = jax.jit(vec_env.reset)(key, params)
    jax.block_until_ready(program(state, key))
    looped, compiled = [], []
    for _ in range(4):
        looped.append(median_seconds(python_loop, repeats=1))
        compiled.append(median_seconds(program, state, key, repeats=1))
    env.workers.close()
    loop_s, program_s = statistics.median(looped), statistics.median(compiled)
    rates = {name: one_environment_alone(name) for name in ("OriginalMemoryMaze", "FastMemoryMaze")}
    return {
        "environment": BRIDGE_ENV,
        "workers": len(env.workers.pids),
        "env_steps_per_second": {
            f"{BRIDGE_ENVS} environments, Python loop": BRIDGE_ENVS * BRIDGE_STEPS / loop_s,
            f"{BRIDGE_ENVS} environments, compiled program": BRIDGE_ENVS * BRIDGE_STEPS / program_s,
            "one environment, original": rates["OriginalMemoryMaze"],
            "one environment, ours": rates["FastMemoryMaze"],
        },
        "overhead_of_the_bridge": program_s / loop_s - 1,
        "ours_against_the_original": rates["FastMemoryMaze"] / rates["OriginalMemoryMaze"],
    }


def one_environment_alone(name: str) -> float:
    """Steps a second of a Memory Maze in one worker process, without its reset."""
    factory, variables = memory_maze.factory(name)
    workers = Workers(factory, {"size": "9x9"}, 1, 120.0, variables)
    workers.limit(10**6)
    group = workers.open(1, restarts=True)
    group.reset(np.array([1]))
    actions = np.random.default_rng(0).integers(6, size=(ORIGINAL_STEPS, 1), dtype=np.int32)
    begin = time.perf_counter()
    for action in actions:
        group.step(action)
    seconds = time.perf_counter() - begin
    workers.close()
    return ORIGINAL_STEPS / seconds


# ------------------------------------------------------------------------------------------------------------
# Recurrence


def recurrence_seconds(batch: int, length: int, hyper: dict[str, Any], plain: bool) -> Results:
    """Forward and gradient of AReLiT's recurrence and read-out, one layer, from its features.

    The plain form is jitted associative_scan over [T, B, r, H, ..] for K and V and [T, B, H, ..] for s.
    """
    heads, d_head, eta, r = (hyper[name] for name in ("n_heads", "d_head", "eta", "r"))
    keys = jax.random.split(jax.random.key(0), 8)
    widths = arelit.Features(d_head, eta, d_head, eta, d_head, d_head, d_head, eta)
    squash = arelit.Features(*[jax.nn.relu] * 4, lambda x: x, jax.nn.sigmoid, jax.nn.sigmoid, jax.nn.sigmoid)
    features = arelit.Features(
        *[
            act(jax.random.normal(key, (length, batch, heads, width)))
            for key, width, act in zip(keys, widths, squash, strict=True)
        ]
    )
    keep = 1.0 - jax.random.bernoulli(keys[0], 0.01, (length, batch)).astype(jnp.float32)
    phase = jnp.arange(2, length + 2, dtype=jnp.int32)[:, None] + jnp.zeros(batch, jnp.int32)
    core = networks.make_core("arelit", n_layers=1, n_heads=heads, d_head=d_head, eta=eta, r=r)
    carry = core.initialize_carry((batch,)).layers[0]

    def gradient(attention, carry):
        def objective(features, carry):
            return jnp.sum(jnp.sin(attention(features, keep, phase, carry, r)[1]))

        return jax.jit(jax.value_and_grad(objective)), carry

    ours, carry = gradient(arelit.attention, carry)
    result = {"ours": median_seconds(ours, features, carry)}
    if plain:
        state = plain_forms.arelit_initial_state(batch, heads, d_head, eta, r)
        reference, state = gradient(plain_forms.arelit_attention, state)
        result["plain"] = median_seconds(reference, features, state)
        theirs, mine = reference(features, state)[1], ours(features, carry)[1]
        result["largest_relative_difference"] = max(
            float(jnp.abs(a - b).max() / jnp.abs(a).max())
            for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(mine), strict=True)
        )
    return result


def recurrence() -> Results:
    """AReLiT's recurrence and read-out against the plain form, and the carry against the released one."""
    hyper = {"n_heads": 4, "d_head": 64, "eta": 4, "r": 2}
    with jax.default_matmul_precision(product_precision()):
        seconds = recurrence_seconds(8, 256, hyper, plain=True)
    carry = networks.make_core("arelit").initialize_carry(())
    floats = sum(leaf.size for leaf in jax.tree.leaves(carry.layers))
    # The released carry: r of each oscillator, and a counter a layer.
    released = 4 * (4 * (2 * 4 * 64 + 2 * 64 + 4 * 64) + 1)
    return {
        "setting": "B=8 T=256 H=4 d_head=64 eta=4 r=2, forward + gradient",
        "plain_ms": 1e3 * seconds["plain"],
        "ours_ms": 1e3 * seconds["ours"],
        "speed_up": seconds["plain"] / seconds["ours"],
        "largest_relative_difference": seconds["largest_relative_difference"],
        "carry_floats": floats,
        "carry_of_released": floats / released,
    }


# ------------------------------------------------------------------------------------------------------------
# Cores

# The paper's T-Maze sizes.
PAPER_SIZES: dict[str, dict[str, Any]] = {
    "arelit": {"name": "arelit"},
    "relit": {"name": "relit"},
    "gtrxl-64": {"name": "gtrxl", "memory_len": 64},
    "gtrxl-128": {"name": "gtrxl", "memory_len": 128},
    "gtrxl-256": {"name": "gtrxl", "memory_len": 256},
    "lstm": {"name": "lstm", "n_layers": 1, "d_model": 600},
    "gru": {"name": "gru", "n_layers": 1, "d_model": 680},
    "feedforward": {"name": "feedforward"},
}
# The others at about as many parameters, 1.4 to 1.6 million: widths beside their defaults.
EQUAL_WIDTHS = {
    "mingru": 344,
    "lru": 320,
    "s5": 320,
    "rtu": 360,
    "ffm": 784,
    "mamba2": 448,
    "gated_deltanet": 168,
    "mlstm": 464,
    "frame_stack": 408,
    "memory_trace": 544,
}
INPUT_WIDTH = 16
BATCHES, LENGTHS, LEARNING_BATCH = (1, 16, 256), (32, 128, 512, 2048), 8


def seconds_a_step(step: Callable, params: Any, carry: Any, batch: int) -> float:
    """Time of one acting step of (params, carry, x, reset) -> (carry, out), from many in a row in one program."""
    steps = max(8, 512 // batch)
    resets = jnp.zeros((1, batch), bool)

    @jax.jit
    def run(params, carry, inputs):
        return jax.lax.scan(
            lambda carry, x: (lambda c, y: (c, y.sum()))(*step(params, carry, x, resets)), carry, inputs
        )

    inputs = jax.random.normal(jax.random.key(1), (steps, 1, batch, INPUT_WIDTH))
    return median_seconds(run, params, carry, inputs) / steps


def one_core(settings: dict[str, Any], gemm_gflops: float) -> Results:
    """Size, acting and learning of one memory core."""
    core = networks.make_core(**settings)
    carry = core.initialize_carry((1,))
    arguments = (jnp.zeros((1, 1, INPUT_WIDTH)), jnp.zeros((1, 1), bool))
    params = jax.jit(core.init)(jax.random.key(0), carry, *arguments)
    step = jax.jit(core.apply).lower(params, carry, *arguments).compile()
    result: Results = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "carry_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(carry)),
        "step_mflop": step.cost_analysis()["flops"] / 1e6,
        "acting_ms": {
            f"B={batch}": 1e3 * seconds_a_step(core.apply, params, core.initialize_carry((batch,)), batch)
            for batch in BATCHES
        },
        "gradient_ms": {},
        "gradient_matrix_product_fraction": {},  # the parameters' products alone, without those of the recurrence
        "gradient_buffers_mb": {},
        "compile_seconds": {},
    }

    def objective(params, carry, inputs, resets):
        return jnp.square(core.apply(params, carry, inputs, resets)[1]).mean()

    carry = core.initialize_carry((LEARNING_BATCH,))
    for length in LENGTHS:
        inputs = jax.random.normal(jax.random.key(1), (length, LEARNING_BATCH, INPUT_WIDTH))
        resets = jax.random.bernoulli(jax.random.key(2), 0.01, inputs.shape[:2])
        gradient, seconds = compile_timed(jax.grad(objective), params, carry, inputs, resets)
        name = f"T={length}"
        result["compile_seconds"][name] = seconds
        result["gradient_buffers_mb"][name] = gradient.memory_analysis().temp_size_in_bytes / 2**20
        seconds = median_seconds(gradient, params, carry, inputs, resets, repeats=3)
        result["gradient_ms"][name] = 1e3 * seconds
        flops = 3 * matrix_flops(params, length * LEARNING_BATCH)
        result["gradient_matrix_product_fraction"][name] = flops / seconds / 1e9 / gemm_gflops
    return result


def chunks_against_steps() -> Results:
    """Matrix memories of one layer, forward + gradient of T = 512 at B = 8: in chunks, and step after step."""
    length, results = 512, {}
    memories = {
        "mamba2": (chunked.ssd, chunked.SSDInputs),
        "gated_deltanet": (chunked.gated_delta, chunked.DeltaInputs),
        "mlstm": (chunked.mlstm, chunked.MLSTMInputs),
    }
    for name, (memory, kind) in memories.items():
        carry = networks.make_core(name, d_model=EQUAL_WIDTHS[name]).initialize_carry((LEARNING_BATCH,))
        state = max(jax.tree.leaves(carry), key=lambda leaf: leaf.size)
        batch, heads, key_width, value_width = state.shape
        if name == "mlstm":
            state = chunked.MLSTMState(state, jnp.zeros(state.shape[:3]), jnp.zeros(state.shape[:2]))
        keys = iter(jax.random.split(jax.random.key(0), 8))

        def draw(*width, heads=heads, batch=batch, keys=keys):
            return jax.random.normal(next(keys), (length, batch, heads, *width))

        drawn = {"key": draw(key_width) / key_width**0.5, "query": draw(key_width), "value": draw(value_width)}
        if name == "mlstm":
            drawn |= {"log_forget": -jnp.abs(draw()), "log_input": draw()}
        else:
            drawn |= {"log_decay": -jnp.abs(draw())}
        if name == "gated_deltanet":
            drawn |= {"rate": jax.nn.sigmoid(draw())}
        inputs = kind(**drawn)
        keep = jnp.ones((length, batch))

        def in_chunks(inputs, memory=memory, state=state, keep=keep):
            return jnp.square(memory(state, keep, inputs)[1]).mean()

        def step_by_step(inputs, memory=memory, state=state, keep=keep):
            def step(state, x):  # a segment of one step is computed as it stands
                state, readout = memory(state, *jax.tree.map(lambda leaf: leaf[None], x))
                return state, readout[0]

            return jnp.square(jax.lax.scan(step, state, (keep, inputs))[1]).mean()

        seconds = [
            median_seconds(jax.jit(jax.grad(form)), inputs, repeats=3) for form in (in_chunks, step_by_step)
        ]
        results[name] = {
            "H, K, V": f"{heads}, {key_width}, {value_width}",
            "chunks_ms": 1e3 * seconds[0],
            "steps_ms": 1e3 * seconds[1],
            "speed_up": seconds[1] / seconds[0],
        }
    return results


def gtrxl_baselines() -> Results:
    """GTrXL-128's acting step in plain form and with keys and values cached, its gradient in plain form."""
    core = networks.make_core("gtrxl")
    arguments = (jnp.zeros((1, 1, INPUT_WIDTH)), jnp.zeros((1, 1), bool))
    params = jax.jit(core.init)(jax.random.key(0), core.initialize_carry((1,)), *arguments)
    plain = functools.partial(plain_forms.gtrxl_apply, core)
    cached = functools.partial(plain_forms.gtrxl_cached_step, core)
    results: Results = {
        "gtrxl-128, plain transcription": {"acting_ms": {}},
        "gtrxl-128, cached keys, values": {"acting_ms": {}},
    }
    for batch in BATCHES:
        state, cache = plain_forms.gtrxl_initial_state(core, batch), plain_forms.gtrxl_initial_cache(core, batch)
        for name, step, carry in zip(results, (plain, cached), (state, cache), strict=True):
            results[name]["carry_bytes"] = sum(leaf.nbytes for leaf in jax.tree.leaves(carry)) / batch
            results[name]["acting_ms"][f"B={batch}"] = 1e3 * seconds_a_step(step, params, carry, batch)
    inputs = jax.random.normal(jax.random.key(1), (128, LEARNING_BATCH, INPUT_WIDTH))
    resets = jnp.zeros(inputs.shape[:2], bool)
    state = plain_forms.gtrxl_initial_state(core, LEARNING_BATCH)
    gradient = jax.jit(jax.grad(lambda params: jnp.square(plain(params, state, inputs, resets)[1]).mean()))
    results["gtrxl-128, plain transcription"]["gradient_ms"] = {
        "T=128": 1e3 * median_seconds(gradient, params, repeats=3)
    }
    return results


def cores(gemm_gflops: float) -> Results:
    """Every core at about equal sizes: one environment step, and forward + gradient of segments at B = 8."""
    sizes = PAPER_SIZES | {name: {"name": name, "d_model": width} for name, width in EQUAL_WIDTHS.items()}
    with jax.default_matmul_precision(product_precision()):
        results = {name: one_core(settings, gemm_gflops) for name, settings in sizes.items()}
        results |= gtrxl_baselines() | {"chunks against steps, T=512": chunks_against_steps()}
    ours, transformer = results["arelit"], results["gtrxl-128"]
    acting = {name: 1 - ours["acting_ms"][name] / transformer["acting_ms"][name] for name in ours["acting_ms"]}
    results["arelit against gtrxl-128"] = {
        "acting_saved": acting,
        "carry_saved": 1 - ours["carry_bytes"] / transformer["carry_bytes"],
    }
    results["compile_seconds_by_layers"] = {f"n_layers={n}": one_layer_count(n) for n in (1, 2, 4, 8)}
    return results


def one_layer_count(n_layers: int) -> float:
    """Seconds to compile AReLiT's forward and gradient at T = 128."""
    core = networks.make_core("arelit", n_layers=n_layers)
    carry = core.initialize_carry((LEARNING_BATCH,))
    inputs, resets = jnp.zeros((128, LEARNING_BATCH, INPUT_WIDTH)), jnp.zeros((128, LEARNING_BATCH), bool)
    params = jax.eval_shape(core.init, jax.random.key(0), carry, inputs, resets)
    return compile_timed(jax.grad(lambda params: core.apply(params, carry, inputs, resets)[1].sum()), params)[1]


def exported() -> Results:
    """One call from Python of policies as scripts/export.py writes them, A2C's for the T-Maze with each core.

    Encoder, actor and the dispatch of the call are in it; parameters are untrained, which costs the same.
    """
    results: Results = {}
    for name, core in PAPER_SIZES.items():
        config = a2c_arelit.Config(core=core)
        built = a2c_arelit.make_train(config)
        state = jax.jit(jax.vmap(built.init))(devices.seed_keys(config.seed, 1))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "policy.zip"
            export.write(LoadedRun("a2c_arelit", config, built, state, update=0), path, None, True)
            calls = {f"B={batch}": 1e3 * export.latency(path, batch) for batch in BATCHES}
            results[name] = {"file_kb": path.stat().st_size / 1e3, "call_ms": calls}
    return results


def ppo() -> Results:
    """The same PPO run (16 environments x 128 steps, 4 epochs, 8 minibatches) with three cores."""
    sizes = {"arelit": PAPER_SIZES["arelit"], "gtrxl-128": PAPER_SIZES["gtrxl-128"]}
    sizes["gru"] = {"name": "gru", "n_layers": 1, "d_model": 128}
    results: Results = {"environment": ppo_arelit.Config().env["id"]}
    for name, core in sizes.items():
        config = ppo_arelit.Config(core=core, num_envs=16, num_steps=128, update_epochs=4, num_minibatches=8)
        built = ppo_arelit.make_train(config)
        key = jax.random.key(0)
        init, init_seconds = compile_timed(built.init, key, **loop.start_options())
        state = init(key)
        update, update_seconds = compile_timed(built.update, state)
        rate = config.num_envs * config.num_steps / median_seconds(update, state, repeats=5)
        seconds = {"init": init_seconds, "update": update_seconds}
        results[name] = {"env_steps_per_second": rate, "compile_seconds": seconds}
    rates = {name: results[name]["env_steps_per_second"] for name in sizes}
    results["arelit against"] = {name: rates["arelit"] / rates[name] for name in ("gtrxl-128", "gru")}
    return results


def pqn() -> Results:
    """PQN and PPO with the same core, environment, rollout, epochs and minibatches; their updates take turns."""
    updates, steps = {}, 0
    default = ppo_arelit.Config()
    heads = {"q_hidden": default.actor_hidden}
    for name, module, others in (("ppo_arelit", ppo_arelit, {}), ("pqn_arelit", pqn_arelit, heads)):
        config = module.Config(
            **others,
            env=default.env,
            core=default.core,
            num_envs=16,
            num_steps=128,
            sequence_length=128,
            update_epochs=4,
            num_minibatches=8,
        )
        steps, built = config.num_envs * config.num_steps, module.make_train(config)
        state = jax.jit(built.init)(jax.random.key(0))
        updates[name] = functools.partial(compile_timed(built.update, state)[0], state)
    seconds: dict[str, list[float]] = {name: [] for name in updates}
    for _ in range(5):
        for name, update in updates.items():
            seconds[name].append(median_seconds(update, repeats=1))
    rates = {name: steps / statistics.median(each) for name, each in seconds.items()}
    return {"env_steps_per_second": rates, "pqn against ppo": rates["pqn_arelit"] / rates["ppo_arelit"]}


# ------------------------------------------------------------------------------------------------------------
# Scaling


def scaling(algo: str | None, preset: str, seed_counts: Sequence[int]) -> Results:
    """Rate and memory of several seeds as one program; without an algo A2C on T-Maze and PPO on Brax."""
    algos = ("a2c_arelit", "ppo_arelit_continuous") if algo is None else (algo,)
    return {algo: seeds_together(*build(algo, preset), seed_counts) for algo in algos}


def seeds_together(config: Any, built: Any, seed_counts: Sequence[int]) -> Results:
    """One trainer with each of these numbers of seeds.

    `times one seed` compares the steps of all seeds together with those of one; `efficiency` is that over the
    number of seeds: 1 if more seeds take no more time.
    """
    results = {f"seeds={count}": one_seed_count(config, built, count) for count in seed_counts}
    alone = results.get("seeds=1", {}).get("env_steps_per_second")
    for count, entry in zip(seed_counts, results.values(), strict=True):
        if alone and "env_steps_per_second" in entry:
            entry["times one seed"] = entry["env_steps_per_second"] / alone
            entry["efficiency"] = entry["times one seed"] / count
    return {"environment": config.env["id"], "core": config.core["name"], **results}


def one_seed_count(config: Any, built: Any, count: int) -> Results:
    """Rate of all seeds together, laid over the devices as in a run, and memory of an update on each device."""
    mesh = devices.seed_mesh(count, config.num_envs)
    sharding = devices.seed_sharding(mesh)
    keys = jax.device_put(devices.seed_keys(0, count), sharding)
    abstract = restore.abstract_state(built, count)
    state_sharding = devices.state_sharding(mesh, abstract, config.num_envs)
    abstract = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract, state_sharding
    )
    begin = time.perf_counter()
    program = jax.jit(
        devices.over_seeds(built.update, mesh), out_shardings=(state_sharding, sharding), donate_argnums=0
    )
    update = program.lower(abstract).compile()
    result: Results = {"devices": mesh.size, "compile_seconds": time.perf_counter() - begin}
    needed, available = footprint.bytes_needed(update), footprint.bytes_available(mesh)
    result["update_memory_mb"] = needed / 2**20
    if available is not None and needed > available:
        return result | {"does not fit": True}
    init = jax.jit(devices.over_seeds(built.init, mesh), out_shardings=state_sharding)
    state = init.lower(keys).compile(loop.start_options())(keys)

    def next_update() -> Any:
        nonlocal state  # its buffers are taken over
        state, metrics = update(state)
        return metrics

    seconds = median_seconds(next_update, repeats=5)
    return result | {"env_steps_per_second": count * config.num_envs * config.num_steps / seconds}


# ------------------------------------------------------------------------------------------------------------
# Report


def show(results: Results, indent: int = 0) -> None:
    """Print nested results as aligned lines."""
    for name, value in results.items():
        if isinstance(value, dict):
            print(f"{'':{indent}}{name}")
            show(value, indent + 2)
        else:
            text = f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1000 else value
            text = f"{value:,.0f}" if isinstance(value, float) and abs(value) >= 1000 else text
            print(f"{'':{indent}}{name:<{56 - indent}}{text}")


PARTS = {
    "trainer": trainer,
    "environments": environments,
    "recurrence": recurrence,
    "cores": cores,
    "exported": exported,
    "ppo": ppo,
    "pqn": pqn,
    "scaling": scaling,
    "bridge": bridge,
}


def main() -> None:
    parser = harness.OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; trainer if none is given"
    )
    parser.add_argument("--algo", help=f"of the parts trainer and scaling: one of {', '.join(TRAINERS)}")
    parser.add_argument("--preset", help="of the same parts: one of its --algo")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the part scaling; 1 4 16 64 if left out")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    with harness.exit_codes():
        arguments = parser.parse_args()
        parts = arguments.parts or ["trainer"]
        for part in parts:
            if part not in PARTS:
                raise harness.BadInput(f"PART={part!r}: allowed: {', '.join(PARTS)}")
        takers = {"algo": {"trainer", "scaling"}, "preset": {"trainer", "scaling"}, "seeds": {"scaling"}}
        for name, taking in takers.items():
            value = getattr(arguments, name)
            if value is not None and not taking & set(parts):
                raise harness.BadInput(f"{name}={value!r}: of the part {' or '.join(sorted(taking))} only")
        seeds = arguments.seeds or [1, 4, 16, 64]
        if min(seeds) < 1:
            raise harness.BadInput(f"seeds={min(seeds)}: must be at least 1")
        if "scaling" in parts and arguments.algo is None and arguments.preset is not None:
            raise harness.BadInput(f"preset={arguments.preset!r}: the part scaling takes it with --algo only")
        algo = "ppo_arelit_continuous" if arguments.algo is None else arguments.algo
        preset = arguments.preset or "default"
        if takers["algo"] & set(parts):
            _, built = build(algo, preset)
            if "scaling" in parts and built.lives_on_host:
                raise harness.BadInput(f"preset={preset!r}: the part scaling takes environments in JAX only")
        if "bridge" in parts:
            made(BRIDGE_ENV)
        results: Results = {"command": " ".join(sys.argv), "machine": machine()}
        gemm_gflops = results["machine"]["matrix_product_gflops"]
        given = {
            "trainer": (algo, preset, gemm_gflops),
            "cores": (gemm_gflops,),
            "scaling": (arguments.algo, preset, list(dict.fromkeys(seeds))),
        }
        for part in parts:
            results[part] = PARTS[part](*given.get(part, ()))
        # Kilobytes on Linux, bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 2**10
        results["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
        if arguments.json:
            print(json.dumps(results, indent=2, default=float, allow_nan=False))
        else:
            show(results)


if __name__ == "__main__":
    main()
