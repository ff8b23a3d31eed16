"""memory_maze 1.0.3 without what makes it slow: the same mazes, draws, physics, rewards and, bit for bit, frames.

The original's task object decides everything; this file replaces how it is stepped and drawn. Nearly all of the
original's time goes into a Python loop over contacts in every one of the 50 physics steps of an action, into new
scene objects for every frame, and at a reset into 88 large textures of which most are not used.

Runs in worker processes only (envs/host/), as a file of its own: it must not import the rest of this project.
Before the first import of mujoco, MUJOCO_GL must be set.
"""

import atexit
import logging
import sys
from typing import Any

import gymnasium
import numpy as np

# memory_maze wants a module called gym; gymnasium has all that it uses of it.
for name in ("", ".spaces", ".envs", ".envs.registration"):
    sys.modules.setdefault(f"gym{name}", __import__(f"gymnasium{name}", fromlist=["_"]))

import mujoco  # noqa: E402
from dm_control import mjcf  # noqa: E402
from dm_control.composer import environment as composer_environment  # noqa: E402
from lxml import etree  # noqa: E402
from memory_maze import tasks  # noqa: E402

logging.getLogger("absl").setLevel(logging.ERROR)

# Roll and steer of noop, forward, left, right, forward + left, forward + right.
CONTROLS = np.array([[0, 0], [-1, 0], [0, -1], [0, 1], [-1, -1], [-1, 1]], np.float64)
SIZE = 64  # pixels of a side
BORDER = 2  # pixels of it that show the target's colour
STEPS_A_SECOND = 4
HIDDEN_GROUP = 5  # a group of geoms that is not drawn
# Contacts need to be looked at in every physics step only within reach: in one action the ball rolls 0.5 m.
NEAR_M = 2.0


class FastMemoryMaze(gymnasium.Env):
    """Memory Maze as a gymnasium environment: uint8 [64, 64, 3], six actions, ends only at its time limit.

    `reset(seed=...)` builds the task anew from the seed; without one the next episode follows from the last as in
    the original, where places and textures depend on how many targets were reached before.

    Args:
        size: "9x9", "11x11", "13x13" or "15x15".
        max_steps: of an episode; 0: the original's.
    """

    observation_space = gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(len(CONTROLS))

    # One for all environments of the process. An environment keeps its own framebuffer and textures inside.
    _gl: Any = None

    def __init__(self, size: str, max_steps: int = 0):
        self._size, self._max_steps = size, max_steps
        self._task: Any = None
        self._context: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if seed is not None or self._task is None:
            self._task, self._rng, time_limit = _make_task(self._size, seed)
            self._hooks = composer_environment._EnvironmentHooks(self._task)
            self._limit = self._max_steps or round(time_limit * STEPS_A_SECOND)
        self._steps = 0
        self._hooks.initialize_episode_mjcf(self._rng)
        root = self._task.root_entity.mjcf_model
        xml, assets = _without_unused_textures(root.to_xml_string(), root.get_assets())
        self._physics = mjcf.Physics.from_xml_string(xml_string=xml, assets=assets)
        self._physics.legacy_step = True
        self._hooks.refresh_entity_hooks()
        self._hooks.after_compile(self._physics, self._rng)
        with self._physics.reset_context():
            self._hooks.initialize_episode(self._physics, self._rng)
        self._model, self._data = self._physics.model.ptr, self._physics.data.ptr
        self._prepare_contacts()
        self._prepare_drawing()
        return self._draw(), {}

    def step(self, action: int):
        model, data = self._model, self._data
        data.ctrl[:] = CONTROLS[action]
        offset = self._target_places - data.geom_xpos[self._shell, :2]
        physics_steps = self._task.physics_steps_per_control_step
        if np.square(offset).sum(1).min() < (self._reach + NEAR_M) ** 2:
            for _ in range(physics_steps):
                mujoco.mj_step2(model, data)
                mujoco.mj_step1(model, data)
                self._touch_targets()
        else:  # the same sequence in one call
            mujoco.mj_step2(model, data)
            mujoco.mj_step(model, data, physics_steps - 1)
            mujoco.mj_step1(model, data)
        if data.warning.number.any():
            raise RuntimeError(f"MuJoCo's warnings: {data.warning.number}")
        self._task.after_step(self._physics, self._rng)
        self._steps += 1
        reward = float(self._task.get_reward(self._physics))
        return self._draw(), reward, False, self._steps >= self._limit, {}

    def close(self) -> None:
        if self._context is not None:
            self._context.free()
            self._context = None

    # ------------------------------------------------------------------------------------------------------------

    def _prepare_contacts(self) -> None:
        model = self._model
        self._target_geoms = [model.geom(target.geom.full_identifier).id for target in self._task._targets]
        self._target_places = np.array(self._data.geom_xpos[self._target_geoms, :2])
        self._shell = model.geom("walker/shell").id
        self._reach = model.geom_size[self._target_geoms[0], 0] + model.geom_size[self._shell, 0]
        names = [model.actuator(i).name for i in range(model.nu)]
        assert names == ["walker/roll", "walker/steer"], names

    def _touch_targets(self) -> None:
        """What target_sphere's own loop over contacts does after every physics step."""
        if self._data.ncon:
            geoms = self._data.contact.geom
            for target, geom in zip(self._task._targets, self._target_geoms, strict=True):
                if not target._activated and (geoms == geom).any():
                    target._activated = True

    def _prepare_drawing(self) -> None:
        model, quality = self._model, self._model.vis.quality
        model.vis.global_.offwidth = model.vis.global_.offheight = SIZE
        quality.shadowsize = 0  # the only light is the headlight, which throws none
        if FastMemoryMaze._gl is None:
            FastMemoryMaze._gl = mujoco.GLContext(SIZE, SIZE)
            FastMemoryMaze._gl.make_current()
            atexit.register(FastMemoryMaze._gl.free)  # before mujoco's own hook ends the platform
        self.close()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._scene = mujoco.MjvScene(model, max(model.ngeom + 50, 200))
        self._option, self._perturbation = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._option.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = False
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera("walker/egocentric").id
        self._rectangle = mujoco.MjrRect(0, 0, SIZE, SIZE)
        self._pixels = np.empty((SIZE, SIZE, 3), np.uint8)
        # Walls and floor are planes that stay where they are.
        self._groups = model.geom_group.copy()
        self._is_plane = (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & (self._groups == 0)
        self._centres = self._data.geom_xpos.copy()
        self._radii = np.linalg.norm(model.geom_size[:, :2], axis=1)
        self._slope = np.tan(np.deg2rad(model.cam_fovy[self._camera.fixedcamid] / 2))

    def _hide_what_cannot_be_seen(self) -> None:
        """Hides planes that lie outside the camera's pyramid with all of a sphere around them."""
        camera = self._camera.fixedcamid
        view = (self._centres - self._data.cam_xpos[camera]) @ self._data.cam_xmat[camera].reshape(3, 3)
        ahead = -view[:, 2]
        margin = self._radii * np.sqrt(1 + self._slope**2)
        outside = ahead < -self._radii
        for axis in (0, 1):
            outside |= np.abs(view[:, axis]) - self._slope * ahead > margin
        self._model.geom_group[:] = np.where(outside & self._is_plane, HIDDEN_GROUP, self._groups)

    def _draw(self) -> np.ndarray:
        """The frame, with the border in the target's colour."""
        self._hide_what_cannot_be_seen()
        category = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, self._perturbation, self._camera, category, self._scene
        )
        # Environments share the GL context: without this one would draw into another's framebuffer.
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        mujoco.mjr_render(self._rectangle, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._context)
        image = self._pixels[::-1].copy()
        colour = (self._task._target_colors[self._task._current_target_ix] * 255 * 0.7).astype(np.uint8)
        image[:, :BORDER] = image[:, -BORDER:] = image[:BORDER] = image[-BORDER:] = colour
        return image


