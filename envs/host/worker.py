"""The worker process: it holds some of the environments and steps them when it is told to.

    python worker.py SOCKET_FD LIFELINE_FD        (started by workers.py)

It runs as a file of its own and never imports JAX. Commands come as pickled tuples over a socket, answers go
back as ("ok", value) or ("error", one line, traceback); observations, actions and rewards lie in shared memory.
"""

import contextlib
import importlib
import importlib.util
import inspect
import math
import mmap
import os
import pickle
import random
import reprlib
import signal
import sys
import threading
import traceback
from collections import OrderedDict
from dataclasses import asdict, dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Spec:
    """What an environment takes and gives.

    Attributes:
        obs_shape, obs_dtype: of an observation; the type is uint8 or float32.
        obs_low, obs_high: its bounds, arrays of that shape.
        num_actions: of a discrete action, 0 for a continuous one.
        action_shape, action_low, action_high: of a continuous action, float32; bounds are arrays. The worker has
            the environment's own, which float32 may round.
        max_steps: of an episode, 0 where the environment does not say.
        no_frames: why the environment draws no frames of itself, in one line; empty where it does.
    """

    obs_shape: tuple[int, ...]
    obs_dtype: str
    obs_low: np.ndarray
    obs_high: np.ndarray
    num_actions: int
    action_shape: tuple[int, ...]
    action_low: np.ndarray | None
    action_high: np.ndarray | None
    max_steps: int
    no_frames: str

    @property
    def action_dtype(self) -> str:
        return "int32" if self.num_actions else "float32"


def shared_arrays(spec: Spec, num_envs: int, num_workers: int) -> tuple[dict[str, tuple], int]:
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
    """The arrays of `shared_arrays` as views of shared memory."""
    return {
        name: np.frombuffer(memory, dtype, count=math.prod(shape), offset=offset).reshape(shape)
        for name, (offset, dtype, shape) in places.items()
    }


# ----------------------------------------------------------------------------------------------------------------
# Finding what makes an environment


def load(factory: str):
    """The callable that `factory` names: "module:attribute", or "/a/file.py:attribute".

    A file is imported as `python /a/file.py` would see it, with its folder first on the path; a module is looked
    for in the working directory first, but for one that is registered with gymnasium, which may be installed.
    """
    place, _, attribute = factory.rpartition(":")
    if place.endswith(".py"):
        found = _import_file(os.path.abspath(os.path.expanduser(place)))
    else:
        sys.path.insert(len(sys.path) if place == "gymnasium" else 0, os.getcwd())
        found = _import_module(place)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


def _import_file(path: str):
    sys.path.insert(0, os.path.dirname(path))
    name = os.path.basename(path)[:-3]
    if name in sys.modules:  # a module of Python's own or of NumPy's
        name = f"{name}_of_the_environment"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up by its name
    spec.loader.exec_module(module)
    return module


