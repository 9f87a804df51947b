"""Save and load: named arrays in a file, as .npz or .safetensors.

Neither format can carry code: nothing is pickled when it is written or unpickled when it is read, so a file
from a stranger can be refused but cannot run anything. Nor can it fill the memory: see `load`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import npz
from .atomic import replacing
from .npz import State, TooLargeError
from .tensor import Tensor
from .text import visible

LIMIT, RATIO = 128 * 2**20, 20  # bytes that any file may unpack to, and how many times its own size


def save(path: str | os.PathLike[str], module_or_dict: Any) -> None:
    """Write the state of a module or optimiser, or a dict of arrays, to a .npz or .safetensors file.

    The file is written under another name beside `path`, synced to the disk and renamed, so that `path` is
    always a whole file: the new one or, if saving fails or the process is killed, the old one. Equal arrays
    give equal bytes.

    Parameters
    ----------
    path : str or path
        The suffix chooses the format: `.npz` is NumPy's, `.safetensors` needs the package of that name.
    module_or_dict : object with a `state_dict()`, or mapping
        Names to Tensors, arrays or numbers, of any shape and of floats, integers or bools. Non-native byte
        order is kept by .npz; .safetensors is little-endian and gives native arrays back.

    Raises
    ------
    ValueError
        For another suffix, a name that the format cannot hold, or a `path` that is a folder or a device.
    TypeError
        For names that are not strings, values that are not numbers, and dtypes such as object.
    FileNotFoundError
        If the directory does not exist.
    ImportError
        If the package `safetensors` is needed and not installed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from tinygrad_sm.io import load, save
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save(f"{directory}/weights.npz", {"layer.weight": np.ones((2, 3), np.float32), "step": 7})
    ...     state = load(f"{directory}/weights.npz")
    >>> state["layer.weight"].shape, int(state["step"])
    ((2, 3), 7)
    """
    write, _ = _format(path, "save")
    state = _as_state(module_or_dict)
    with replacing(path) as file:
        write(file, state)


def load(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> State:
    """Read a .npz or .safetensors file: a dict of its names and arrays, with their dtypes and shapes.

    Give the result to `load_state_dict` of a module or an optimiser.

    Parameters
    ----------
    path : str or path
        A regular file; a link to one is followed.
    max_bytes : int, optional
        What the arrays may take together. By default 20 times the size of the file, or 128 MiB if that is more:
        only a compressed .npz can hold more, and a hostile one a thousand times its size.

    Raises
    ------
    ValueError
        For another suffix, a file that is damaged, cut short, encrypted, or holds anything but numbers (pickled
        objects, text), and one whose arrays would take more than `max_bytes`.
    OSError
        If the file cannot be opened (FileNotFoundError if it does not exist).
    ImportError
        If the package `safetensors` is needed and not installed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from tinygrad_sm.io import load, save
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save(f"{directory}/run.npz", {"a/b": np.arange(3)})
    ...     print(load(f"{directory}/run.npz"))
    {'a/b': array([0, 1, 2])}
    """
    _, read = _format(path, "load")
    shown = visible(os.fspath(path))
    if os.path.exists(path) and not os.path.isfile(path):  # to open a pipe would wait for its other end
        raise ValueError(f"load: {shown} is not a regular file; it must be one that save, or NumPy, has written")
    with open(path, "rb") as file:  # an error of the operating system names the path itself
        size = os.fstat(file.fileno()).st_size
        try:
            return read(file, size, max(LIMIT, RATIO * size) if max_bytes is None else max_bytes)
        except (ImportError, MemoryError):
            raise
        except TooLargeError as error:
            raise ValueError(f"load: {shown} {error}") from None
        except Exception as error:  # a damaged or hostile file can make a parser raise anything
            raise ValueError(
                f"load: cannot read {shown} ({type(error).__name__}: {visible(error, limit=400)}). Only numbers are "
                "read, never pickled objects; if the file should hold numbers, it is damaged, cut short or of "
                "another format"
            ) from error


def _as_state(source: Any) -> State:
    """Return names and arrays of a module, an optimiser or a dict, after checking every one."""
    state = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(state, Mapping):
        raise TypeError(f"save takes a module, an optimiser or a dict of arrays, not {type(source).__name__}")
    arrays = {}
    for name, value in state.items():
        if not isinstance(name, str):
            raise TypeError(f"save: names must be strings, not {name!r}")
        if not isinstance(value, (Tensor, np.ndarray, np.generic, bool, int, float)):
            raise TypeError(f"save: {name!r} must be a Tensor, an array or a number, not {type(value).__name__}")
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"save: {name!r} has dtype {array.dtype}; only floats, integers and bools are saved")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"save: the name {name!r} is not valid Unicode text") from None
        arrays[name] = array
    return arrays


SAFE_DTYPES = {"bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))}
SAFE_DTYPES |= {"float16", "float32", "float64"}


def _write_safetensors(file: IO[bytes], state: State) -> None:
    for name, array in state.items():
        if name == "__metadata__":
            raise ValueError("save: '__metadata__' is reserved in .safetensors; rename it or use .npz")
        if array.dtype.name not in SAFE_DTYPES:
            raise TypeError(f"save: .safetensors cannot hold {array.dtype}, the dtype of {name!r}; use .npz")
    native = {name: np.asarray(a, a.dtype.newbyteorder("="), order="C") for name, a in state.items()}
    file.write(_safetensors().save(native))


def _read_safetensors(file: IO[bytes], size: int, limit: int) -> State:
    package, length = _safetensors(), int.from_bytes(file.read(8), "little")
    if size > limit:
        raise TooLargeError(f"has {size:,} bytes; to read them all the same, pass max_bytes={size}")
    if length > size - 8 or file.read(1) != b"{":  # before the whole file is read: it may be sparse, and endless
        raise ValueError(f"there is no header of {length:,} bytes in the {size:,} of the file")
    file.seek(0)
    content = file.read(size)
    try:
        arrays = package.load(content)
    except KeyError as error:
        raise ValueError(f"NumPy has no dtype {error}; convert it to F32 where the file was made") from None
    json.loads(content[8 : 8 + length], object_pairs_hook=_refuse_repeated)  # the package takes the last one
    return {name: a if a.flags.writeable else a.copy() for name, a in arrays.items()}


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice in the header")


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "a .safetensors file needs the package safetensors: pip install safetensors; "
            "or use a name that ends in .npz, which needs nothing"
        ) from None
    return safetensors.numpy


Format = tuple[Callable[[IO[bytes], State], None], Callable[[IO[bytes], int, int], State]]
FORMATS: dict[str, Format] = {
    ".npz": (npz.write, npz.read),
    ".safetensors": (_write_safetensors, _read_safetensors),
}


def _format(path: str | os.PathLike[str], caller: str) -> Format:
    """Return how to write and how to read the format that the suffix of `path` names."""
    suffix, shown = Path(path).suffix.lower(), visible(os.fspath(path))
    if suffix not in FORMATS:
        raise ValueError(f"{caller}: the name must end in .npz or .safetensors, not {suffix!r} as in {shown}")
    if "\0" in os.fspath(path):
        raise ValueError(f"{caller}: no file can have a NUL in its name, as in {shown}")
    return FORMATS[suffix]
