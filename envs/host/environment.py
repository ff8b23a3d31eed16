"""Environments of the host as gymnax environments: any nesting of vmap becomes one ordered call a step."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces
from jax.experimental import io_callback

from envs.host.workers import Group, NoPicture, Workers

PICTURE_SIDE = 192  # pixels at least of a rendered picture: what agents see is small


@struct.dataclass
class HostState:
    """What JAX knows of an environment whose state lies in a worker.

    Attributes:
        slot: which environment it is, int32.
        obs: what it shows now. Where an environment that restarts has just ended an episode, this is the first
            observation of the next.
        terminated, truncated: whether the last step ended an episode, and how.
    """

    slot: jax.Array
    obs: jax.Array
    terminated: jax.Array
    truncated: jax.Array


@struct.dataclass
class HostParams:
    """Parameters of a HostEnvironment.

    Attributes:
        max_steps_in_episode: the time limit, for readers: the workers were told theirs when the environment was
            made, and keep it where this is replaced.
        restarts: whether `step_env` begins the next episode where one has ended; if not, the environment stays
            at its end. Episodes with and without restarts are played in environments of their own.
        drawn: whether `draw` will be asked for frames, without restarts: the environments are made so that they
            draw them, and stay open at their ends.
    """

    max_steps_in_episode: int = struct.field(pytree_node=False, default=0)
    restarts: bool = struct.field(pytree_node=False, default=False)
    drawn: bool = struct.field(pytree_node=False, default=False)


class HostEnvironment(environment.Environment):
    """Environments in worker processes as one gymnax environment.

    A state only names an environment, whose real state a worker holds. So, unlike those of other environments,
    states cannot be kept and stepped again: stepping goes on from wherever the environment is. `reset_env`
    starts as many environments as the vmaps around it ask for, anew each time, and those of an earlier call are
    gone. Each element of a step must be another environment of that call, and all must be there.

    What happens depends on the keys of the resets and the actions only. Works on one device; seeds are vmapped.

    Pictures: where an agent sees images, `render(state, params)` shows them. Where the environment draws frames of
    itself (`render_mode="rgb_array"`), `draw(state)` is the one of now: play with `params.replace(drawn=True)`,
    and draw after the reset and after each step. Where neither is there, `no_picture` says why.

    Args:
        name: for messages.
        workers: worker processes.
        max_steps: the time limit in steps, at which episodes are truncated; 0: the environment's own.

    Raises:
        ValueError: the environment has no time limit and none is given, or it has one that is shorter.
    """

    lives_on_host = True

    def __init__(self, name: str, workers: Workers, max_steps: int = 0):
        super().__init__()
        self.workers, self.spec = workers, workers.spec
        self.max_steps = max_steps or self.spec.max_steps
        if self.max_steps < 1:
            raise ValueError(
                f"env.max_steps_in_episode={max_steps}: must be at least 1, for {name} states no time limit itself"
            )
        if 0 < self.spec.max_steps < self.max_steps:
            raise ValueError(
                f"env.max_steps_in_episode={max_steps}: must be at most {self.spec.max_steps}, the time limit of "
                f"{name} itself"
            )
        workers.limit(self.max_steps)
        self._name = name
        kinds = ((False, False), (True, False), (False, True))
        self._episodes = {kind: _Episodes(workers, *kind) for kind in kinds}
        self.no_picture: str | None = None
        # Only environments with a picture have one of the attributes.
        if len(self.spec.obs_shape) in (2, 3) and self.spec.obs_dtype == "uint8":
            self.render = self._show
        elif not self.spec.no_frames:
            self.draw = self._draw
        else:
            self.no_picture = f"{name} has no picture: {self.spec.no_frames}"

    @property
    def name(self) -> str:
        return self._name

    @property
    def failure(self) -> str | None:
        """Why the workers are gone, in one line: a fault of theirs or an action that is none; else None."""
        return self.workers.broken

    @property
    def default_params(self) -> HostParams:
        return HostParams(max_steps_in_episode=self.max_steps)

    @property
    def num_actions(self) -> int:
        return self.spec.num_actions or math.prod(self.spec.action_shape)

    def action_space(self, params=None) -> spaces.Discrete | spaces.Box:
        spec = self.spec
        if spec.num_actions:
            return spaces.Discrete(spec.num_actions)
        return spaces.Box(spec.action_low, spec.action_high, spec.action_shape, jnp.float32)

    def observation_space(self, params=None) -> spaces.Box:
        spec = self.spec
        return spaces.Box(spec.obs_low, spec.obs_high, spec.obs_shape, jnp.dtype(spec.obs_dtype))

    def is_terminated(self, state: HostState, params) -> jax.Array:
        return state.terminated

    def is_truncated(self, state: HostState, params) -> jax.Array:
        return state.truncated

    def first_observation(self, obs: jax.Array, params) -> jax.Array:
        """What an agent sees of `obs` where it begins an episode."""
        return obs

    def reset_env(self, key: jax.Array, params: HostParams):
        """A first episode; its seed and those of the episodes after it come from the key."""
        seed = (jax.random.bits(key, (), jnp.uint32) >> 1).astype(jnp.int32)
        spec = self.spec
        shapes = ((spec.obs_shape, spec.obs_dtype), ((), "int32"))
        obs, slot = _host_call(self._episodes[params.restarts, params.drawn].reset, shapes)(seed)
        no = jnp.zeros((), bool)
        return obs, HostState(slot=slot, obs=obs, terminated=no, truncated=no)

    def step_env(self, key: jax.Array, state: HostState, action: jax.Array, params: HostParams):
        """One step; the observation returned is the one it led to, also where it ended the episode."""
        del key  # the worker's own generators draw
        spec = self.spec
        obs_type = (spec.obs_shape, spec.obs_dtype)
        shapes = (obs_type, obs_type, ((), "float32"), ((), "bool"), ((), "bool"))
        step = _host_call(self._episodes[params.restarts, params.drawn].step, shapes)
        action = action.astype(spec.action_dtype)
        final_obs, obs, reward, terminated, truncated = step(state.slot, action)
        state = state.replace(obs=obs, terminated=terminated, truncated=truncated)
        return final_obs, state, reward, terminated, {}

    def _draw(self, state: HostState) -> np.ndarray:
        """The frame that the environment draws of itself now, uint8 [height, width, 3].

        Raises:
            NoPicture: it cannot.
            ValueError: the state is not of the last reset with `drawn`.
        """
        try:
            return self._episodes[False, True].frame(int(state.slot))
        except NoPicture as why:
            raise NoPicture(f"{self.name} has no picture: {why}") from None

    def _show(self, state: HostState, params=None) -> np.ndarray:
        """What the agent sees, uint8 [height, width, 3], enlarged; nothing is drawn anew."""
        image = np.asarray(state.obs)
        image = image[:, :, None] if image.ndim == 2 else image
        image = image[:, :, : 3 if image.shape[2] >= 3 else 1]
        factor = max(1, PICTURE_SIDE // max(image.shape[:2]))
        image = image.repeat(factor, 0).repeat(factor, 1)
        return np.broadcast_to(image, (*image.shape[:2], 3))


class _Episodes:
    """The host's side: the group of environments that the last reset made.

    Only NumPy in here. An operation of JAX in a callback can wait for ever for the program that waits for it.
    """

    def __init__(self, workers: Workers, restarts: bool, drawn: bool):
        self._workers, self._restarts, self._drawn = workers, restarts, drawn
        self._group: Group | None = None
        self._first = 0  # slot of the group's first environment; no slot number serves twice

    def reset(self, seeds: Any) -> tuple[np.ndarray, np.ndarray]:
        seeds = np.asarray(seeds)
        count = max(1, seeds.size)
        if self._group is not None:
            self._first += self._group.num_envs
            if self._group.num_envs != count:
                self._group.close()
                self._group = None
        if self._group is None:
            self._group = self._workers.open(count, self._restarts, self._drawn)
        obs = self._group.reset(seeds.ravel())
        slots = np.arange(self._first, self._first + count, dtype=np.int32)
        return obs.reshape(seeds.shape + obs.shape[1:]), slots.reshape(seeds.shape)

    def step(self, slots: Any, actions: Any) -> tuple[np.ndarray, ...]:
        slots, actions = np.asarray(slots), np.asarray(actions)
        index = slots.ravel() - self._first
        count = 0 if self._group is None else self._group.num_envs
        if not np.array_equal(np.sort(index), np.arange(count)) or count == 0:
            raise ValueError(
                f"step of environments {slots.ravel().tolist()}: must be each of the {count} environments that "
                f"the last reset made, from number {self._first}, once"
            )
        by_index = np.empty((count, *actions.shape[slots.ndim :]), actions.dtype)
        by_index[index] = actions.reshape(by_index.shape)
        self._check_actions(by_index)
        out = self._group.step(by_index)
        if not np.array_equal(index, np.arange(count)):
            out = tuple(each[index] for each in out)
        return tuple(each.reshape(slots.shape + each.shape[1:]) for each in out)

    def frame(self, slot: int) -> np.ndarray:
        """What the environment looks like now."""
        if self._group is None or not 0 <= slot - self._first < self._group.num_envs:
            raise ValueError(f"frame of environment {slot}: must be of the last reset with drawn=True")
        return self._group.frame(slot - self._first)

    def _check_actions(self, actions: np.ndarray) -> None:
        """A policy that has diverged draws -1 or NaN, which environments take for something else or fail at."""
        count = self._workers.spec.num_actions
        good = (actions >= 0) & (actions < count) if count else np.isfinite(actions)
        if not good.all():
            allowed = f"from 0 to {count - 1}" if count else "finite"
            first = actions[~good][0]
            self._workers.fail(f"action {first}: must be {allowed}; the policy's parameters are likely not finite")


def _host_call(host, shapes, lead: tuple[int, ...] = ()):
    """`host` as a JAX function of arrays whose leading axes are `lead`, the same call one axis larger under vmap.

    io_callback(ordered=True) refuses vmap, pure_callback may be left out or repeated.

    Args:
        host: NumPy arrays -> tuple of NumPy arrays.
        shapes: (shape, dtype) of each result for a single environment.
        lead: sizes of the vmapped axes.
    """
    results = tuple(jax.ShapeDtypeStruct(lead + shape, dtype) for shape, dtype in shapes)

    @jax.custom_batching.custom_vmap
    def call(*args):
        return io_callback(host, results, *args, ordered=True)

    @call.def_vmap
    def call_batched(axis_size, in_batched, *args):
        args = (
            arg if batched else jnp.broadcast_to(arg, (axis_size, *arg.shape))
            for arg, batched in zip(args, in_batched, strict=True)
        )
        return _host_call(host, shapes, (axis_size, *lead))(*args), (True,) * len(results)

    return call