def _import_module(name: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name and not name.startswith(f"{error.name}."):
            raise  # it is there, and something that it imports is not
        message = f"no module {name} in {os.getcwd()}, in PYTHONPATH or installed"
        raise ModuleNotFoundError(message, name=error.name) from None


# ----------------------------------------------------------------------------------------------------------------
# What environments show, take and pay


class Observations:
    """What an environment shows as one array, checked against what its space says.

    A Box stays as it is (one without axes gets one). Every other space becomes the vector of float32 that
    gymnasium's `flatten` makes of it: Discrete and MultiDiscrete one-hot, parts one after another.

    Attributes:
        shape, dtype: of the array; the type is uint8 or float32.
        low, high: its bounds.

    Raises:
        TypeError: a space that is no Box and that gymnasium makes none of.
    """

    def __init__(self, space: Any):
        self._space, self._is_box = space, hasattr(space, "low")
        box = space if self._is_box else _flat_box(space)
        self.shape = tuple(box.shape) or (1,)
        self.dtype = "uint8" if self._is_box and np.dtype(box.dtype) == np.uint8 else "float32"
        bounds = (as_bound(bound, box.shape, self.dtype) for bound in (box.low, box.high))
        self.low, self.high = (bound.reshape(self.shape) for bound in bounds)

    def __call__(self, value: Any) -> np.ndarray:
        """An observation of the environment as the array.

        Raises:
            TypeError, ValueError: it is not what the space says, or not finite.
        """
        name = "observation"
        if self._is_box:
            array = as_declared(value, self._space.shape, self._space.dtype, name)
        else:
            from gymnasium.spaces.utils import flatten

            array = flatten(self._space, as_contained(value, self._space, name))
        return (array if self.dtype == "uint8" else as_float32(array, name)).reshape(self.shape)


def _flat_box(space: Any):
    from gymnasium.spaces import Box
    from gymnasium.spaces.utils import flatten_space

    with contextlib.suppress(NotImplementedError, ValueError):  # another space inside; none inside
        box = flatten_space(space)
        if isinstance(box, Box):
            return box
    allowed = "Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these"
    raise TypeError(f"observations of {space}: must be a {allowed}")


def as_bound(bound: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A bound of a space as an array; beyond the range of float32 it is infinite."""
    with np.errstate(over="ignore"):
        return np.broadcast_to(np.asarray(bound).astype(dtype), tuple(shape))


def as_declared(value: Any, shape: tuple[int, ...], dtype: Any, name: str) -> np.ndarray:
    """`value` as an array, which an assignment would broadcast, wrap around and truncate without a word.

    Args:
        value: what the environment gave.
        shape, dtype: what it says that it gives. Of these integers all entries must be; floats may be of any type.
        name: for messages.

    Raises:
        ValueError: it has another shape, or an entry that the type does not hold.
        TypeError: no numbers, or floats where it says uint8.
    """
    array, dtype = np.asarray(value), np.dtype(dtype)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} {reprlib.repr(value)}: must be numbers")
    if array.shape != tuple(shape):
        raise ValueError(f"{name} of shape {array.shape}: must be {tuple(shape)}, as the environment says")
    if dtype.kind not in "bui" or array.dtype == dtype:
        return array
    if array.dtype.kind == "f" and dtype == np.uint8:
        raise TypeError(f"{name} of {array.dtype}: must be uint8, as the environment says")
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    bad = (array < low) | (array > high)
    if array.dtype.kind == "f":
        bad |= array != np.trunc(array)
    if bad.any():
        entry = first_entry(array, bad, name)
        raise ValueError(f"{entry}: must be an integer from {low} to {high}, as the environment says {dtype}")
    return array.astype(dtype)


def as_contained(value: Any, space: Any, name: str) -> Any:
    """`value` with every part as its space says, which gymnasium's `flatten` takes for granted.

    Raises:
        TypeError, ValueError: a part is missing, is not in its space or not finite.
    """
    from gymnasium.spaces import Dict, Tuple

    if isinstance(space, Dict):
        if missing := [key for key in space.spaces if key not in value]:
            raise ValueError(f"{name} without {missing[0]!r}: must have what the environment says")
        return {key: as_contained(value[key], part, f"{name}[{key!r}]") for key, part in space.spaces.items()}
    if isinstance(space, Tuple):
        if len(value) != len(space.spaces):
            raise ValueError(f"{name} of {len(value)} parts: must be {len(space.spaces)}, as the environment says")
        parts = enumerate(zip(value, space.spaces, strict=True))
        return tuple(as_contained(each, part, f"{name}[{index}]") for index, (each, part) in parts)
    if hasattr(space, "low"):
        array = as_declared(value, space.shape, space.dtype, name)
        as_float32(array, name)
        return array
    if hasattr(space, "n") or hasattr(space, "nvec"):  # Discrete, MultiBinary, MultiDiscrete
        array = np.asarray(value)
        array = array.reshape(space.shape) if array.size == 1 else array
        value = as_declared(array, space.shape, space.dtype, name)
    if not space.contains(value):
        raise ValueError(f"{name} {value}: must be in {space}")
    return value


def as_float32(array: np.ndarray, name: str) -> np.ndarray:
    """The array in float32. Raises ValueError where an entry is NaN, infinite, or becomes so."""
    with np.errstate(over="ignore"):
        result = array.astype(np.float32)
    if array.dtype.kind == "f" and not (finite := np.isfinite(result)).all():
        raise ValueError(f"{first_entry(array, ~finite, name)}: must be finite in float32")
    return result


def first_entry(array: np.ndarray, chosen: np.ndarray, name: str) -> str:
    """The first of the chosen entries, with its place."""
    index = np.argwhere(chosen)[0].tolist()
    return f"{name} {array[tuple(index)]}" + (f" at {index}" if index else "")


def as_number(reward: Any) -> float:
    """A reward, or an array of one, as a float.

    Raises:
        TypeError: it is no number; shared memory would take None for NaN.
        ValueError: it is NaN or infinite, or would be in float32.
    """
    array = np.asarray(reward)
    try:
        number = float(array.item())
    except (TypeError, ValueError):
        raise TypeError(f"reward {reprlib.repr(reward)}: must be a number") from None
    if not abs(number) <= FLOAT32_MAX:
        raise ValueError(f"reward {number}: must be finite in float32")
    return number


class Actions:
    """A policy's actions as those of an environment's space, in its own type and within its own bounds.

    Args:
        space: of gymnasium, or anything with its attributes: `n` (and `start`), or `low` and `high`.

    Attributes:
        n: number of discrete actions, 0 for continuous ones.
        shape: of a continuous action.
        low, high: its bounds, arrays of float32; None for discrete actions.

    Raises:
        TypeError: an action that is neither one number of a few nor an array of floats.
    """

    def __init__(self, space: Any):
        self.n, self.shape, self.low, self.high = 0, (), None, None
        if hasattr(space, "n") and tuple(space.shape) == ():  # MultiBinary has an `n` too
            self.n, self._start = int(space.n), int(getattr(space, "start", 0))
            self._type = np.dtype(getattr(space, "dtype", None) or np.int64).type
        elif hasattr(space, "low") and np.issubdtype(space.dtype, np.floating):
            self.shape, self._type = tuple(space.shape), space.dtype
            self.low, self.high = (as_bound(bound, self.shape, "float32") for bound in (space.low, space.high))
            most = np.finfo(self._type).max  # an action beyond it would become infinite
            self._bounds = (
                np.maximum(np.asarray(space.low, np.float64), -most),
                np.minimum(np.asarray(space.high, np.float64), most),
            )
        else:
            raise TypeError(f"actions of {space}: must be Discrete or a Box of floats")

    def __call__(self, action: np.ndarray) -> np.generic | np.ndarray:
        """What the environment's step receives for an action from shared memory."""
        if self.n:
            return self._type(int(action) + self._start)
        low, high = self._bounds
        # Bounds in the type of the space are also numbers of it: rounding leads out of them no more.
        return np.array(np.minimum(np.maximum(action, low), high), self._type)

    def nothing(self) -> np.ndarray:
        """An action to try: the first one, or as close to zero as can be."""
        return np.zeros(()) if self.n else np.clip(0.0, self.low, self.high)


# ----------------------------------------------------------------------------------------------------------------
# Interfaces of environments


class GymnasiumEnv:
    """A gymnasium environment, or anything with its interface."""

    def __init__(self, env: Any):
        if not hasattr(env, "observation_space"):
            raise TypeError(f"the function returned {env!r}: must be a gymnasium or dm_env environment")
        self._env = env
        self.observations, self.actions = Observations(env.observation_space), Actions(env.action_space)

    def max_steps(self) -> int:
        """The shortest time limit among the environment and its wrappers, 0 where there is none."""
        limits, layer, seen = [], self._env, set()
        while layer is not None and id(layer) not in seen:
            seen.add(id(layer))
            limits.append(getattr(layer, "_max_episode_steps", None))  # of gymnasium's TimeLimit
            limits.append(getattr(getattr(layer, "spec", None), "max_episode_steps", None))
            layer = getattr(layer, "env", None)
        return min((math.ceil(limit) for limit in limits if limit and 0 < limit < math.inf), default=0)

    def reset(self, seed: int | None):
        return _tuple_of("reset", self._env.reset(seed=seed), "(observation, info)")[0]

    def step(self, action: Any):
        parts = "(observation, reward, terminated, truncated, info)"
        return _tuple_of("step", self._env.step(action), parts)[:4]

    def no_frames(self, takes_render_mode: bool) -> str:
        """Why there are no frames, in one line; empty where there are, if only it is asked for them when made."""
        mode = getattr(self._env, "render_mode", None)
        modes = (getattr(self._env, "metadata", None) or {}).get("render_modes") or []
        if mode == "rgb_array":
            return ""
        if "rgb_array" not in modes:
            return f"rgb_array is none of its render_modes {list(modes)}"
        if not takes_render_mode:
            return f"its render_mode is {mode}, must be rgb_array, and its function takes no render_mode"
        return ""

    def frame(self) -> np.ndarray:
        """What the environment looks like now, uint8 [height, width, 3]."""
        frame = np.asarray(self._env.render())
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] not in (3, 4):
            raise TypeError(f"render returned {frame.dtype} {list(frame.shape)}: must be uint8 [height, width, 3]")
        return np.ascontiguousarray(frame[..., :3])

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
        specs = env.observation_spec()
        # The only entry of a dictionary is what it shows; several are joined.
        self._only = next(iter(specs)) if hasattr(specs, "values") and len(specs) == 1 else None
        specs = specs if self._only is None else specs[self._only]
        self.observations, self.actions = Observations(_space(specs)), Actions(_DmAction(env.action_spec()))

    def max_steps(self) -> int:
        return 0

    def reset(self, seed: int | None):
        if seed is not None:
            self.close()
            self._env = self._remake(seed)
        return self._shown(self._env.reset())

    def step(self, action: Any):
        time_step = self._env.step(action)
        terminated = time_step.last() and time_step.discount == 0
        truncated = time_step.last() and not terminated
        reward = 0.0 if time_step.reward is None else time_step.reward
        return self._shown(time_step), reward, terminated, truncated

    def no_frames(self, takes_render_mode: bool) -> str:
        return "dm_env has no frames"

    def close(self) -> None:
        if hasattr(self._env, "close"):
            self._env.close()

    def _shown(self, time_step: Any):
        return time_step.observation if self._only is None else time_step.observation[self._only]


def _space(spec: Any):
    """The gymnasium space of a dm_env specification; the parts of a dictionary keep their order."""
    from gymnasium import spaces

    if hasattr(spec, "items"):
        return spaces.Dict(OrderedDict((key, _space(part)) for key, part in spec.items()))
    if not hasattr(spec, "shape"):
        return spaces.Tuple([_space(part) for part in spec])
    if hasattr(spec, "num_values"):
        return spaces.Discrete(int(spec.num_values))
    shape, dtype = tuple(spec.shape), np.dtype(spec.dtype)
    if dtype.kind not in "buif":
        raise TypeError(f"observations of {spec}: must be numbers")
    low, high = -np.inf, np.inf
    if dtype.kind != "f":
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    low, high = getattr(spec, "minimum", low), getattr(spec, "maximum", high)
    return spaces.Box(*(np.broadcast_to(bound, shape).astype(dtype) for bound in (low, high)), shape, dtype)


class _DmAction:
    """A dm_env action specification with the attributes of gymnasium's spaces."""

    def __init__(self, spec: Any):
        self._spec = spec
        self.shape, self.dtype = getattr(spec, "shape", None), getattr(spec, "dtype", None)
        if hasattr(spec, "num_values"):
            self.n, self.start = spec.num_values, 0
        elif hasattr(spec, "minimum") and np.issubdtype(spec.dtype, np.floating):
            self.low, self.high = (np.broadcast_to(bound, spec.shape) for bound in (spec.minimum, spec.maximum))

    def __repr__(self) -> str:
        return repr(self._spec)


# ----------------------------------------------------------------------------------------------------------------
# The worker


class Slot:
    """One environment and its episodes, one after another, with all that it gives checked.

    The global generators of NumPy and Python are this environment's own while it is reset or stepped: what they
    draw depends on its seed alone, not on the other environments of the worker.

    Args:
        worker: makes the environment.
        index: its place in the shared arrays.
        drawn: whether frames of it will be asked for.

    Attributes:
        env: None before its first episode and after its last.
        over: whether the episode has ended and no other begun.
    """

    def __init__(self, worker: "Worker", index: int, drawn: bool = False):
        self._worker, self.index, self._drawn = worker, index, drawn
        self.env: GymnasiumEnv | DmEnv | None = None
        self.over = False
        self._steps = self._calls = 0

    def reset(self, seed: int | None) -> np.ndarray:
        """The first observation of an episode; without a seed, the environment's generators draw on."""
        if seed is not None:
            self._seed, self._calls, self._generator = seed, 0, np.random.MT19937(seed)
        self._own_generators()
        if self.env is None:
            self.env = self._worker.make(self._drawn)
        self._steps, self.over = 0, False
        obs = self.env.reset(seed)
        return self._checked(lambda: self.env.observations(obs))

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """(observation, reward, terminated, truncated) of an action from shared memory."""
        self._own_generators()
        obs, reward, terminated, truncated = self.env.step(self.env.actions(action))
        self._steps += 1
        obs, reward = self._checked(lambda: (self.env.observations(obs), as_number(reward)))
        terminated = bool(terminated)
        truncated = (bool(truncated) or self._steps >= self._worker.max_steps) and not terminated
        self.over = terminated or truncated
        return obs, reward, terminated, truncated

    def frame(self) -> np.ndarray:
        self._own_generators()
        return self.env.frame()

    def close(self) -> None:
        if self.env is not None:
            self.env.close()
            self.env = None

    def _own_generators(self) -> None:
        self._calls += 1
        np.random.set_bit_generator(self._generator)
        random.seed(self._seed << 64 | self._calls)  # to keep and restore its state would take three times as long

    def _checked(self, read):
        """What `read` returns; its errors name the step."""
        try:
            return read()
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{error}, in step {self._steps} of the episode") from error


class Group:
    """This worker's part of a group of environments that are stepped together."""

    def __init__(self, number: int, slots: list[Slot], restarts: bool, drawn: bool, arrays: dict[str, np.ndarray]):
        self._number, self._slots, self._arrays = number, slots, arrays
        self._restarts, self._drawn = restarts, drawn

    def reset(self) -> None:
        """A first episode in every environment, from its seed."""
        shared = self._arrays
        for slot in self._slots:
            at = slot.index
            obs = slot.reset(int(shared["seed"][at]))
            shared["obs"][at] = shared["final_obs"][at] = obs
            shared["reward"][at] = shared["terminated"][at] = shared["truncated"][at] = 0
            shared["beats"][self._number] += 1

    def step(self) -> None:
        """One step in every environment whose episode runs.

        At its end a new one begins in the same call, or, without restarts, the environment is closed (but for one
        that is drawn) and all further steps leave its last observation as it is, with a reward of 0.
        """
        shared = self._arrays
        for slot in self._slots:
            at = slot.index
            if slot.over:
                shared["reward"][at] = 0
                continue
            obs, reward, terminated, truncated = slot.step(shared["action"][at])
            shared["final_obs"][at] = obs
            shared["reward"][at], shared["terminated"][at], shared["truncated"][at] = reward, terminated, truncated
            if slot.over and self._restarts:
                obs = slot.reset(None)
            elif slot.over and not self._drawn:
                slot.close()
            shared["obs"][at] = obs
            shared["beats"][self._number] += 1

    def frame(self, index: int) -> np.ndarray:
        """What environment `index` looks like now."""
        return next(slot for slot in self._slots if slot.index == index).frame()

    def close(self) -> None:
        for slot in self._slots:
            slot.close()


class Worker:
    """Answers the commands of `Workers` until told to exit."""

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
        slot = Slot(self, 0)
        slot.reset(0)
        env = slot.env
        slot.step(env.actions.nothing())
        spec = self._spec_of(env, env.max_steps(), env.no_frames(self._takes_render_mode()))
        slot.close()
        return asdict(spec)

    def limit(self, spec: dict[str, Any], max_steps: int) -> None:
        self._spec, self.max_steps = Spec(**spec), max_steps

    def make(self, drawn: bool) -> GymnasiumEnv | DmEnv:
        """An environment, asked for frames where it is to be drawn.

        Raises:
            ValueError: it is not like the one that was described.
        """
        asked = {"render_mode": "rgb_array"} if drawn and self._takes_render_mode() else {}
        try:
            env = self._factory(**self._kwargs | asked)
        except Exception:
            if not asked:
                raise
            env = self._factory(**self._kwargs)  # without frames, then: nothing else must end for a picture
        if hasattr(env, "observation_spec"):
            env = DmEnv(env, lambda seed: self._factory(**self._kwargs, seed=seed))
        else:
            env = GymnasiumEnv(env)
        if self._spec is not None:
            mine, first = (
                (each.obs_shape, each.obs_dtype, each.num_actions, each.action_shape)
                for each in (self._spec_of(env), self._spec)
            )
            if mine != first:
                raise ValueError(f"observations and actions of {mine}: must be {first}, as those made before")
        return env

    def _spec_of(self, env: GymnasiumEnv | DmEnv, max_steps: int = 0, no_frames: str = "") -> Spec:
        obs, actions = env.observations, env.actions
        shown = (obs.shape, obs.dtype, obs.low, obs.high)
        return Spec(*shown, actions.n, actions.shape, actions.low, actions.high, max_steps, no_frames)

    def _takes_render_mode(self) -> bool:
        try:
            parameters = inspect.signature(self._factory).parameters
        except ValueError:  # of some that are not written in Python
            return False
        return "render_mode" in parameters or any(each.kind == each.VAR_KEYWORD for each in parameters.values())

    def open(
        self, group: int, indices: list[int], restarts: bool, drawn: bool, num_envs: int, num_workers: int
    ) -> None:
        descriptor = reduction.recv_handle(self._connection)
        places, size = shared_arrays(self._spec, num_envs, num_workers)
        memory = mmap.mmap(descriptor, size)
        os.close(descriptor)
        slots = [Slot(self, index, drawn) for index in indices]
        self._groups[group] = Group(self._number, slots, restarts, drawn, views(memory, places))

    def reset(self, group: int) -> None:
        self._groups[group].reset()

    def step(self, group: int) -> None:
        self._groups[group].step()

    def frame(self, group: int, index: int) -> tuple[np.ndarray | None, str]:
        """The frame, or why there is none: nothing else must end for a picture."""
        try:
            return self._groups[group].frame(index), ""
        except Exception as error:
            return None, _one_line(error)

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
                self._answer("error", _one_line(error), traceback.format_exc())
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


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


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
