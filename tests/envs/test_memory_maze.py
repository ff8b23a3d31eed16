"""Memory Maze: what is known without the extra, and the fast environment against the original with it."""

import ctypes.util
import importlib.metadata
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import memory_maze
from envs.host import WorkerError
from tests.envs import memory_maze_play

ROOT = pathlib.Path(__file__).parents[2]
NINE = "MemoryMaze-9x9-v0"


@pytest.fixture(scope="module")
def maze():
    """The real thing with episodes of 5 steps."""
    try:
        env, params = envs.make(NINE, max_steps_in_episode=5, workers=2)
    except ValueError as error:
        if "needs the package" in str(error) or "finds no OpenGL" in str(error):
            pytest.skip(str(error))
        raise
    yield env, params
    env.workers.close()


def installed(**versions):
    """importlib.metadata.version in a world with all packages as pinned, but for these."""
    known = memory_maze.PINS | {name.replace("_", "-"): version for name, version in versions.items()}

    def version(name):
        if known.get(name) is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return known[name]

    return version


def test_ids_and_time_limits():
    limits = {env_id: envs.options(env_id)["max_steps_in_episode"] for env_id in memory_maze.IDS}
    sizes = {"9x9": 1000, "11x11": 2000, "13x13": 3000, "15x15": 4000}
    assert limits == {f"MemoryMaze-{size}-v0": steps for size, steps in sizes.items()}


def test_listing_ids_and_options_imports_nothing_of_it():
    code = f"import sys, envs; envs.options('{NINE}'); assert not {{'mujoco', 'memory_maze'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("package", ["memory-maze", "labmaze", "mujoco"])
def test_without_the_extra_one_line_says_how_to_install_it(package, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", installed(**{package.replace("-", "_"): None}))
    command = r"pip install -c constraints.txt -e '.\[memory-maze\]'"
    message = f"env.id='{NINE}': needs the package {package}; to install it: {command}"
    with pytest.raises(ValueError, match=f"^{message}$"):
        envs.make(NINE)


@pytest.mark.parametrize("package", ["mujoco", "mujoco-mjx"])
def test_a_wrong_pair_of_mujoco_is_one_line(package, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", installed(**{package.replace("-", "_"): "4.0.0"}))
    mend = "pip install mujoco==3.17.0 mujoco-mjx==3.17.0 dm_control==1.0.50"
    message = f"env.id='{NINE}': {package} 4.0.0 does not go with dm_control 1.0.50; to mend it: {mend}"
    with pytest.raises(ValueError, match=f"^{message}$"):
        envs.make(NINE)


@pytest.mark.parametrize(
    ("gl", "error", "command"),
    [
        ("egl", "ImportError: Unable to load EGL library", "install -y --no-install-recommends libegl1 libgl1$"),
        ("egl", "FatalError: an OpenGL platform library has not been loaded", "libegl1 libgl1$"),
        ("osmesa", "AttributeError: 'NoneType'\n  File mujoco/osmesa/__init__.py: OSMesa", "libosmesa6$"),
        ("glfw", "FatalError: gladLoadGL error; GLContext", "=glfw finds no OpenGL; .*: unset MUJOCO_GL$"),
        ("egl", "ModuleNotFoundError: No module named 'lxml'", r"pip install .*\[memory-maze\]'$"),
    ],
)
def test_what_a_worker_misses_is_one_line(gl, error, command, monkeypatch):
    def connect(*args, **kwargs):
        raise WorkerError(f"worker 0 raised {error}")

    monkeypatch.setenv("MUJOCO_GL", gl)
    monkeypatch.setattr(importlib.metadata, "version", installed())
    monkeypatch.setattr(memory_maze, "connect", connect)
    with pytest.raises(ValueError, match=command) as raised:
        envs.make(NINE)
    assert "\n" not in str(raised.value)


def test_without_the_library_it_says_so(maze, monkeypatch):
    if ctypes.util.find_library("OSMesa"):
        pytest.skip("this machine has OSMesa")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(ValueError, match="=osmesa finds no OpenGL; to install it: apt-get .* libosmesa6$"):
        envs.make(NINE)


def test_frames_rewards_and_ends_are_the_originals(maze, tmp_path):
    """Two sizes in one process, three episodes each, with rewards among them."""
    played = {}
    for how in ("original", "fast"):
        file = tmp_path / f"{how}.npz"
        subprocess.run([sys.executable, memory_maze_play.__file__, how, file], check=True)
        played[how] = np.load(file)
    original, fast = played["original"], played["fast"]
    assert set(original) == set(fast)
    for name in original:
        np.testing.assert_array_equal(fast[name], original[name], err_msg=name)
    steps = memory_maze_play.NUM_EPISODES * memory_maze_play.LIMIT
    for index in range(len(memory_maze_play.EPISODES)):
        assert fast[f"reward_{index}"].sum() >= 1
        ends = np.flatnonzero(fast[f"ends_{index}"])
        np.testing.assert_array_equal(ends, np.arange(memory_maze_play.LIMIT - 1, steps, memory_maze_play.LIMIT))


def test_in_a_compiled_program(maze):
    env, params = maze
    vec = envs.vectorize(env, 2, pool_size=1)

    @jax.jit
    def rollout(key):
        obs, state = vec.reset(key, params)

        def step(state, key):
            obs, state, reward, terminated, truncated, info = vec.step(key, state, jnp.array([1, 2]), params)
            return state, {"obs": obs, "terminated": terminated, "truncated": truncated, **info}

        return obs, jax.lax.scan(step, state, jax.random.split(key, 7))[1]

    one, again, other = rollout(jax.random.key(0)), rollout(jax.random.key(0)), rollout(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    first, out = jax.tree.map(np.asarray, one)
    assert first.shape == (2, 64, 64, 3) and first.dtype == np.uint8
    assert (first[0] != first[1]).any() and (first != other[0]).any()
    assert not out["terminated"].any()
    np.testing.assert_array_equal(out["truncated"][:, 0], np.arange(1, 8) == 5)
    # A turn is seen, and the final observation is not the next episode's first.
    assert (out["obs"][0, 1] != first[1]).any()
    differs = (out["final_observation"] != out["obs"]).any((2, 3, 4))
    np.testing.assert_array_equal(differs, out["truncated"])
    # Nothing was stepped or drawn in this process.
    assert not {"memory_maze", "dm_control"} & set(sys.modules)