class OriginalMemoryMaze(gymnasium.Env):
    """The unchanged environment of memory_maze but for the time limit, to compare with.

    Args:
        size: "9x9", "11x11", "13x13" or "15x15".
        max_steps: of an episode; 0: the original's.
    """

    observation_space = FastMemoryMaze.observation_space
    action_space = FastMemoryMaze.action_space

    def __init__(self, size: str, max_steps: int = 0):
        self._size, self._max_steps = size, max_steps
        self._env: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if seed is not None or self._env is None:
            self._env = getattr(tasks, f"memory_maze_{self._size}")(image_only_obs=True, seed=seed)
            if self._max_steps:
                inner = self._env
                while hasattr(inner, "env"):
                    inner = inner.env
                inner._time_limit = self._max_steps / STEPS_A_SECOND - 1e-3
        return self._env.reset().observation, {}

    def step(self, action: int):
        step = self._env.step(action)
        terminated = step.last() and step.discount == 0
        return step.observation, step.reward, terminated, step.last() and not terminated, {}


def _make_task(size: str, seed: int | None):
    """(task, random state, time limit in seconds) as memory_maze.tasks makes them, without its environment."""
    made = {}

    class Composer:
        @staticmethod
        def Environment(**arguments):
            made.update(arguments)

    original = tasks.composer
    tasks.composer = Composer
    try:
        getattr(tasks, f"memory_maze_{size}")(seed=seed)
    finally:
        tasks.composer = original
    return made["task"], made["random_state"], made["time_limit"]


def _without_unused_textures(xml: str, assets: dict[str, bytes]) -> tuple[str, dict[str, bytes]]:
    """The model with each texture that a material uses once; the skybox stays."""
    root = etree.fromstring(xml)
    materials = list(root.iter("material"))
    used = {material.get("texture") for material in materials}
    first_of, same_as, files = {}, {}, set()
    for asset in root.iter("asset"):
        for texture in asset.findall("texture"):
            name, file = texture.get("name"), texture.get("file")
            if texture.get("type") == "skybox":
                continue
            if name not in used:
                asset.remove(texture)
                continue
            if file is None:
                continue
            files.add(file)
            if texture.get("gridlayout") is None:
                content = (file, texture.get("type"))
                if content in first_of:
                    same_as[name] = first_of[content]
                    asset.remove(texture)
                else:
                    first_of[content] = name
    for material in materials:
        if material.get("texture") in same_as:
            material.set("texture", same_as[material.get("texture")])
    kept = {file: data for file, data in assets.items() if file in files or not file.endswith(".png")}
    return etree.tostring(root, encoding="unicode"), kept
