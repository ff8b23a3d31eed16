"""What environments of the host show, take, pay and draw, and how they are found."""

import importlib.util
import pathlib
import random
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces.utils import flatten, flatten_space

import envs
from envs.host import NoPicture
from envs.host.worker import Actions, DmEnv, Observations, as_number, load
from tests.envs.host_environments import Array, DiscreteArray, TimeStep
from tests.envs.host_tasks import LIMIT, NAN_AT

TASKS = "tests.envs.host_tasks"
B, T = 4, 8


def make(function, limit=50, workers=1, **kwargs):
    return envs.make(f"host/{TASKS}:{function}", max_steps_in_episode=limit, workers=workers, kwargs=kwargs)


def rollout(env, params, action, length=T):
    """(first observations [B, ...], everything of the steps [T, B, ...]) under one action."""
    vec = envs.vectorize(env, B, pool_size=1)

    @jax.jit
    def run(key):
        obs, state = vec.reset(key, params)

        def step(state, key):
            actions = jnp.broadcast_to(jnp.asarray(action), (B, *jnp.shape(action)))
            obs, state, reward, terminated, truncated, info = vec.step(key, state, actions, params)
            return state, {"obs": obs, "reward": reward, "truncated": truncated, **info}

        return obs, jax.lax.scan(step, state, jax.random.split(key, length))[1]

    return jax.tree.map(np.asarray, run(jax.random.key(0)))


# ----------------------------------------------------------------------------------------------------------------
# Observations

BYTES = spaces.Box(0, 255, (2, 3, 3), np.uint8)
FLAT = {
    "one of a few": spaces.Discrete(4),
    "from another number on": spaces.Discrete(3, start=-1),
    "of bytes": spaces.Discrete(3, dtype=np.uint8),
    "several": spaces.MultiDiscrete([3, 2, 4]),
    "a table of several": spaces.MultiDiscrete([[2, 3], [4, 2]], dtype=np.int32),
    "switches": spaces.MultiBinary([2, 3]),
    "a dictionary": spaces.Dict(b=spaces.Discrete(3), a=spaces.Box(-1, 1, (2, 2)), c=BYTES),
    "a tuple": spaces.Tuple((spaces.Discrete(32), spaces.Discrete(11), spaces.Discrete(2))),
    "a tuple of dictionaries": spaces.Tuple(
        (spaces.Dict(x=BYTES, y=spaces.MultiBinary(2)), spaces.Dict(z=spaces.Box(0, 1, (), np.float16)))
    ),
    "a text": spaces.Text(5),
}


@pytest.mark.parametrize("space", FLAT.values(), ids=FLAT)
def test_spaces_that_are_no_box_are_flattened_as_gymnasium_does(space):
    space.seed(0)
    observations = Observations(space)
    box = flatten_space(space)
    assert observations.shape == box.shape and observations.dtype == "float32"
    np.testing.assert_array_equal(observations.low, box.low.astype(np.float32))
    np.testing.assert_array_equal(observations.high, box.high.astype(np.float32))
    for _ in range(5):
        sample = space.sample()
        shown = observations(sample)
        assert shown.dtype == np.float32
        np.testing.assert_array_equal(shown, flatten(space, sample).astype(np.float32))


@pytest.mark.parametrize(
    ("space", "value", "dtype"),
    [
        (BYTES, np.arange(18).reshape(2, 3, 3), "uint8"),  # integers that fit are no other picture
        (spaces.Box(0, 255, (4, 5), np.uint8), np.full((4, 5), 9, np.uint8), "uint8"),
        (spaces.Box(0, 1, (4, 5, 3)), np.full((4, 5, 3), 0.5), "float32"),
        (spaces.Box(-1, 1, (2,), np.float16), np.array([0.1, 0.2], np.float16), "float32"),
        (spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64), np.array([2**40, -3]), "float32"),
        (spaces.Box(0, 1, (3,), np.int8), np.array([True, False, True]), "float32"),
        (spaces.Box(0, 9, (2,), np.int32), [1.0, 2.0], "float32"),
        (spaces.Box(np.zeros(2, bool), np.ones(2, bool), dtype=bool), [True, False], "float32"),
        (spaces.Box(-1, 1, (), np.float64), 0.25, "float32"),
        (spaces.Box(np.full(2, -1.7e308), np.full(2, 1.7e308), dtype=np.float64), [1e30, 0], "float32"),
    ],
)
def test_boxes_stay_as_they_are(space, value, dtype):
    observations = Observations(space)
    shown = observations(value)
    assert observations.dtype == shown.dtype == dtype
    assert observations.shape == shown.shape == (np.shape(value) or (1,))
    np.testing.assert_array_equal(shown, np.reshape(value, observations.shape).astype(dtype))
    assert observations.low.shape == observations.high.shape == observations.shape


