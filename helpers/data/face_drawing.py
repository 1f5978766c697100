"""Drawings of faces, made of polygons.

About forty random numbers describe a face (head, hair, eyes, gaze, mouth, beard, glasses, tilt,
light and more). Most of them are continuous, so faces differ gradually, as people's do.

Lengths are in units of half the height of the head; x points to the right, y points down, and the
origin is the centre of the head.
"""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

#: In pixels, as in CelebA's aligned pictures.
FACE_WIDTH, FACE_HEIGHT = 178, 218
#: Each face is drawn this many times larger and then reduced, which smooths its edges.
_OVERSAMPLING = 2
Points = np.ndarray[Any, np.dtype[np.float64]]
Colour = np.ndarray[Any, np.dtype[np.float64]]
_SKINS = ((255, 224, 196), (241, 194, 158), (224, 172, 125), (198, 134, 86), (141, 85, 48))
_HAIRS = ((35, 25, 22), (84, 54, 32), (139, 90, 43), (214, 172, 96), (160, 60, 30), (175, 172, 170))
_IRISES = ((70, 45, 25), (110, 80, 45), (80, 120, 90), (70, 120, 170), (100, 110, 120))


def draw_face(seed: int, index: int) -> Image.Image:
    """Face number ``index`` of a seed, always the same one: a PIL image, RGB, 178 x 218."""
    return _Face(np.random.default_rng([seed, index])).draw()


