"""Pictures: the intersection formula, that every task can be drawn, and that motion shows."""

import mujoco
import numpy as np
import pytest

import envs
from envs.brax_render import HEIGHT, VIEWS, WIDTH, Renderer, _intersect
from envs.brax_tasks import ENTRIES


def distance_to_segment(points, a, b):
    along = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0.0, 1.0)
    return np.linalg.norm(points - a - along[..., None] * (b - a), axis=-1)


@pytest.mark.parametrize("b", [[0.6, 0.3, 4.0], [-0.5, 0.2, 3.0]], ids=["capsule", "sphere"])
def test_rays_stop_at_the_surface_and_misses_never_touch_it(b):
    a, b, radius = np.array([-0.5, 0.2, 3.0], np.float32), np.array(b, np.float32), 0.3
    x, y = np.meshgrid(np.linspace(-0.6, 0.6, 41), np.linspace(-0.6, 0.6, 41))
    rays = np.stack([x, y, np.ones_like(x)], -1)
    rays = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32)
    distance, normals = _intersect(rays, a, b, radius)
    hit = np.isfinite(distance)
    assert 0.01 < hit.mean() < 0.9
    points = distance[hit][:, None] * rays[hit]
    np.testing.assert_allclose(distance_to_segment(points, a, b), radius, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(normals(hit), axis=-1), 1.0, atol=1e-2)
    assert (np.einsum("ni,ni->n", normals(hit), rays[hit]) < 0.05).all()  # the side that faces the eye
    steps = np.linspace(0.0, 8.0, 400)
    clearance = distance_to_segment(steps[:, None, None] * rays[~hit], a, b).min(0)
    assert (clearance > radius - 2e-3).all()


def pose(task, shift=0.0):
    """Positions and rotations of the links at the task's first pose, moved along x."""
    env, _ = envs.make(f"brax/{task}")
    sys = env.brax_env.sys
    data = mujoco.MjData(sys.mj_model)
    mujoco.mj_forward(sys.mj_model, data)
    return sys, data.xpos[1:] + [shift, 0.0, 0.0], data.xquat[1:].copy()


@pytest.mark.parametrize("task", ENTRIES)
def test_every_task_has_a_picture_of_its_bodies(task):
    sys, position, rotation = pose(task)
    renderer = Renderer(sys, VIEWS[task])
    image = renderer(position, rotation)
    assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8
    apart = position + [0.0, 0.0, 50.0] * (np.arange(len(position)) > 0)[:, None]  # limbs out of sight
    changed = (image != renderer(apart, rotation)).any(-1).mean()
    assert 0.0005 < changed < 0.5


def test_the_camera_follows_and_the_floor_shows_the_way():
    sys, position, rotation = pose("halfcheetah")
    renderer = Renderer(sys, VIEWS["halfcheetah"])
    still, moved = renderer(position, rotation), renderer(position + [0.5, 0.0, 0.0], rotation)
    limbs = np.ptp(still.astype(int), axis=-1) > 90  # the only strong colours
    assert limbs.sum() > 500 and (np.abs(still.astype(int) - moved)[limbs] <= 2).mean() > 0.9
    assert (still != moved).any(-1)[HEIGHT // 2 :].mean() > 0.2
    whole_period = renderer(position + [2 * VIEWS["halfcheetah"].check, 0.0, 0.0], rotation)
    assert np.abs(still.astype(int) - whole_period).max() <= 2


def test_a_state_of_the_environment_is_drawn():
    import jax

    env, params = envs.make("brax/inverted_pendulum-P")
    _, state = jax.jit(env.reset_env)(jax.random.key(0), params)
    image = env.render(state, params)
    sys, position, rotation = pose("inverted_pendulum")
    at_rest = Renderer(sys, VIEWS["inverted_pendulum"])(position, rotation)
    assert (np.abs(image.astype(int) - at_rest).max(-1) > 30).mean() < 0.01  # it starts within 0.01 of there