PLACE = spaces.Dict(place=spaces.Discrete(4, start=1), speed=spaces.Box(-1, 1, (2,)))


@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (spaces.Box(0, 1, (2, 2)), [[0, 0], [0, np.nan]], r"observation nan at \[1, 1\]: must be finite"),
        (spaces.Box(0, 1, (2,), np.float64), [1e39, 0], r"observation 1e\+39 at \[0\]: must be finite in float32"),
        (spaces.Box(0, 1, ()), np.inf, "observation inf: must be finite"),
        (BYTES, np.full((2, 3, 3), 300), r"observation 300 at \[0, 0, 0\]: must be an integer from 0 to 255"),
        (BYTES, np.full((2, 3, 3), -1), "observation -1 at .*: must be an integer from 0 to 255"),
        (BYTES, np.zeros((2, 3, 3)), "observation of float64: must be uint8"),
        (spaces.Box(-9, 9, (2,), np.int8), [0, 128], r"observation 128 at \[1\]: .* -128 to 127, .* int8"),
        (spaces.Box(-9, 9, (2,), np.int32), [0, 0.5], r"observation 0.5 at \[1\]: must be an integer"),
        (spaces.Box(-9, 9, (1,), np.int64), [2**70], "observation .*: must be numbers"),
        (spaces.Box(-9, 9, (2,)), None, "observation None: must be numbers"),
        (spaces.Box(-9, 9, (2,)), ["a", "b"], "observation .*: must be numbers"),
        (spaces.Discrete(4), 4, r"observation 4: must be in Discrete\(4\)"),
        (spaces.Discrete(4), -1, r"observation -1: must be in Discrete\(4\)"),  # would be the last one
        (spaces.MultiDiscrete([2, 3]), [2, 0], r"observation \[2 0\]: must be in MultiDiscrete"),  # the next one's
        (spaces.MultiBinary(2), [0, 300], r"observation 300 at \[1\]: must be an integer from -128 to 127"),
        (spaces.MultiBinary(2), [0, 2], r"observation \[0 2\]: must be in MultiBinary\(2\)"),
        (PLACE, {"place": 5, "speed": [0, 0]}, r"observation\['place'\] 5: must be in Discrete\(4, start=1\)"),
        (PLACE, {"place": 1, "speed": [0, np.nan]}, r"observation\['speed'\] nan at \[1\]: must be finite"),
        (PLACE, {"speed": [0, 0]}, "observation without 'place': must"),
        (spaces.Tuple((PLACE, BYTES)), ({"place": 1, "speed": [0, 0]},), "observation of 1 parts: must be 2"),
        (
            spaces.Tuple((PLACE, BYTES)),
            ({"place": 1, "speed": [0, 0]}, np.full((2, 3, 3), 256)),
            r"observation\[1\] 256 at \[0, 0, 0\]: must be an integer from 0 to 255",
        ),
    ],
)
def test_what_a_space_does_not_hold_is_named(space, value, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        Observations(space)(value)


@pytest.mark.parametrize("space", [spaces.Sequence(spaces.Discrete(2)), spaces.Graph(FLAT["one of a few"], None)])
def test_spaces_without_a_fixed_size_are_refused(space):
    with pytest.raises(TypeError, match="must be a Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple"):
        Observations(spaces.Dict(all=space))


def test_discrete_observations_of_gymnasium_reach_the_program_one_hot():
    env, params = envs.make(
        "gymnasium/FrozenLake-v1", workers=1, kwargs='{"is_slippery": false, "map_name": "8x8"}'
    )
    assert env.observation_space(params).shape == (64,)
    first, out = rollout(env, params, 2, length=3)  # to the right, on ice that is not slippery
    env.workers.close()
    np.testing.assert_array_equal(first.argmax(-1), 0)
    np.testing.assert_array_equal(out["obs"].argmax(-1), np.arange(1, 4)[:, None].repeat(B, 1))
    assert (out["obs"].sum(-1) == 1).all()


# ----------------------------------------------------------------------------------------------------------------
# Actions


@pytest.mark.parametrize(
    ("space", "sent", "received"),
    [
        (spaces.Discrete(3), 2, 2),
        (spaces.Discrete(3, start=-7), 0, -7),
        (spaces.Discrete(3, start=250, dtype=np.uint8), 2, 252),
        (spaces.Box(-2.0, 2.0, (2,)), [-2.5, 0.5], [-2, 0.5]),
        (spaces.Box(0.1, 0.3, (2,), np.float64), np.float32([0.05, 0.3]), [0.1, 0.3]),
        (spaces.Box(-0.1, 100.1, (2,), np.float16), [-0.3, 200], np.float16([-0.1, 100.1])),
        (spaces.Box(-np.inf, np.inf, (1,), np.float16), [1e9], [65504]),
        (spaces.Box(np.array([-np.inf]), np.array([1e300]), dtype=np.float64), [7.0], [7]),
        (spaces.Box(-1, 1, ()), 0.5, 0.5),
    ],
)
def test_an_action_is_of_its_spaces_own_type_and_within_its_bounds(space, sent, received):
    actions = Actions(space)
    action = actions(np.float32(sent) if isinstance(space, spaces.Box) else np.int32(sent))
    assert space.contains(action) and action.dtype == space.dtype
    np.testing.assert_array_equal(action, received)
    if isinstance(space, spaces.Box):
        assert isinstance(action, np.ndarray) and actions.low.dtype == np.float32
    assert space.contains(actions(actions.nothing()))


@pytest.mark.parametrize(
    "space", [spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(1), spaces.Box(0, 3, (1,), int), PLACE, BYTES]
)
def test_other_actions_are_refused(space):
    with pytest.raises(TypeError, match="must be Discrete or a Box of floats"):
        Actions(space)


@pytest.mark.parametrize(
    ("kind", "action", "received"),
    [("float64", [9.0, 9.0], [0.3, 9.0]), ("start", 1, [-6, -6])],
)
def test_environments_that_insist_on_their_action_space_run(kind, action, received):
    """Both in the first step that is tried when they are made and in every step of a run."""
    env, params = make("strict", kind=kind)
    _, out = rollout(env, params, action)
    env.workers.close()
    np.testing.assert_array_equal(out["obs"], np.broadcast_to(np.float32(received), (T, B, 2)))


# ----------------------------------------------------------------------------------------------------------------
# Rewards and faults


@pytest.mark.parametrize(
    ("reward", "number"), [(1, 1.0), (np.float64(0.5), 0.5), (np.array([2.5]), 2.5), (np.array(True), 1.0)]
)
def test_a_reward_is_one_number(reward, number):
    assert as_number(reward) == number


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (np.nan, "reward nan: must be finite"),
        (-np.inf, "reward -inf: must be finite"),
        (1e39, r"reward 1e\+39: must be finite in float32"),
        (None, "reward None: must be a number"),
        (np.zeros(2), "reward array.*: must be a number"),
        ([], r"reward \[\]: must be a number"),
    ],
)
def test_a_reward_that_is_none_is_named(reward, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        as_number(reward)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "observation nan at [1]: must be finite in float32"),
        ("bytes", "observation 300 at [1, 2]: must be an integer from 0 to 255, as the environment says uint8"),
        ("part", "observation[0]['place'] [2 0]: must be in MultiDiscrete([2 3])"),
        ("reward", "reward -inf: must be finite in float32"),
    ],
)
def test_a_fault_of_the_environment_is_named_with_its_step(kind, message):
    env, params = make("faulty", kind=kind)
    with pytest.raises(jax.errors.JaxRuntimeError):
        rollout(env, params, 0)
    assert env.failure == f"worker 0 raised ValueError: {message}, in step {NAN_AT} of the episode"


