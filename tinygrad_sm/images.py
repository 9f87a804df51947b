"""Pictures with labels: scikit-learn's digits, and Fashion-MNIST where it is installed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .idx import read_idx
from .tensor import Array
from .text import visible

FOLDER = "TINYGRAD_SM_FASHION_MNIST"  # the environment variable that names the folder of Fashion-MNIST
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where the package dataset-fashion-mnist puts it
CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def digits(held_out: float = 0.2, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Return scikit-learn's 1,797 pictures of handwritten digits: x_train, y_train, x_test, y_test.

    Pictures are float32 in [0, 1] of shape (N, 64), which are 8 × 8 pixels; labels are int64 of shape (N,). The
    share `held_out`, chosen at random by `seed`, is for the test. Source: `sklearn.datasets.load_digits`. Raises
    ImportError if scikit-learn is not installed.

    >>> from tinygrad_sm.data import digits
    >>> x_train, y_train, x_test, y_test = digits()  # doctest: +SKIP
    >>> x_train.shape, x_test.shape  # doctest: +SKIP
    ((1438, 64), (359, 64))
    """
    if not 0 < held_out < 1:
        raise ValueError(f"digits: held_out is a share between 0 and 1, not {held_out}")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("digits: needs scikit-learn: pip install scikit-learn") from None
    pixels, labels = load_digits(return_X_y=True)
    x, y = (pixels / 16).astype(np.float32), labels.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = np.split(order, [round(held_out * len(x))])
    return x[train], y[train], x[test], y[test]


def fashion_mnist(folder: str | os.PathLike[str] | None = None) -> tuple[Array, Array, Array, Array]:
    """Return the 70,000 pictures of clothes of Fashion-MNIST: x_train, y_train, x_test, y_test.

    Pictures are float32 in [0, 1] of shape (60000, 784) and (10000, 784), which are 28 × 28 pixels; labels are int64
    of shape (N,), from 0 to 9: T-shirt/top, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot.
    The split is that of its authors. Source: Xiao, Rasul and Vollgraf (2017), Fashion-MNIST; MIT licence.

    Parameters
    ----------
    folder : str or path, optional
        Where the four files are, `train-images-idx3-ubyte` and so on, packed (`.gz`) or not. By default the folder that
        the environment variable TINYGRAD_SM_FASHION_MNIST names, or else where Debian's package puts them.

    Raises
    ------
    FileNotFoundError
        If they are not there; the message says how to get them.
    ValueError
        If a file is damaged, or pictures and labels do not fit together.

    Examples
    --------
    >>> from tinygrad_sm.data import fashion_mnist
    >>> x_train, y_train, x_test, y_test = fashion_mnist()  # doctest: +SKIP
    >>> x_train.shape, x_test.shape  # doctest: +SKIP
    ((60000, 784), (10000, 784))
    """
    place = Path(folder if folder is not None else os.environ.get(FOLDER) or DEBIAN)
    return (*_pictures(place, "train"), *_pictures(place, "t10k"))


def _pictures(folder: Path, part: str) -> tuple[Array, Array]:
    """Read the pictures (N, 784) of a part, and their labels (N,)."""
    x, y = (read_idx(_found(folder, f"{part}-{name}-ubyte")) for name in ("images-idx3", "labels-idx1"))
    if x.dtype != np.uint8 or y.dtype != np.uint8 or x.shape != (y.size, 28, 28) or y.ndim != 1 or not y.size:
        raise ValueError(
            f"fashion_mnist: {part} in {visible(folder)} has pictures {x.dtype}{x.shape} and labels "
            f"{y.dtype}{y.shape}; they should be uint8, (N, 28, 28) and (N,)"
        )
    if y.max() >= len(CLASSES):
        raise ValueError(f"fashion_mnist: {part} in {visible(folder)} has the label {y.max()}; they go from 0 to 9")
    return x.reshape(len(x), -1).astype(np.float32) / 255, y.astype(np.int64)


def _found(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise FileNotFoundError(
        f"fashion_mnist: there is no {name} or {name}.gz in {visible(folder)}. On Debian and Ubuntu install it with "
        "`apt-get install dataset-fashion-mnist`; without root, `apt-get download dataset-fashion-mnist` and "
        "`dpkg -x dataset-fashion-mnist_*.deb DIR`, then name the folder: fashion_mnist("
        f"'DIR{DEBIAN}'), or the environment variable {FOLDER}"
    )
