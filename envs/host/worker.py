"""The worker process: it holds some of the environments and steps them when it is told to.

    python worker.py SOCKET_FD LIFELINE_FD        (started by pool.py)

It runs as a file of its own and never imports JAX. Commands come as pickled tuples over a socket, answers go
back as ("ok", value) or ("error", one line, traceback); observations, actions and rewards lie in shared memory.
"""

import contextlib
import importlib
import importlib.util
import math
import mmap
import os
import pickle
import signal
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Spec:
    """What an environment takes and gives.

    Attributes:
        obs_shape, obs_dtype: of an observation; the type is uint8 or float32.
        obs_low, obs_high: its bounds, arrays of that shape.
        num_actions: of a discrete action, 0 for a continuous one.
        first_action: the number of the first discrete action.
        action_shape, action_low, action_high: of a continuous action, float32; bounds are arrays.
        max_steps: of an episode, 0 where the environment does not say.
    """

    obs_shape: tuple[int, ...]
    obs_dtype: str
    obs_low: np.ndarray
    obs_high: np.ndarray
    num_actions: int
    first_action: int
    action_shape: tuple[int, ...]
    action_low: np.ndarray | None
    action_high: np.ndarray | None
    max_steps: int

    @property
    def action_dtype(self) -> str:
        return "int32" if self.num_actions else "float32"