def test_an_inner_time_limit_is_found_and_a_reward_of_one_entry_taken():
    env, params = make("limited", limit=0)
    assert params.max_steps_in_episode == LIMIT
    _, out = rollout(env, params, 0)
    env.workers.close()
    np.testing.assert_array_equal(out["truncated"][:, 0], np.arange(1, T + 1) == LIMIT)
    assert (out["reward"] == 2.5).all()
    with pytest.raises(ValueError, match=f"env.max_steps_in_episode={LIMIT + 1}: must be at most {LIMIT}"):
        make("limited", limit=LIMIT + 1)


def test_global_generators_are_each_environments_own():
    played = []
    for workers in (1, 2):
        env, params = make("global_draws", workers=workers)
        played.append(rollout(env, params, 0))
        played.append(rollout(env, params, 0))
        env.workers.close()
    for other in played[1:]:
        jax.tree.map(np.testing.assert_array_equal, played[0], other)
    first, out = played[0]
    for draws in (np.concatenate([first[None], out["obs"]])[..., 0], out["obs"][..., 1], out["reward"]):
        assert len(np.unique(draws)) == draws.size  # no environment and no step draws what another one drew


# ----------------------------------------------------------------------------------------------------------------
# Finding

MAKES = """
from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np

import {neighbour}


@dataclass
class Settings:
    size: int = {neighbour}.SIZE


class Env(gymnasium.Env):
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, size):
        self.observation_space = gymnasium.spaces.Box(0, 1, (size,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(self.observation_space.shape), {{}}

    def step(self, action):
        return np.zeros(self.observation_space.shape), 0.0, False, False, {{}}


class Maker:
    @staticmethod
    def make(size=Settings().size):
        return Env(size)


make = Maker.make
gymnasium.register("Mine-v0", entry_point=make)
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with a blank in its name: a module and, in a folder, a file make environments."""
    place = tmp_path / "my work"
    (place / "folder").mkdir(parents=True)
    for folder, neighbour in ((place, "beside_the_module"), (place / "folder", "beside_the_file")):
        (folder / f"{neighbour}.py").write_text("SIZE = 3\n")
    (place / "my_task.py").write_text(MAKES.format(neighbour="beside_the_module"))
    (place / "folder" / "random.py").write_text(MAKES.format(neighbour="beside_the_file"))
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize(
    ("env_id", "kwargs", "size"),
    [
        ("host/my_task:make", {}, 3),
        ("host/{place}/folder/random.py:make", {"size": 4}, 4),  # a name that is Python's own
        ("gymnasium/my_task:Mine-v0", '{"size": 5}', 5),
    ],
)
def test_environments_of_the_users_own_are_found_as_python_finds_them(workplace, env_id, kwargs, size):
    env, params = envs.make(env_id.format(place=workplace), kwargs=kwargs, max_steps_in_episode=9, workers=1)
    env.workers.close()
    assert env.observation_space(params).shape == (size,)


