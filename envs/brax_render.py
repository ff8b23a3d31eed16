"""Pictures of Brax tasks from a small ray caster in numpy: no GPU, no OpenGL.

Every body of Brax's tasks is made of capsules (a sphere is a capsule of no length) on a plane, so one exact
intersection formula draws them all. The camera keeps its direction and travels with the torso; a checked
floor and the shadows on it show the motion.
"""

import dataclasses
import functools

import numpy as np

WIDTH, HEIGHT = 480, 360
_SUPERSAMPLING = 2
_FIELD_OF_VIEW = np.deg2rad(40.0)  # horizontal

_LIGHT = np.array([-0.35, -0.45, 1.0], np.float32) / np.linalg.norm([-0.35, -0.45, 1.0]).astype(np.float32)
_SKY_TOP = np.array([0.47, 0.62, 0.80], np.float32)
_HORIZON = np.array([0.87, 0.91, 0.95], np.float32)
_FLOOR_LIGHT = np.array([0.72, 0.75, 0.78], np.float32)
_FLOOR_DARK = np.array([0.55, 0.59, 0.64], np.float32)
_TRUNK = np.array([0.93, 0.91, 0.86], np.float32)
_FIXED = np.array([0.45, 0.47, 0.50], np.float32)
_LIMBS = np.array(
    [[0.90, 0.45, 0.20], [0.16, 0.50, 0.73], [0.25, 0.62, 0.43], [0.86, 0.66, 0.20], [0.62, 0.36, 0.62]],
    np.float32,
)
_BY_NAME = {"target": [0.88, 0.18, 0.20], "goal": [0.88, 0.18, 0.20], "object": [0.20, 0.62, 0.35]}


@dataclasses.dataclass(frozen=True)
class View:
    """Where the camera stands: `distance` (m) from `center` (m), seen under azimuth and elevation (degrees).

    An azimuth of -90 looks along +y, at the x-z plane from the side. `center` is relative to the torso's x
    and y if the camera follows it. `floor` is the height of the floor, None for the model's own, `check` the
    size of a check.
    """

    distance: float
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    azimuth: float = -90.0
    elevation: float = 12.0
    follow: bool = True
    floor: float | None = None
    check: float = 0.5
    spread: float = 0.0


VIEWS = {
    "ant": View(4.4, (0.0, 0.0, 0.35), azimuth=-65.0, elevation=24.0),
    "halfcheetah": View(3.6, (0.0, 0.0, 0.6), azimuth=-80.0),
    "hopper": View(3.6, (0.0, 0.0, 0.7), azimuth=-75.0, elevation=10.0),
    "humanoid": View(3.6, (0.0, 0.0, 0.85), azimuth=-50.0, elevation=12.0),
    "humanoidstandup": View(3.6, (0.0, 0.0, 0.5), azimuth=-50.0, elevation=16.0),
    "inverted_double_pendulum": View(4.0, (0.0, 0.0, 0.5), elevation=8.0, follow=False, floor=-0.3),
    "inverted_pendulum": View(3.4, (0.0, 0.0, 0.2), elevation=8.0, follow=False, floor=-0.3),
    "pusher": View(2.9, (0.2, -0.1, -0.1), azimuth=-50.0, elevation=35.0, follow=False, check=0.2),
    "reacher": View(1.2, (0.0, 0.0, 0.0), azimuth=-90.0, elevation=60.0, follow=False, check=0.1),
    "swimmer": View(6.0, (0.0, 0.0, 0.0), azimuth=-90.0, elevation=50.0),
    "walker2d": View(3.6, (0.0, 0.0, 0.75), azimuth=-70.0, elevation=10.0, spread=0.07),
}


