"""Save and load: named arrays in a file, as .npz or .safetensors.

Neither format can carry code: nothing is pickled when it is written or unpickled when it is read, so a file
from a stranger can be refused but cannot run anything.
"""

from __future__ import annotations

import os
import secrets
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from .tensor import Array, Tensor

State = dict[str, Array]


def save(path: str | os.PathLike[str], module_or_dict: Any) -> None:
    """Write the state of a module or optimiser, or a dict of arrays, to a .npz or .safetensors file.

    The file is written under another name beside `path`, synced to the disk and renamed, so that `path` is
    always a whole file: the new one or, if saving fails or is interrupted, the old one. Equal arrays give
    equal bytes.

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
        For another suffix, or a name that the format cannot hold.
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
    target = Path(os.path.realpath(path))  # a link stays a link: what it points to is replaced
    if not target.parent.is_dir():
        raise FileNotFoundError(f"save: there is no directory {target.parent}; create it first")
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file, state)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike[str]) -> State:
    """Read a .npz or .safetensors file: a dict of its names and arrays, with their dtypes and shapes.

    Give the result to `load_state_dict` of a module or an optimiser.

    Raises
    ------
    ValueError
        For another suffix, and for a file that is damaged, cut short or holds pickled objects.
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
    with open(path, "rb") as file:  # an error of the operating system names the path itself
        try:
            return read(file)
        except ImportError:
            raise
        except Exception as error:  # a damaged or hostile file can make a parser raise anything
            raise ValueError(
                f"load: cannot read {os.fspath(path)} ({type(error).__name__}: {error}). Only numbers are read, never "
                "pickled objects; if the file should hold numbers, it is damaged, cut short or of another format"
            ) from error


def check_names(wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, Any], what: str) -> None:
    """Raise one ValueError that lists every missing name, unexpected name and wrong shape; `what` opens it.

    >>> import numpy as np
    >>> from tinygrad_sm.io import check_names
    >>> check_names({"bias": (3,), "weight": (3, 4)}, {"weight": np.ones((4, 4)), "w": 1.0}, "Linear")
    Traceback (most recent call last):
    ValueError: Linear: the names and shapes do not fit
      missing: bias
      unexpected: w
      wrong shape: weight: expected (3, 4), file has (4, 4)
    """
    shapes = {name: np.shape(value) for name, value in given.items()}
    missing = [name for name in wanted if name not in shapes]
    unexpected = [str(name) for name in shapes if name not in wanted]
    wrong = [
        f"{name}: expected {tuple(shape)}, file has {shapes[name]}"
        for name, shape in wanted.items()
        if name in shapes and shapes[name] != tuple(shape)
    ]
    problems = [f"\n  missing: {', '.join(missing)}"] if missing else []
    problems += [f"\n  unexpected: {', '.join(unexpected)}"] if unexpected else []
    problems += [f"\n  wrong shape: {line}" for line in wrong]
    if problems:
        raise ValueError(f"{what}: the names and shapes do not fit{''.join(problems)}")


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


def _write_npz(file: IO[bytes], state: State) -> None:
    # np.savez takes names as keyword arguments, so that an array called "file" would collide with its own
    # argument; and it stamps the time, so that equal arrays would give different bytes.
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in state.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            if info.filename != f"{name}.npy":
                raise ValueError(f"save: a .npz file cannot hold the name {name!r}; rename it or use .safetensors")
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read_npz(file: IO[bytes]) -> State:
    # np.load would mistake the name "a.npy" for the file "a.npy", which is that of the name "a".
    state = {}
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename:
                raise ValueError(f"{name!r} is not an array")
            with archive.open(info) as member:
                state[name] = np.lib.format.read_array(member, allow_pickle=False)
                if member.read(1):  # reading to the end also checks the checksum
                    raise ValueError(f"{name!r} is longer than its shape says")
    return state


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


def _read_safetensors(file: IO[bytes]) -> State:
    return {name: array.copy() for name, array in _safetensors().load(file.read()).items()}


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "a .safetensors file needs the package safetensors: pip install safetensors; "
            "or use a name that ends in .npz, which needs nothing"
        ) from None
    return safetensors.numpy


Format = tuple[Callable[[IO[bytes], State], None], Callable[[IO[bytes]], State]]
FORMATS: dict[str, Format] = {
    ".npz": (_write_npz, _read_npz),
    ".safetensors": (_write_safetensors, _read_safetensors),
}


def _format(path: str | os.PathLike[str], caller: str) -> Format:
    """Return how to write and how to read the format that the suffix of `path` names."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"{caller}: the name must end in .npz or .safetensors, not {suffix!r} as in {os.fspath(path)}")
    return FORMATS[suffix]
