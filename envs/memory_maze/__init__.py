"""Memory Maze (arXiv 2210.13383) itself, memory-maze 1.0.3 on MuJoCo, stepped by worker processes.

An agent in a maze of rooms and corridors is shown a colour, in the border of what it sees, and is rewarded when it
touches the sphere of that colour; then another colour is drawn. Maze and spheres stay for the whole episode, so
whoever remembers where they are finds them sooner.

| environment          | spheres | time limit, steps |
|----------------------|---------|-------------------|
| MemoryMaze-9x9-v0    | 3       | 1000              |
| MemoryMaze-11x11-v0  | 4       | 2000              |
| MemoryMaze-13x13-v0  | 5       | 3000              |
| MemoryMaze-15x15-v0  | 6       | 4000              |

Observations are uint8 [64, 64, 3]. Actions: 0 nothing, 1 forward, 2 left, 3 right, 4 forward and left, 5 forward
and right. Episodes end only at the time limit, which is a truncation. Frames, rewards and ends are bit for bit the
original's (`fast.py`). Needs the extra `memory-maze`, and OpenGL for the pictures, in software or by a GPU.
"""

import importlib.metadata
import os
from pathlib import Path
from typing import Any

from envs.host import OPTIONS, WorkerError, connect

SIZES = {"9x9": 1000, "11x11": 2000, "13x13": 3000, "15x15": 4000}
IDS = tuple(f"MemoryMaze-{size}-v0" for size in SIZES)

# Versions that work together: dm_control has no upper bound on mujoco, and the next ones break it.
PINS = {"memory-maze": "1.0.3", "dm_control": "1.0.50", "labmaze": "1.0.6"}
PINS |= {"mujoco": "3.17.0", "mujoco-mjx": "3.17.0"}
INSTALL = "pip install -c constraints.txt -e '.[memory-maze]'"
# What draws without a display, by the value of MUJOCO_GL, and what installs it.
COMMANDS = {
    "egl": "apt-get install -y --no-install-recommends libegl1 libgl1",
    "osmesa": "apt-get install -y --no-install-recommends libosmesa6",
}


def options(env_id: str) -> dict[str, Any]:
    """`max_steps_in_episode` is the time limit in steps; `workers` are processes at most, 0 as many as there are
    cores for; `timeout_s` is how long a single reset or step may take.
    """
    return {"max_steps_in_episode": SIZES[_size(env_id)], **OPTIONS}


def make(env_id: str, **options: Any):
    """Builds `MemoryMaze-<size>-v0`; see `envs.make`.

    Raises:
        ValueError: a package or OpenGL is missing, or versions that do not work together; says how to mend it.
    """
    _check_packages(env_id)
    maze, variables = factory("FastMemoryMaze")
    kwargs = {"size": _size(env_id), "max_steps": options["max_steps_in_episode"]}
    try:
        return connect(env_id, maze, kwargs, variables=variables, **options)
    except WorkerError as error:
        raise ValueError(_mend(env_id, variables["MUJOCO_GL"], str(error))) from error


def factory(name: str) -> tuple[str, dict[str, str]]:
    """What `Workers` need for a class of fast.py: its factory, and variables of their operating system."""
    gl = os.environ.get("MUJOCO_GL", "egl")
    variables = {
        "MUJOCO_GL": gl,
        "LP_NUM_THREADS": "0",  # of Mesa's software rendering: the worker's own thread draws
    }
    if gl in COMMANDS:
        variables["PYOPENGL_PLATFORM"] = gl
    return f"{Path(__file__).with_name('fast.py').resolve()}:{name}", variables


def _size(env_id: str) -> str:
    return env_id.split("-")[1]


def _check_packages(env_id: str) -> None:
    for package, version in PINS.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise ValueError(f"env.id={env_id!r}: needs the package {package}; to install it: {INSTALL}") from None
        if package.startswith("mujoco") and found != version:
            pins = " ".join(f"{name}=={PINS[name]}" for name in ("mujoco", "mujoco-mjx", "dm_control"))
            raise ValueError(
                f"env.id={env_id!r}: {package} {found} does not go with dm_control {PINS['dm_control']}; "
                f"to mend it: pip install {pins}"
            )


def _mend(env_id: str, gl: str, error: str) -> str:
    """What a worker raised as one line, with the command that mends it where it is known."""
    first, *details = error.splitlines()
    text = f"env.id={env_id!r}: {first}"
    # Where the traceback ends, or which library PyOpenGL and mujoco's loader miss.
    if any(word in error for word in ("OpenGL", "EGL", "OSMesa", "GLContext", "glfw", "MjrContext")):
        text += f"; MUJOCO_GL={gl} finds no OpenGL"
        if gl not in COMMANDS:
            return f"{text}; to draw without a display: unset MUJOCO_GL"
        return f"{text}; to install it: {COMMANDS[gl]}"
    if any(word in error for word in ("ModuleNotFoundError", "ImportError")):
        return f"{text}; to install what is missing: {INSTALL}"
    return text