class Renderer:
    """Draws the states of one task.

    Args:
        sys: the Brax system; its model must hold planes, capsules and spheres only.
        view: the camera.

    Raises:
        ValueError: the model holds another kind of geometry.
    """

    def __init__(self, sys, view: View):
        import mujoco

        plane, sphere, capsule = (
            int(getattr(mujoco.mjtGeom, f"mjGEOM_{kind}")) for kind in ("PLANE", "SPHERE", "CAPSULE")
        )
        model = sys.mj_model
        kinds = model.geom_type
        if not set(kinds.tolist()) <= {plane, sphere, capsule}:
            raise ValueError("can draw planes, capsules and spheres only")
        geoms = np.flatnonzero((kinds != plane) & (model.geom_rgba[:, 3] > 0))
        planes = np.flatnonzero(kinds == plane)

        self.view = view
        self._link = model.geom_bodyid[geoms] - 1  # -1: fixed to the world
        half = np.where(kinds[geoms] == capsule, model.geom_size[geoms, 1], 0.0)
        axis = _rotate(model.geom_quat[geoms], np.array([0.0, 0.0, 1.0])) * half[:, None]
        # Ends of every capsule in the frame of its link, [G, 2, 3].
        self._ends = np.stack([model.geom_pos[geoms] - axis, model.geom_pos[geoms] + axis], 1)
        self._radius = model.geom_size[geoms, 0].astype(np.float32)
        colors = _link_colors(sys.link_parents, sys.link_names)
        self._color = np.stack([colors[link] if link >= 0 else _FIXED for link in self._link])
        side = [0.0 if parent < 0 else -1.0 for parent in sys.link_parents] + [0.0]  # the last is the world
        side = [
            1.0 if name.endswith("_left") else at for name, at in zip(sys.link_names + [""], side, strict=True)
        ]
        self._shift = view.spread * np.array(side)[self._link, None]  # [G, 1]
        if view.floor is not None:
            self._floor = view.floor
        else:
            self._floor = float(model.geom_pos[planes[0], 2]) if planes else 0.0

    def __call__(self, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """Draws one state.

        Args:
            position: [links, 3], world frame, m.
            rotation: [links, 4], quaternions (w, x, y, z).

        Returns:
            uint8 [HEIGHT, WIDTH, 3].
        """
        ends = self._world_ends(position, rotation)
        follow = position[0, :2] if self.view.follow else np.zeros(2)
        anchor = np.array([*follow, 0.0]) + self.view.center  # the point looked at
        camera = _camera(self.view, self._floor - self.view.center[2])
        ends = (ends - anchor).astype(np.float32)

        image = self._background(camera, anchor, ends)
        self._draw_bodies(image, camera, ends - camera.eye)
        return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)

    def _world_ends(self, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """End points of every capsule in the world frame [G, 2, 3]."""
        position = np.concatenate([position, np.zeros((1, 3))])  # link -1 is the world
        rotation = np.concatenate([rotation, [[1.0, 0.0, 0.0, 0.0]]])
        ends = position[self._link, None] + _rotate(rotation[self._link, None], self._ends)
        ends[..., 1] += self._shift
        return ends

    def _background(self, camera: "_Camera", anchor: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Sky, floor and shadows: float32 [HEIGHT, WIDTH, 3]."""
        size = self.view.check
        stripes = [
            _stripes((camera.floor[..., axis] + float(anchor[axis] % (2 * size))) / size, camera.footprint / size)
            for axis in (0, 1)
        ]
        light = 0.5 + 0.5 * stripes[0] * stripes[1]  # [H, W]
        shade = self._shadow(camera, ends)
        image = _FLOOR_DARK + light[..., None] * (_FLOOR_LIGHT - _FLOOR_DARK)
        image *= (1.0 - shade)[..., None]
        return image + camera.fog[..., None] * (camera.sky - image)

    def _shadow(self, camera: "_Camera", ends: np.ndarray) -> np.ndarray:
        """Darkness of the floor in [0, 1) [HEIGHT, WIDTH]; wider and fainter the higher the body."""
        shade = np.zeros((HEIGHT, WIDTH), np.float32)
        floor = self._floor - self.view.center[2]
        for (a, b), radius in zip(ends, self._radius, strict=True):
            height = max(float(min(a[2], b[2])) - floor, 0.0)
            soft = 0.5 * radius + 0.12 * height + 0.01
            a, b = (end - _LIGHT * (end[2] - floor) / _LIGHT[2] for end in (a, b))
            reach = radius + soft
            corners = np.array(
                [
                    [x, y, floor]
                    for end in (a, b)
                    for x in (end[0] - reach, end[0] + reach)
                    for y in (end[1] - reach, end[1] + reach)
                ],
                np.float32,
            )
            rows, columns = camera.bounds(corners - camera.eye, 0.0, 1)
            ground = camera.floor[rows, columns]
            along = b[:2] - a[:2]
            length = max(float(along @ along), 1e-9)
            offset = ground - a[:2]
            offset -= np.clip(offset @ along / length, 0.0, 1.0)[..., None] * along
            distance = np.sqrt(np.einsum("hwi,hwi->hw", offset, offset))
            edge = np.clip((reach - distance) / (2.0 * soft), 0.0, 1.0)
            dark = edge * edge * (3.0 - 2.0 * edge) * (0.5 / (1.0 + 1.5 * height))
            np.maximum(shade[rows, columns], dark, out=shade[rows, columns])
        return shade

    def _draw_bodies(self, image: np.ndarray, camera: "_Camera", ends: np.ndarray) -> None:
        """Draws every capsule over `image`; `ends` [G, 2, 3] are relative to the eye."""
        rows, columns = camera.bounds(ends.reshape(-1, 3), self._radius.max(), 1)
        top, left = rows.start, columns.start
        height, width = rows.stop - top, columns.stop - left
        if height <= 0 or width <= 0:
            return
        n = _SUPERSAMPLING
        depth = np.full((height * n, width * n), np.inf, np.float32)
        layer = np.zeros((height * n, width * n, 3), np.float32)
        for (a, b), radius, color in zip(ends, self._radius, self._color, strict=True):
            # Bounds on the supersampled screen, and the same relative to the layer.
            rows_n, columns_n = camera.bounds(np.stack([a, b]), radius, n)
            rays = camera.rays[rows_n, columns_n]
            inside = (
                slice(rows_n.start - top * n, rows_n.stop - top * n),
                slice(columns_n.start - left * n, columns_n.stop - left * n),
            )
            distance, normal_of = _intersect(rays, a, b, radius)
            nearer = distance < depth[inside]
            if nearer.any():
                depth[inside][nearer] = distance[nearer]
                layer[inside][nearer] = _shade(color, normal_of(nearer), rays[nearer])
        covered = _downsample(np.isfinite(depth).astype(np.float32)[..., None])
        image[rows, columns] = image[rows, columns] * (1.0 - covered) + _downsample(layer)


@dataclasses.dataclass(frozen=True)
class _Camera:
    """What depends on the view alone; points are relative to the point looked at.

    Attributes:
        eye: position of the camera [3].
        axes: rows are the unit vectors to the right, up and forward [3, 3].
        focal: focal length in pixels.
        rays: unit direction of every supersampled pixel [n H, n W, 3].
        floor: x and y where each pixel's ray meets the floor [H, W, 2], far away if it does not.
        footprint: size of the pixel on the floor, m [H, W].
        fog: share of the sky's colour in the pixel [H, W], 1 above the horizon.
        sky: [H, 1, 3].
    """

    eye: np.ndarray
    axes: np.ndarray
    focal: float
    rays: np.ndarray
    floor: np.ndarray
    footprint: np.ndarray
    fog: np.ndarray
    sky: np.ndarray

    def bounds(self, points: np.ndarray, radius: float, n: int) -> tuple[slice, slice]:
        """Rows and columns, n to a pixel, that spheres around `points` [N, 3] (from the eye) can touch."""
        right, up, forward = self.axes @ points.T  # each [N]
        if forward.min() <= 1.5 * radius + 1e-3:
            return slice(0, HEIGHT * n), slice(0, WIDTH * n)
        # 1.2: a sphere seen off the axis is wider than radius / depth.
        reach = 1.2 * radius / (forward - radius) * self.focal + 1.0
        column = WIDTH / 2 + right / forward * self.focal
        row = HEIGHT / 2 - up / forward * self.focal
        rows = _clip_range((row - reach).min(), (row + reach).max(), HEIGHT)
        columns = _clip_range((column - reach).min(), (column + reach).max(), WIDTH)
        return slice(rows[0] * n, rows[1] * n), slice(columns[0] * n, columns[1] * n)


@functools.lru_cache(maxsize=4)
def _camera(view: View, floor: float) -> _Camera:
    """Camera for a floor at height `floor` relative to the point looked at."""
    azimuth, elevation = np.deg2rad(view.azimuth), np.deg2rad(view.elevation)
    away = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    axes = np.stack([right, np.cross(away, right), -away]).astype(np.float32)
    eye = (view.distance * away).astype(np.float32)
    focal = WIDTH / 2 / np.tan(_FIELD_OF_VIEW / 2)

    def directions(n: int) -> np.ndarray:
        column = (np.arange(WIDTH * n) + 0.5) / n - WIDTH / 2
        row = HEIGHT / 2 - (np.arange(HEIGHT * n) + 0.5) / n
        plane = np.stack(np.broadcast_arrays(column[None, :], row[:, None], focal), -1)
        rays = (plane / np.linalg.norm(plane, axis=-1, keepdims=True)).astype(np.float32)
        return rays @ axes

    rays = directions(1)
    down = np.maximum(-rays[..., 2], 1e-4)
    reach = (eye[2] - floor) / down  # distance along the ray, m
    below = rays[..., 2] < -1e-4
    ground = np.where(below[..., None], eye[:2] + reach[..., None] * rays[..., :2], 1e6)
    fog = np.where(below, 1.0 - np.exp(-((reach / (6.0 * view.distance)) ** 2)), 1.0)
    height = np.clip((HEIGHT / 2 - np.arange(HEIGHT) + focal * np.tan(-elevation)) / HEIGHT, 0.0, 1.0)
    sky = _HORIZON + height[:, None, None] * (_SKY_TOP - _HORIZON)
    return _Camera(
        eye=eye,
        axes=axes,
        focal=focal,
        rays=directions(_SUPERSAMPLING),
        floor=ground.astype(np.float32),
        footprint=(reach / focal / np.sqrt(down)).astype(np.float32),
        fog=fog.astype(np.float32),
        sky=sky.astype(np.float32),
    )


def _intersect(rays: np.ndarray, a: np.ndarray, b: np.ndarray, radius: float):
    """First hits of rays from the origin with a capsule.

    Args:
        rays: unit directions [h, w, 3].
        a, b: ends of the capsule's axis [3].

    Returns:
        (distance [h, w], inf where missed; a function from a mask [h, w] to the unit normals at its hits [N,
        3]).
    """
    length = float(np.linalg.norm(b - a))
    axis = (b - a) / length if length > 1e-6 else np.array([0.0, 0.0, 1.0], np.float32)
    start = float(a @ axis)
    across = a - start * axis  # from the origin to the axis, at a right angle
    slope, to_axis, to_a, to_b = np.moveaxis(rays @ np.stack([axis, across, a, b], 1), -1, 0)

    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.full(rays.shape[:2], np.inf, np.float32)
        if length > 1e-6:
            # |t ray - axis| = radius, at a right angle to the axis, is a quadratic in t.
            square = 1.0 - slope * slope
            t = (to_axis - np.sqrt(to_axis * to_axis - square * (across @ across - radius * radius))) / square
            along = t * slope - start
            np.copyto(distance, t, where=(along >= 0.0) & (along <= length))
        for end, to_end in ((a, to_a), (b, to_b)):
            t = to_end - np.sqrt(to_end * to_end - (end @ end - radius * radius))
            distance = np.fmin(distance, t)  # fmin ignores the NaN of a miss
    distance[~(distance > 0.0)] = np.inf

    def normals(mask: np.ndarray) -> np.ndarray:
        points = distance[mask][:, None] * rays[mask]
        along = np.clip(points @ axis - start, 0.0, length)
        return (points - a - along[:, None] * axis) / radius

    return distance, normals


def _shade(color: np.ndarray, normals: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Colours [N, 3] of surface points: sky light from above, a lamp with a highlight, a darkened rim."""
    lamp = np.maximum(normals @ _LIGHT, 0.0)
    facing = np.maximum(-np.einsum("ni,ni->n", normals, rays), 0.0)
    half = _LIGHT - rays
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    highlight = 0.25 * np.maximum(np.einsum("ni,ni->n", normals, half), 0.0) ** 40
    diffuse = (0.38 + 0.14 * normals[:, 2] + 0.6 * lamp) * (0.72 + 0.28 * np.minimum(3.0 * facing, 1.0))
    return np.minimum(diffuse[:, None] * color + highlight[:, None], 1.0)


def _downsample(image: np.ndarray) -> np.ndarray:
    """Means over n x n pixels: [n h, n w, c] to [h, w, c]. Adding slices beats numpy's mean."""
    n = _SUPERSAMPLING
    rows = sum(image[i::n] for i in range(n))
    return sum(rows[:, i::n] for i in range(n)) / n**2


def _stripes(x: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Square wave of period 2 between -1 and 1, its edges softened over `width` against flicker."""
    ramp = 2.0 * np.abs((x - 0.5) % 2.0 - 1.0) - 1.0  # triangle wave
    return np.clip(ramp / np.maximum(2.0 * width, 1e-6), -1.0, 1.0) * np.clip(1.0 / (1e-6 + 1.5 * width), 0.0, 1.0)


def _link_colors(parents: tuple[int, ...], names: list[str]) -> list[np.ndarray]:
    """One colour a limb: a new one below the trunk and where the tree branches, darker from link to link."""
    colors, shades, used = [], [], 0
    for link, parent in enumerate(parents):
        if parent < 0:
            color, shade = _TRUNK, 0
        elif parents[parent] < 0 or parents.count(parent) > 1:
            color, shade = _LIMBS[used % len(_LIMBS)], 0
            used += 1
        else:
            color, shade = colors[parent], shades[parent] + 1
        colors.append(np.array(_BY_NAME.get(names[link], color), np.float32))
        shades.append(shade)
    return [color * 0.78 ** (shade % 2) for color, shade in zip(colors, shades, strict=True)]


def _rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Rotates vectors [..., 3] by unit quaternions (w, x, y, z) [..., 4]."""
    w, u = quaternion[..., :1], quaternion[..., 1:]
    vector = np.broadcast_to(vector, np.broadcast_shapes(u.shape, vector.shape))
    twice = 2.0 * np.cross(u, vector)
    return vector + w * twice + np.cross(u, twice)


def _clip_range(low: float, high: float, size: int) -> tuple[int, int]:
    low = int(np.clip(np.floor(low), 0, size))
    return low, max(low, int(np.clip(np.ceil(high), 0, size)))
