"""A trainer of a few parameters that compiles in a blink: `python tests/harness/stub.py FLAGS`.

Its environment and its cores stand in for the real ones, so a subprocess starts in about two seconds.
Faults are made by environment variables: STUB_NAN="<seed>:<update>" makes the loss NaN, STUB_SLEEP=<seconds>
slows every update, STUB_FAULT makes a call of the harness fail (see inject), STUB_PLAIN=1 leaves out the
pictures.
"""

import importlib
import itertools
import os
import resource
import signal
import sys
import time
import types
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from algos import harness
from algos.harness import loop
from algos.harness.fields import TRACED

ENVS = {
    "stub/a": {"backend": "spring", "episode_length": 12, "noise": 0.1},
    "stub/b": {"episode_length": 20, "size": 3},
}
CORES = {"arelit": {"n_layers": 2, "d_model": 8, "eta": 4}, "gru": {"n_layers": 1, "d_model": 16}}


NUM_UPDATES = 25


def options(env_id: str) -> dict[str, Any]:
    if env_id not in ENVS:
        raise ValueError(f"env.id={env_id!r}: not known; allowed: {', '.join(ENVS)}")
    return dict(ENVS[env_id])


def hyperparameters(name: str) -> dict[str, Any]:
    if name not in CORES:
        raise ValueError(f"core.name={name!r}: not known; allowed: {', '.join(CORES)}")
    return dict(CORES[name])