class _Face:
    """One face: its features, drawn from ``chance``, and how it is painted."""

    def __init__(self, chance: np.random.Generator) -> None:
        def between(low: float, high: float) -> float:
            return float(chance.uniform(low, high))

        def one_in(n: float) -> bool:
            return between(0, n) < 1

        # Position of the head, and how it is held.
        self.centre = np.array([FACE_WIDTH / 2 + between(-7, 7), 112 + between(-7, 7)])
        self.scale = between(55, 66)
        self.tilt = between(-0.16, 0.16)
        self.turn = between(-0.16, 0.16)
        self.nod = between(-0.05, 0.05)
        # Its shape.
        self.width = between(0.68, 0.84)
        self.jaw = between(0.05, 0.38)
        self.ears = between(0.13, 0.2)
        # Colours.
        self.skin = _mixed(chance, _SKINS)
        self.hair = _mixed(chance, _HAIRS)
        self.iris = _mixed(chance, _IRISES)
        self.lips = 0.55 * self.skin + 0.45 * np.array([between(150, 205), 60.0, 75.0])
        self.cloth = chance.uniform(30, 230, 3)
        self.wall = chance.uniform(70, 240, 3)
        self.wall_change = chance.uniform(-55, 55, 3)
        self.light = chance.uniform(-0.22, 0.22, 2)
        # Hair.
        self.bald = one_in(9)
        self.hair_length = between(-0.4, 1.5)
        self.volume = between(0.1, 0.3)
        self.hairline = between(0.42, 0.72)
        self.parting = between(-0.55, 0.55)
        self.fringe = between(0.0, 0.16)
        self.beard = between(0.45, 0.85) if one_in(4) else 0.0
        # Eyes and brows.
        self.eyes_apart = between(0.29, 0.36)
        self.eye_width = between(0.13, 0.17)
        self.eye_open = between(0.05, 0.1)
        self.eye_slant = between(-0.12, 0.16)
        self.gaze = np.array([between(-0.05, 0.05), between(-0.02, 0.02)])
        self.brow_height = between(0.15, 0.22)
        self.brow_slant = between(-0.25, 0.25)
        self.brow_thick = between(0.02, 0.05)
        # Nose and mouth.
        self.nose_length = between(0.28, 0.4)
        self.nose_width = between(0.09, 0.15)
        self.mouth_y = between(0.46, 0.54)
        self.mouth_width = between(0.17, 0.29)
        self.smile = between(-0.05, 0.13)
        self.mouth_open = max(0.0, between(-0.08, 0.09))
        self.lip = between(0.025, 0.055)
        # Glasses.
        self.glasses = one_in(3.5)
        self.glass_radius = between(0.19, 0.24)
        self.glass_square = between(2.0, 4.0)
        self.frame = _mixed(chance, ((20, 20, 25), (120, 30, 30), (110, 90, 50), (40, 50, 110)))

        size = (_OVERSAMPLING * FACE_WIDTH, _OVERSAMPLING * FACE_HEIGHT)
        self._canvas = Image.new("RGB", size)
        self._pen = ImageDraw.Draw(self._canvas)

    def draw(self) -> Image.Image:
        """The picture."""
        self._fill_wall()
        if not self.bald:
            self._draw_back_hair()
        self._draw_body()
        self._draw_head()
        if self.beard:
            self._draw_beard()
        if not self.bald:
            self._draw_front_hair()
        for side in (-1, 1):
            self._draw_eye(side)
        self._draw_nose()
        self._draw_mouth()
        if self.glasses:
            self._draw_glasses()
        return self._lit(self._canvas.reduce(_OVERSAMPLING))

    # Parts, the farthest first.

    def _fill_wall(self) -> None:
        slope = np.linspace(-1, 1, 8)[:, None, None]
        rows = np.clip(self.wall + slope * self.wall_change, 0, 255).astype(np.uint8)
        wall = Image.fromarray(np.repeat(rows, 2, axis=1))
        self._canvas.paste(wall.resize(self._canvas.size, Image.Resampling.BILINEAR))

    def _draw_back_hair(self) -> None:
        reach = self.width + 0.8 * self.volume
        bottom = self.hair_length
        sides = _arc(reach, 1 + self.volume, np.pi, 2 * np.pi)
        ends = np.array([[reach * 0.95, bottom], [0.6 * reach, bottom + 0.12]])
        ends = np.concatenate([ends, (ends * [-1, 1])[::-1]])
        self._polygon(_moved(np.concatenate([sides, ends]), 0, -0.02), 0.72 * self.hair)

    def _draw_body(self) -> None:
        neck = np.array([[-0.3, 0.5], [0.3, 0.5], [0.34, 1.5], [-0.34, 1.5]])
        self._polygon(neck, 0.82 * self.skin)
        shoulders = _moved(_superellipse(1.35, 0.75, 2.6), 0, 1.98)
        self._polygon(shoulders, self.cloth)
        self._polygon(_moved(_superellipse(0.38, 0.2, 2), 0, 1.25), 0.82 * self.skin)

    def _draw_head(self) -> None:
        for side in (-1, 1):
            ear = _superellipse(0.6 * self.ears, self.ears, 2)
            self._polygon(_moved(ear, side * (self.width - 0.01), 0.02), 0.9 * self.skin)
        self._polygon(self._outline(), self.skin)
        cheeks = 0.9 * self.skin + 0.1 * np.array([230, 60, 60])
        for side in (-1, 1):
            cheek = _moved(_superellipse(0.14, 0.1, 2), side * 0.4, 0.26)
            self._polygon(self._turned(cheek), cheeks)

    def _draw_beard(self) -> None:
        outline = self._outline()
        lower = outline[outline[:, 1] > 0.22]
        lower = lower[np.argsort(lower[:, 0])]
        inner = np.stack([lower[:, 0] * 0.9, 0.3 + 0.08 * np.cos(4 * lower[:, 0])], axis=1)
        colour = (1 - self.beard) * self.skin + self.beard * self.hair
        self._polygon(np.concatenate([lower, inner[::-1]]), colour)

    def _draw_front_hair(self) -> None:
        outer = _arc(self.width + 0.45 * self.volume, 1 + 0.75 * self.volume, np.pi, 2 * np.pi)
        x = np.linspace(1, -1, 25)
        line = -self.hairline - self.fringe * np.cos(3 * (x - self.parting)) + 0.55 * np.abs(x) ** 6
        inner = np.stack([x * self.width * 0.97, line], axis=1)
        self._polygon(np.concatenate([outer, inner]), self.hair)
        shine = np.stack([x * 0.45 * self.width - 0.1, -0.93 + 0.09 * x**2], axis=1)
        self._line(shine, 0.05, 0.75 * self.hair + 55)

    def _draw_eye(self, side: int) -> None:
        middle = np.array([side * self.eyes_apart, -0.08])
        white = _superellipse(self.eye_width, self.eye_open, 1.8)
        iris = _superellipse(0.075, 0.075, 2) + self.gaze
        pupil = _superellipse(0.034, 0.034, 2) + self.gaze
        slant = np.array([[1, 0], [-side * self.eye_slant, 1]]).T
        lid = white[white[:, 1] <= 1e-9]
        lid = lid[np.argsort(lid[:, 0])]

        def placed(points: Points) -> Points:
            return self._turned(points @ slant + middle)

        self._polygon(placed(white * 1.25), 0.86 * self.skin)
        self._polygon(placed(white), np.array([245.0, 245, 242]))
        self._polygon(placed(self._within_eye(iris)), self.iris)
        self._polygon(placed(self._within_eye(pupil)), np.array([15.0, 12, 12]))
        glint = _moved(_superellipse(0.014, 0.014, 2) + self.gaze, 0.025, -0.025)
        self._polygon(placed(self._within_eye(glint)), np.array([255.0, 255, 255]))
        self._line(placed(lid), 0.025, 0.35 * self.skin)
        x = np.linspace(-1, 1, 9)
        height = -self.brow_height - self.eye_open + 0.05 * x**2
        tilt = side * x * 0.3 * self.brow_slant * -0.5
        brow = np.stack([x * self.eye_width * 1.25, height + tilt], axis=1)
        self._line(placed(brow), 1.6 * self.brow_thick, 0.5 * self.hair + 0.1 * self.skin)

    def _within_eye(self, points: Points) -> Points:
        """Points, moved up or down until they are within the open eye."""
        across = np.clip(np.abs(points[:, 0]) / self.eye_width, 0, 1)
        most = self.eye_open * (1 - across**1.8) ** (1 / 1.8)
        return np.stack([points[:, 0], np.clip(points[:, 1], -most, most)], axis=1)

    def _draw_nose(self) -> None:
        tip = self.nose_length - 0.05
        side = -1 if self.light[0] > 0 else 1  # the side in shadow
        ridge = np.array([[0.02, -0.1], [0.045, 0.05], [self.nose_width, tip], [0.0, tip + 0.02]])
        self._polygon(self._turned(ridge * [side, 1], 1.5), 0.88 * self.skin)
        wings = _moved(_superellipse(self.nose_width, 0.055, 2), 0, tip)
        self._polygon(self._turned(wings, 1.6), 0.93 * self.skin)
        for hole in (-1, 1):
            dark = _superellipse(0.03, 0.018, 2)
            dark = _moved(dark, hole * 0.5 * self.nose_width, tip + 0.03)
            self._polygon(self._turned(dark, 1.6), 0.5 * self.skin)

    def _draw_mouth(self) -> None:
        x = np.linspace(-1, 1, 21)
        bow = self.mouth_y + self.smile * (0.5 - x**2)
        round_ = 1 - x**2
        across = x * self.mouth_width

        def curve(offset: Points) -> Points:
            return self._turned(np.stack([across, bow + offset], axis=1), 1.2)

        top = curve(-self.lip * round_ * (1 - 0.35 * np.exp(-((x / 0.18) ** 2))))
        bottom = curve((self.mouth_open + 1.4 * self.lip) * round_)
        self._polygon(np.concatenate([top, bottom[::-1]]), self.lips)
        gap = np.concatenate([curve(0 * x), curve(self.mouth_open * round_)[::-1]])
        if self.mouth_open > 0.02:
            self._polygon(gap, np.array([90.0, 25, 30]))
            teeth = np.concatenate([curve(0 * x), curve(0.55 * self.mouth_open * round_)[::-1]])
            self._polygon(teeth, np.array([245.0, 242, 235]))
        self._line(curve(0 * x), 0.015, 0.45 * self.lips)

    def _draw_glasses(self) -> None:
        for side in (-1, 1):
            rim = _superellipse(self.glass_radius, 0.8 * self.glass_radius, self.glass_square)
            rim = _moved(rim, side * self.eyes_apart * 1.04, -0.06)
            self._line(self._turned(np.concatenate([rim, rim[:2]]), 1.2), 0.035, self.frame)
            temple = np.array([[side * (self.eyes_apart + self.glass_radius), -0.1]])
            temple = np.concatenate([self._turned(temple, 1.2), [[side * self.width, -0.08]]])
            self._line(temple, 0.03, self.frame)
        inner = 1.04 * self.eyes_apart - self.glass_radius
        bridge = np.array([[-inner, -0.08], [0, -0.11], [inner, -0.08]])
        self._line(self._turned(bridge, 1.2), 0.035, self.frame)

    def _lit(self, image: Image.Image) -> Image.Image:
        """The picture, lit from one side."""
        x, y = np.linspace(-1, 1, FACE_WIDTH), np.linspace(-1, 1, FACE_HEIGHT)
        field = 1 + self.light[0] * x[None, :] + 0.6 * self.light[1] * y[:, None]
        pixels = np.asarray(image, dtype=np.float32) * field[..., None].astype(np.float32)
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    # Geometry.

    def _outline(self) -> Points:
        """The outline of the head: an ellipse that narrows towards the chin."""
        points = _superellipse(self.width, 1.0, 2.15)
        narrower = 1 - self.jaw * np.clip(points[:, 1], 0, 1) ** 1.6
        return np.stack([points[:, 0] * narrower, points[:, 1]], axis=1)

    def _turned(self, points: Points, depth: float = 1.0) -> Points:
        """Points on the face, shifted as the head turns and nods: more with larger ``depth``."""
        return points + depth * np.array([self.turn, self.nod])

    def _pixels(self, points: Points) -> list[tuple[float, float]]:
        """Points (M, 2) in pixels of the canvas."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        turned = points @ np.array([[cos, sin], [-sin, cos]])
        placed = _OVERSAMPLING * (self.centre + self.scale * turned)
        return [(float(x), float(y)) for x, y in placed]

    def _polygon(self, points: Points, colour: Colour) -> None:
        self._pen.polygon(self._pixels(points), fill=_rgb(colour))

    def _line(self, points: Points, width: float, colour: Colour) -> None:
        thick = max(1, round(_OVERSAMPLING * self.scale * width))
        self._pen.line(self._pixels(points), fill=_rgb(colour), width=thick, joint="curve")


def _superellipse(a: float, b: float, power: float, n_points: int = 48) -> Points:
    """Points (n_points, 2) of the curve |x / a|^power + |y / b|^power = 1."""
    angles = np.linspace(0, 2 * np.pi, n_points, endpoint=False)
    cos, sin = np.cos(angles), np.sin(angles)
    x = a * np.sign(cos) * np.abs(cos) ** (2 / power)
    return np.stack([x, b * np.sign(sin) * np.abs(sin) ** (2 / power)], axis=1)


def _moved(points: Points, x: float, y: float) -> Points:
    """Points (M, 2), moved by (x, y)."""
    moved: Points = points + np.array([x, y])
    return moved


def _arc(a: float, b: float, start: float, end: float) -> Points:
    """Points (30, 2) of an ellipse between two angles."""
    angles = np.linspace(start, end, 30)
    return np.stack([a * np.cos(angles), b * np.sin(angles)], axis=1)


def _mixed(chance: np.random.Generator, colours: tuple[tuple[int, int, int], ...]) -> Colour:
    """A random colour between two neighbours in a list."""
    position = float(chance.uniform(0, len(colours) - 1))
    first = min(int(position), len(colours) - 2)
    part = position - first
    mixed: Colour = (1 - part) * np.array(colours[first]) + part * np.array(colours[first + 1])
    return mixed


def _rgb(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in np.clip(colour, 0, 255))
    return red, green, blue
