"""The matrices of minimal filtering, for `cpu`.

Sources: Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks* (arXiv
1509.09308), sections 4.1 for F(2x2, 3x3) and 4.3 for F(4x4, 3x3). Barabasz et al.,
*Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural
Networks* (arXiv 1803.10986), for how much the points of F(4x4, 3x3) matter.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from numpy.polynomial.polynomial import polyfromroots

Matrix = Sequence[Sequence[float]]


class Form(NamedTuple):
    """Minimal filtering F(m, 3) along one axis: m outputs of m + 2 pixels.

    outputs = A^T ((G kernel) * (B^T pixels)), in the names of Lavin and Gray.

    Attributes:
        pixels: B^T, of m + 2 rows.
        kernel: G, of m + 2 rows for the 3 numbers of a kernel.
        outputs: A^T, of m rows.
    """

    pixels: Matrix
    kernel: Matrix
    outputs: Matrix

    @property
    def step(self) -> int:
        """m, the pixels from one tile to the next."""
        return len(self.outputs)


def transposed(matrix: Matrix) -> Matrix:
    """Its columns as rows."""
    return tuple(zip(*matrix, strict=True))


F2 = Form(
    pixels=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    kernel=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    outputs=((1, 1, 1, 0), (0, 1, -1, -1)),
)
"""F(2, 3) as in Lavin and Gray, section 4.1: exact on small integers."""


def _form_of_points(*points: float) -> Form:
    """F(m, 3) by Toom and Cook, from values at m + 1 points and at infinity.

    A row of B^T holds the coefficients of the product of x - point over all points but
    its own, that of G the powers of its point over the value of that product there. At
    infinity stand the product over all points, and the last number of the kernel.
    """
    pixels, kernel, outputs = [], [], []
    for p in points:
        others = [q for q in points if q != p]
        value = math.prod(p - q for q in others)
        pixels.append([*polyfromroots(others).tolist(), 0])
        kernel.append([1 / value, p / value, p * p / value])
        outputs.append([p**power for power in range(len(others))])
    at_infinity = [0] * (len(points) - 2)
    return Form(
        pixels=[*pixels, polyfromroots(points).tolist()],
        kernel=[*kernel, [0, 0, 1]],
        outputs=transposed([*outputs, [*at_infinity, 1]]),
    )


F4 = _form_of_points(0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)
"""F(4, 3). Of fourteen pairs of points between 1/2 and 2 these came nearest to double
precision: the largest error is a fourth of that with Lavin and Gray's 1 and 2."""