def layout(spec: Spec, num_envs: int, num_workers: int) -> tuple[dict[str, tuple], int]:
    """The arrays in shared memory, name -> (offset, dtype, shape), and their size in bytes."""
    n = (num_envs,)
    arrays = {
        "obs": (spec.obs_dtype, n + spec.obs_shape),  # what each environment shows now
        "final_obs": (spec.obs_dtype, n + spec.obs_shape),  # after the last step, before any restart
        "action": (spec.action_dtype, n + spec.action_shape),
        "reward": ("float32", n),
        "terminated": ("uint8", n),
        "truncated": ("uint8", n),
        "seed": ("int64", n),
        "beats": ("int64", (num_workers,)),  # environments that each worker has been through: a sign of life
    }
    places, size = {}, 0
    for name, (dtype, shape) in arrays.items():
        places[name] = (size, dtype, shape)
        size += -(-math.prod(shape) * np.dtype(dtype).itemsize // 64) * 64
    return places, size


def views(memory: mmap.mmap, places: dict[str, tuple]) -> dict[str, np.ndarray]:
    """The arrays of `layout` as views of shared memory."""
    return {
        name: np.frombuffer(memory, dtype, count=math.prod(shape), offset=offset).reshape(shape)
        for name, (offset, dtype, shape) in places.items()
    }


def load(factory: str):
    """The callable that `factory` names: "module:attribute", or "/a/file.py:attribute"."""
    place, _, attribute = factory.rpartition(":")
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location(os.path.basename(place)[:-3], place)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    for name in attribute.split("."):
        module = getattr(module, name)
    return module


class GymnasiumEnv:
    """A gymnasium environment (or anything with its interface) made by factory(**kwargs)."""

    def __init__(self, env: Any):
        self._env = env

    def spec(self) -> Spec:
        obs, action = self._env.observation_space, self._env.action_space
        if not hasattr(obs, "low"):
            wrapper = "gymnasium.wrappers.FlattenObservation"
            raise TypeError(f"observations of {obs}: must be a Box, which {wrapper} makes of most")
        own = getattr(self._env, "spec", None)
        bounds = [np.asarray(bound) for bound in (obs.low, obs.high)]
        return make_spec(obs.shape, obs.dtype, *bounds, action, getattr(own, "max_episode_steps", None) or 0)

    def reset(self, seed: int | None):
        return _tuple_of("reset", self._env.reset(seed=seed), "(observation, info)")[0]

    def step(self, action):
        parts = "(observation, reward, terminated, truncated, info)"
        return _tuple_of("step", self._env.step(action), parts)[:4]

    def close(self) -> None:
        self._env.close()


def _tuple_of(method: str, returned: Any, parts: str) -> tuple:
    """`returned`, unless it is that of another interface: gym before 0.26 had other tuples."""
    if not isinstance(returned, tuple) or len(returned) != parts.count(",") + 1:
        raise TypeError(f"{method} returned no {parts}, as gymnasium's environments do")
    return returned


class DmEnv:
    """A dm_env environment. It cannot be seeded: for every seed the factory makes a new one."""

    def __init__(self, env: Any, remake):
        self._env, self._remake = env, remake

    def spec(self) -> Spec:
        specs = self._env.observation_spec()
        parts = list(specs.values()) if hasattr(specs, "values") else [specs]
        if len(parts) == 1:
            (part,) = parts
            low = np.broadcast_to(getattr(part, "minimum", -np.inf), part.shape)
            high = np.broadcast_to(getattr(part, "maximum", np.inf), part.shape)
            shape, dtype = part.shape, part.dtype
        else:
            shape, dtype = (sum(math.prod(part.shape) for part in parts),), np.float32
            low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
        return make_spec(shape, dtype, low, high, _DmAction(self._env.action_spec()), 0)

    def reset(self, seed: int | None):
        if seed is not None:
            self.close()
            self._env = self._remake(seed)
        return self._flat(self._env.reset().observation)

    def step(self, action):
        time_step = self._env.step(action)
        terminated = time_step.last() and time_step.discount == 0
        truncated = time_step.last() and not terminated
        return self._flat(time_step.observation), time_step.reward or 0.0, terminated, truncated

    def close(self) -> None:
        if hasattr(self._env, "close"):
            self._env.close()

    def _flat(self, observation):
        if not hasattr(observation, "values"):
            return observation
        parts = list(observation.values())
        return parts[0] if len(parts) == 1 else np.concatenate([np.ravel(part) for part in parts])


class _DmAction:
    """A dm_env action specification with the attributes of gymnasium's spaces."""

    def __init__(self, spec: Any):
        self.shape, self.dtype = spec.shape, spec.dtype
        if hasattr(spec, "num_values"):
            self.n, self.start = spec.num_values, 0
        elif hasattr(spec, "minimum") and np.issubdtype(spec.dtype, np.floating):
            self.low, self.high = (np.broadcast_to(bound, spec.shape) for bound in (spec.minimum, spec.maximum))


def make_spec(shape, dtype, low, high, action, max_steps: int) -> Spec:
    """A Spec from the parts of gymnasium's spaces.

    Raises:
        TypeError: an action that is neither one number of a few nor a vector of floats.
    """
    dtype = "uint8" if np.dtype(dtype) == np.uint8 else "float32"
    common = (tuple(shape), dtype, np.asarray(low, dtype), np.asarray(high, dtype))
    if hasattr(action, "n") and tuple(action.shape) == ():  # MultiBinary has an `n` too
        return Spec(*common, int(action.n), int(getattr(action, "start", 0)), (), None, None, max_steps)
    if hasattr(action, "low") and np.issubdtype(action.dtype, np.floating):
        bounds = (np.asarray(action.low, np.float32), np.asarray(action.high, np.float32))
        return Spec(*common, 0, 0, tuple(action.shape), *bounds, max_steps)
    raise TypeError(f"actions of {action}: must be Discrete or a Box of floats")


def as_specified(obs: Any, spec: Spec) -> np.ndarray:
    """An observation as an array, which assignment to shared memory would broadcast and cast without a word.

    Raises:
        ValueError: it has another shape than the environment says.
        TypeError: floats where it says uint8.
    """
    obs = np.asarray(obs)
    if obs.shape != spec.obs_shape:
        raise ValueError(f"observation of shape {obs.shape}: must be {spec.obs_shape}, as the environment says")
    if obs.dtype.kind == "f" and spec.obs_dtype == "uint8":
        raise TypeError(f"observation of {obs.dtype}: must be uint8, as the environment says")
    return obs


def as_number(reward: Any) -> float:
    """A reward as a float; shared memory would take None for NaN. Raises TypeError if it is no number."""
    try:
        return float(reward)
    except (TypeError, ValueError):
        raise TypeError(f"reward {reward!r}: must be a number") from None


@dataclass
class Slot:
    """One environment of a group, None before its first episode and after its last."""

    index: int
    env: Any = None
    steps: int = 0


class Group:
    """This worker's part of a group of environments that are stepped together."""

    def __init__(self, worker: "Worker", number: int, indices: list[int], restarts: bool, arrays):
        self._worker, self._number, self._restarts = worker, number, restarts
        self._slots = [Slot(index) for index in indices]
        self._arrays = arrays

    def reset(self) -> None:
        """A first episode in every environment, from its seed."""
        shared = self._arrays
        for slot in self._slots:
            if slot.env is None:
                slot.env = self._worker.make()
            obs = self._worker.reset_env(slot.env, int(shared["seed"][slot.index]))
            slot.steps = 0
            shared["obs"][slot.index] = shared["final_obs"][slot.index] = obs
            shared["reward"][slot.index] = shared["terminated"][slot.index] = shared["truncated"][slot.index] = 0
            shared["beats"][self._number] += 1

    def step(self) -> None:
        """One step in every environment whose episode runs.

        At its end a new one begins in the same call, or, without restarts, the environment is closed and all
        further steps leave its last observation as it is, with a reward of 0.
        """
        shared = self._arrays
        for slot in self._slots:
            at = slot.index
            if slot.env is None:
                shared["reward"][at] = 0
                continue
            obs, reward, terminated, truncated = self._worker.step_env(slot.env, shared["action"][at])
            slot.steps += 1
            truncated = (truncated or slot.steps >= self._worker.max_steps) and not terminated
            shared["final_obs"][at] = obs
            shared["reward"][at], shared["terminated"][at], shared["truncated"][at] = reward, terminated, truncated
            if not (terminated or truncated):
                shared["obs"][at] = obs
            elif self._restarts:
                shared["obs"][at] = self._worker.reset_env(slot.env, None)
                slot.steps = 0
            else:
                shared["obs"][at] = obs
                slot.env.close()
                slot.env = None
            shared["beats"][self._number] += 1

    def close(self) -> None:
        for slot in self._slots:
            if slot.env is not None:
                slot.env.close()


class Worker:
    """Answers the pool's commands until told to exit."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self._groups: dict[int, Group] = {}
        self._spec: Spec | None = None
        self.max_steps = math.inf

    def configure(self, number: int, path: list[str], factory: str, kwargs: dict[str, Any]) -> None:
        sys.path[:] = path
        self._number, self._factory, self._kwargs = number, load(factory), kwargs

    def describe(self) -> dict[str, Any]:
        """The fields of the Spec, after a first step, so that an environment that cannot run says so at once."""
        env = self.make()
        self._spec = spec = env.spec()
        self.reset_env(env, 0)
        nothing = np.zeros(()) if spec.num_actions else np.clip(0.0, spec.action_low, spec.action_high)
        self.step_env(env, nothing)
        env.close()
        return asdict(spec)

    def limit(self, spec: dict[str, Any], max_steps: int) -> None:
        self._spec, self.max_steps = Spec(**spec), max_steps

    def make(self):
        env = self._factory(**self._kwargs)
        if hasattr(env, "observation_spec"):
            return DmEnv(env, lambda seed: self._factory(**self._kwargs, seed=seed))
        if not hasattr(env, "observation_space"):
            raise TypeError(f"the function returned {env!r}: must be a gymnasium or dm_env environment")
        return GymnasiumEnv(env)

    def reset_env(self, env: GymnasiumEnv | DmEnv, seed: int | None) -> np.ndarray:
        """The first observation of an episode; without a seed, the environment's generators draw on."""
        return as_specified(env.reset(seed), self._spec)

    def step_env(self, env: GymnasiumEnv | DmEnv, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """(observation, reward, terminated, truncated) of an action from shared memory."""
        spec = self._spec
        action = int(action) + spec.first_action if spec.num_actions else np.array(action)
        obs, reward, terminated, truncated = env.step(action)
        return as_specified(obs, spec), as_number(reward), bool(terminated), bool(truncated)

    def open(self, group: int, indices: list[int], restarts: bool, num_envs: int, num_workers: int) -> None:
        descriptor = reduction.recv_handle(self._connection)
        places, size = layout(self._spec, num_envs, num_workers)
        memory = mmap.mmap(descriptor, size)
        os.close(descriptor)
        self._groups[group] = Group(self, self._number, indices, restarts, views(memory, places))

    def reset(self, group: int) -> None:
        self._groups[group].reset()

    def step(self, group: int) -> None:
        self._groups[group].step()

    def close(self, group: int) -> None:
        self._groups.pop(group).close()

    def run(self) -> None:
        """Answers until it is told to exit, the parent is gone, or something is raised."""
        while (message := self._receive()) is not None:
            command, *arguments = pickle.loads(message)
            if command == "exit":
                for group in self._groups.values():
                    group.close()
                return
            try:
                answer = ("ok", getattr(self, command)(*arguments))
            except BaseException as error:
                one_line = " ".join(f"{type(error).__name__}: {error}".split())
                self._answer("error", one_line, traceback.format_exc())
                sys.exit(1)
            self._answer(*answer)

    def _receive(self) -> bytes | None:
        try:
            return self._connection.recv_bytes()
        except (EOFError, ConnectionResetError):
            return None

    def _answer(self, *parts: Any) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody is left to hear it
            self._connection.send_bytes(pickle.dumps(parts))


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # job managers signal every process; the parent decides
        signal.signal(number, signal.SIG_IGN)
    connection, lifeline = Connection(int(sys.argv[1])), int(sys.argv[2])

    def end_with_parent() -> None:
        os.read(lifeline, 1)  # its other end closes with the parent, however that ends
        os._exit(1)

    # A worker that hangs in an environment would not see that its socket is closed.
    threading.Thread(target=end_with_parent, daemon=True).start()
    Worker(connection).run()


if __name__ == "__main__":
    main()