def test_every_way_to_name_a_function(workplace, monkeypatch):
    for factory in ("my_task:Maker.make", "folder/random.py:Maker.make", "~/folder/random.py:make"):
        monkeypatch.setenv("HOME", str(workplace))
        monkeypatch.setattr(sys, "path", list(sys.path))
        assert load(factory)().observation_space.shape == (3,)
    assert sys.modules["random"] is random and not hasattr(random, "Maker")
    with pytest.raises(ModuleNotFoundError, match=r"^no module no_task in .*my work, in PYTHONPATH or installed$"):
        load("no_task:make")


@pytest.mark.parametrize("kwargs", ["{size: 9}", "[1]", "9", '{"id": "Other-v0"}', ""])
def test_arguments_that_are_no_json_object_are_refused(kwargs):
    with pytest.raises(
        ValueError, match=r"^env.kwargs='.*': must be a JSON object without 'id', such as"
    ) as error:
        envs.make("gymnasium/CartPole-v1", kwargs=kwargs)
    assert "\n" not in str(error.value)


def test_arguments_that_json_has_not_are_refused():
    with pytest.raises(ValueError, match="^env.kwargs=.*: must be possible in JSON"):
        envs.make("gymnasium/CartPole-v1", kwargs={"size": np.float32(1)})