@dataclass(frozen=True)
class Config:
    seed: int = 0
    """First seed."""
    num_seeds: int = 1
    """How many seeds."""
    total_timesteps: int = NUM_UPDATES * 12
    """Environment steps a seed."""
    num_envs: int = 3
    """Environments."""
    num_steps: int = 4
    """Steps a rollout."""
    eval_episodes: int = 2
    """Episodes an evaluation."""
    run_dir: str = ""
    """Where the run is kept."""
    resume: str = ""
    """Run directory to continue."""
    init_from: str = ""
    """Run directory to start from."""
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    """Weights & Biases."""
    env: dict[str, Any] = field(default_factory=lambda: {"id": "stub/a", **ENVS["stub/a"]})
    """Environment."""
    core: dict[str, Any] = field(default_factory=lambda: {"name": "arelit", **CORES["arelit"], "d_model": 6})
    """Core."""
    learning_rate: Annotated[float, TRACED] = 0.01
    """Step size."""
    target_kl: float | None = None
    """Early stop."""
    anneal: bool = True
    """Whether the step size falls to zero."""

    def __post_init__(self):
        for name in ("num_seeds", "total_timesteps", "num_envs", "num_steps", "eval_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")

    @property
    def num_updates(self):
        return -(-self.total_timesteps // (self.num_envs * self.num_steps))


PRESETS = {
    "default": {},
    "wide": {"env": {"id": "stub/b", "size": 5}, "core": {"d_model": 32}, "learning_rate": 0.1},
}


class Params(NamedTuple):
    w: jax.Array
    b: jax.Array


@struct.dataclass
class Stream:
    env_state: jax.Array  # [0]: physics engines have leaves without elements
    obs: jax.Array  # [B, 2]


@struct.dataclass
class RunnerState:
    params: Params
    obs_statistics: jax.Array  # [1], mean of the observations seen last
    seed_key: jax.Array  # raw key data of the seed, so that update can tell the seeds apart
    stream: Stream
    key: jax.Array
    update: jax.Array


class Trainer(NamedTuple):
    init: Any
    update: Any
    evaluate: Any
    act: Any
    initial_carry: Any
    num_updates: int
    env: Any
    env_params: Any
    lives_on_host: bool = False


class Env:
    """Counts to episode_length with a reward of 2 a step; the picture is a bar that grows."""

    def __init__(self, episode_length: int):
        self._length = episode_length

    def observation_space(self, params):
        return types.SimpleNamespace(shape=(2,))

    def action_space(self, params):
        return types.SimpleNamespace(shape=(1,), sample=lambda key: jnp.zeros(1))

    def reset_env(self, key, params):
        return jnp.zeros(2), jnp.int32(0)

    def step_env(self, key, state, action, params):
        return jnp.full(2, state + 1.0), state + 1, jnp.float32(2), jnp.bool_(False), {}

    def is_truncated(self, state, params):
        return state >= self._length

    def render(self, state, params):
        frame = np.full((32, 48, 3), 255, np.uint8)
        frame[:, : 4 * int(state)] = (40, 80, 200)
        return frame


TRACES = {"update": 0, "evaluate": 0}
"""How often each function was traced in this process."""


def make_train(config: Config) -> Trainer:
    if config.num_envs == 7:
        raise ValueError("num_envs=7: must be any other number")
    nan_seed, nan_update = (int(x) for x in os.environ.get("STUB_NAN", "-1:-1").split(":"))
    sleep_s = float(os.environ.get("STUB_SLEEP", "0"))
    d_model = config.core["d_model"]

    def init(key):
        params = Params(jax.random.normal(key, (d_model, 2)), jnp.zeros(2))
        return RunnerState(
            params,
            jnp.zeros(1),
            jax.random.key_data(key),
            Stream(jnp.zeros(0), jax.random.normal(key, (config.num_envs, 2))),
            jax.random.fold_in(key, 1),
            jnp.int32(0),
        )

    def update(state):
        TRACES["update"] += 1
        key, draw = jax.random.split(state.key)
        count = state.update + 1
        obs = jnp.cos(state.stream.obs + jax.random.normal(draw, state.stream.obs.shape))
        target = jax.random.normal(draw, (d_model, 2)) + obs.mean(axis=0)
        loss, grads = jax.value_and_grad(lambda p: jnp.mean((p.w + p.b - target) ** 2))(state.params)
        is_chosen = (state.seed_key == jax.random.key_data(jax.random.key(max(nan_seed, 0)))).all()
        loss = jnp.where(is_chosen & (count == nan_update), jnp.nan, loss)
        params = jax.tree.map(lambda p, g: p - config.learning_rate * g, state.params, grads)
        if sleep_s:
            jax.debug.callback(lambda _: time.sleep(sleep_s), loss)
        episodes = (count % 3 == 0).astype(jnp.float32)
        metrics = {
            "episodes": episodes,
            "episode_return": episodes * jnp.sum(params.w),
            "episode_length": episodes * 12.0,
            "loss": loss,
            "grad_norm": jnp.sqrt(jnp.sum(grads.w**2)),
        }
        return state.replace(
            params=params,
            obs_statistics=obs.mean().reshape(1),
            stream=state.stream.replace(obs=obs),
            key=key,
            update=count,
        ), metrics

    def evaluate(state, key, deterministic, count=None):
        TRACES["evaluate"] += 1
        count = config.eval_episodes if count is None else count
        noise = 0.0 if deterministic else 1.0
        returns = jnp.sum(state.params.w) + noise * jax.random.normal(key, (count,))
        returns = returns + jax.random.uniform(key, (count,))
        return {"episode_return": returns, "episode_length": jnp.full((count,), 12.0)}

    def act(state, carry, obs, reset, key, deterministic):
        return carry + 1, obs @ jnp.ones((2, 1)), jnp.zeros(obs.shape[0])

    env = Env(config.env["episode_length"])
    return Trainer(init, update, evaluate, act, lambda batch: jnp.zeros(batch), config.num_updates, env, {})


def inject(fault: str) -> None:
    """Makes the n-th call of a function of the harness fail; `fault` is "<kind> <module> <function> <n>"."""
    kind, module, function, n = fault.split()
    owner = importlib.import_module(f"algos.harness.{module}")
    *classes, function = function.split(".")
    for each in classes:
        owner = getattr(owner, each)
    original, calls = getattr(owner, function), itertools.count(1)

    def failing(*args):
        if next(calls) == int(n):
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif kind == "full":  # from here on no file grows beyond 64 bytes
                resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
            elif kind == "hang":
                time.sleep(60)
        return original(*args)

    setattr(owner, function, failing)


def leave_out_pictures() -> None:
    loop.curve.draw = loop.episode.record = lambda *args: None


MODULES = {
    "envs": types.SimpleNamespace(options=options, ENV_IDS=tuple(ENVS), ENV_FAMILIES=()),
    "networks": types.SimpleNamespace(
        hyperparameters=hyperparameters,
        hyperparameter_help=lambda name: {key: f"{key} of {name}" for key in hyperparameters(name)},
        CORES=CORES,
    ),
}


def main() -> None:
    harness.main(Config, make_train, presets=PRESETS, doc="A stub.", algo="stub")


if __name__ == "__main__":
    sys.modules.update(MODULES)
    if "STUB_PLAIN" in os.environ:
        leave_out_pictures()
    if "STUB_FAULT" in os.environ:
        inject(os.environ["STUB_FAULT"])
    main()