# ----------------------------------------------------------------------------------------------------------------
# Frames


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_environment_with_frames_is_drawn_as_it_is_played(wrapped):
    env, params = make("drawn", limit=3)
    env = envs.PreviousActionReward(env) if wrapped else env
    vec, drawn = envs.vectorize(env, B, pool_size=1), params.replace(drawn=True)
    assert env.no_picture is None and not hasattr(env, "render")  # which would draw any state
    _, trained = vec.reset(jax.random.key(0), params)
    _, state = env.reset_env(jax.random.key(0), drawn)
    for step in range(5):  # two steps beyond its end
        frame = env.draw(jax.device_get(state))
        assert frame.shape == (6, 9, 3) and frame.dtype == np.uint8 and (frame == 10 * min(step, 3)).all()
        *_, trained, _, _, _, info = vec.step(jax.random.key(0), trained, jnp.zeros(B, int), params)
        _, state, *_ = env.step_env(jax.random.key(0), state, jnp.int32(0), drawn)
        assert (info["episode_length"] == step % 3 + 1).all()  # what trains goes on meanwhile
    _, later = env.reset_env(jax.random.key(0), drawn)
    assert (env.draw(jax.device_get(later)) == 0).all()
    with pytest.raises(ValueError, match="must be of the last reset with drawn=True"):
        env.draw(jax.device_get(state))
    env.workers.close()


def test_where_there_are_no_frames_a_line_says_why():
    env, params = make("never_drawn")
    env.workers.close()
    why = "its render_mode is None, must be rgb_array, and its function takes no render_mode"
    assert (
        not hasattr(env, "render")
        and not hasattr(env, "draw")
        and env.no_picture == f"host/{TASKS}:never_drawn has no picture: {why}"
    )
    env, _ = make("limited", limit=0)
    env.workers.close()
    assert env.no_picture.endswith("has no picture: rgb_array is none of its render_modes []")
    env, params = make("Blind")
    drawn = params.replace(drawn=True)
    _, state = env.reset_env(jax.random.key(0), drawn)
    with pytest.raises(NoPicture, match=":Blind has no picture: OSError: no display, and no hope of one$"):
        env.draw(jax.device_get(state))
    env.step_env(jax.random.key(0), state, jnp.int32(0), drawn)  # and all goes on
    env.workers.close()


def test_the_worker_is_a_file_of_its_own():
    """It must not import the rest of this project, which imports JAX."""
    path = pathlib.Path(importlib.util.find_spec("envs.host.worker").origin)
    assert "import envs" not in path.read_text() and "from envs" not in path.read_text()


# ----------------------------------------------------------------------------------------------------------------
# dm_env


class DmTask:
    """Shows specifications of several kinds, one inside another, and checks its actions as dm_env's own do."""

    def __init__(self, observation_spec, action_spec, shown, reward=None):
        self.observation_spec, self.action_spec = lambda: observation_spec, lambda: action_spec
        self._shown, self._reward = shown, reward

    def reset(self):
        return TimeStep(False, None, None, self._shown)

    def step(self, action):
        spec, array = self.action_spec(), np.asarray(action)
        assert array.dtype == spec.dtype and array.shape == spec.shape
        return TimeStep(False, self._reward, 1.0, self._shown)


def test_specifications_of_dm_env_are_spaces():
    bounded = SimpleNamespace(shape=(2,), dtype=np.dtype(np.float64), minimum=-0.1, maximum=0.1)
    specs = {"z": DiscreteArray(3), "a": {"flags": Array((2,), np.bool_), "count": Array((), np.int32)}}
    shown = {"z": np.int32(1), "a": {"flags": np.array([True, False]), "count": 7}}
    env = DmEnv(DmTask(specs, bounded, shown, np.array([0.5])), remake=None)
    assert env.observations.shape == (6,)
    np.testing.assert_array_equal(env.observations(env.reset(None)), [0, 1, 0, 1, 0, 7])  # in their own order
    obs, reward, *ends = env.step(env.actions(np.float32([9, -9])))
    np.testing.assert_array_equal(env.actions(np.float32([9, -9])), [0.1, -0.1])
    assert as_number(reward) == 0.5 and ends == [False, False]
    picture = np.full((4, 4, 3), 300)
    env = DmEnv(DmTask({"only": Array((4, 4, 3), np.uint8)}, DiscreteArray(3), {"only": picture}), remake=None)
    assert env.observations.shape == (4, 4, 3) and env.observations.dtype == "uint8"
    assert env.step(env.actions(np.int32(2)))[1] == 0.0  # without a reward
    with pytest.raises(ValueError, match=r"^observation 300 at \[0, 0, 0\]: must be an integer from 0 to 255"):
        env.observations(env.reset(None))
    with pytest.raises(TypeError, match="must be Discrete or a Box of floats"):
        DmEnv(DmTask(specs, Array((1,), np.int32), shown), remake=None)
