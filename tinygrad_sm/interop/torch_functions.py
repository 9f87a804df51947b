"""The functions of PyTorch's backward pass: their order, their names here, what they saved, the gradients at them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np

from ..tensor import Array

NAMES = {
    "addmm": "linear", "linear": "linear", "mm": "matmul", "bmm": "matmul", "mv": "matmul", "dot": "matmul",
    "view": "reshape", "unsafeview": "reshape", "reshapealias": "reshape", "squeeze": "reshape",
    "unsqueeze": "reshape", "clone": "reshape", "alias": "reshape", "t": "transpose", "permute": "transpose",
    "select": "getitem", "slice": "getitem", "index": "getitem", "gather": "getitem", "expand": "broadcast_to",
    "maskedfill": "where", "safesoftmax": "softmax",
    "nllloss": "nll_loss", "nllloss2d": "nll_loss", "logsoftmax": "log_softmax",
    "nativelayernorm": "layer_norm", "clamp": "clip", "clampmin": "clip", "cat": "concatenate", "tocopy": "astype",
    "scaleddotproductflashattentionforcpu": "attention", "scaleddotproductflashattention": "attention",
    "scaleddotproductefficientattention": "attention", "embedding": "embedding",
}  # fmt: skip
SAVED = {
    "self": 0, "input": 0, "mat1": 1, "mat2": 1, "other": 1, "query": 0, "key": 1, "value": 2, "target": 1,
    "indices": 1, "weight": 1,
}  # fmt: skip
RESULTS = ("_saved_result", "_saved_output")
REDUCTIONS = {0: "none", 1: "mean", 2: "sum"}


def array(x: Any) -> Array:
    """Return a tensor of PyTorch as an array; bfloat16, which NumPy has not, as float32."""
    x = x.detach().cpu()
    return np.asarray(x.float().numpy() if str(x.dtype) == "torch.bfloat16" else x.numpy())


def ordered(root: Any) -> list[Any]:
    """Return all functions behind a loss: each after its arguments, else in the order in which they were made."""
    waits: dict[Any, set[Any]] = {}
    users: dict[Any, list[Any]] = {}
    stack = [] if root is None else [root]
    while stack:
        fn = stack.pop()
        if fn not in waits:
            waits[fn] = {before for before, _ in fn.next_functions if before is not None}
            stack += waits[fn]
            for before in waits[fn]:
                users.setdefault(before, []).append(fn)
    ready, order = [(fn._sequence_nr(), i, fn) for i, fn in enumerate(waits) if not waits[fn]], []
    heapify(ready)
    while ready:
        fn = heappop(ready)[2]
        order.append(fn)
        for user in users.get(fn, ()):
            waits[user].discard(fn)
            if not waits[user]:
                heappush(ready, (user._sequence_nr(), len(order), user))
    return order


def torch_name(fn: Any) -> str:
    """Return the name of a function without what PyTorch puts around it: "logsoftmax" of "LogSoftmaxBackward0"."""
    return re.sub(r"Backward\d*$", "", fn.name().rpartition("::")[2]).lower()


def our_op(fn: Any) -> str:
    """Return the name of the op of this library that means the same, else PyTorch's."""
    return NAMES.get(torch_name(fn), torch_name(fn))


def fused_losses(functions: Iterable[Any]) -> dict[Any, list[Any]]:
    """Return each nll_loss of a log_softmax that nothing else uses, and what leads there: cross_entropy in parts."""
    users: dict[Any, int] = {}
    for fn in functions:
        for before, _ in fn.next_functions:
            users[before] = users.get(before, 0) + 1
    found = {}
    for fn in functions:
        path, inner = list[Any](), fn.next_functions[0][0] if our_op(fn) == "nll_loss" else None
        while inner is not None and users[inner] == 1 and our_op(inner) in ("reshape", "log_softmax"):
            path.append(inner)
            if our_op(inner) == "log_softmax":
                ndim = len(inner._input_metadata[0].shape)
                if signed(inner._saved_dim) % ndim == min(1, ndim - 1):  # the class axis of nll_loss
                    found[fn] = path
                break
            inner = inner.next_functions[0][0]
    return found


def gradients_at(torch: Any, loss: Any, functions: list[Any]) -> dict[Any, Array]:
    """Return the gradient of what each function's op returned, and of each leaf."""
    leaves, found = [fn for fn in functions if hasattr(fn, "variable")], {}
    if not leaves:
        return {}

    def watch(fn: Any) -> Any:
        def hook(gradients: Any) -> None:
            if gradients[0] is not None:
                found[fn] = array(gradients[0])

        return fn.register_prehook(hook)

    handles = [watch(fn) for fn in functions if not hasattr(fn, "variable")]
    try:
        shares = torch.autograd.grad(loss, [fn.variable for fn in leaves], retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        raise ValueError(
            "the graph of this loss of PyTorch cannot be read; backward() frees it, so call this before, or "
            f"loss.backward(retain_graph=True) ({str(error).splitlines()[0]})"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return found | {fn: array(g) for fn, g in zip(leaves, shares, strict=True) if g is not None}


def kept(fn: Any, name: str) -> Any:
    """Return what a function saved under a name; None if nothing."""
    try:
        return getattr(fn, name, None)
    except RuntimeError:  # freed
        return None


def saved_at(fn: Any, position: int) -> Any:
    """Return what a function saved of the argument at a place."""
    for name, place in SAVED.items():
        place = 0 if name == "mat1" and torch_name(fn) == "addmm" else place
        found = kept(fn, f"_saved_{name}") if place == position else None
        if found is not None and not (name == "weight" and our_op(fn) in ("nll_loss", "layer_norm")):
            return found
    return kept(fn, "_saved_exponent") if position == 1 else None


def places(fn: Any) -> list[int]:
    """Return the places among the arguments of which a function saved something."""
    return [i for i in range(3) if saved_at(fn, i) is not None]


def values_saved(functions: Iterable[Any]) -> dict[Any, Array]:
    """Return the values that functions saved: of their own results, and of their arguments."""
    found: dict[Any, Array] = {}
    for fn in functions:
        result = next((r for name in RESULTS if (r := kept(fn, name)) is not None), None)
        if result is not None and not hasattr(fn, "variable"):
            found[fn] = array(result)
        nexts = [before for before, _ in fn.next_functions]
        if torch_name(fn) == "addmm":
            nexts = [nexts[1], nexts[2]]
        for i, before in enumerate(nexts[:3]):
            saved = saved_at(fn, i) if before is not None and before not in found else None
            if (
                saved is not None
                and hasattr(saved, "detach")
                and tuple(saved.shape) == tuple(before._input_metadata[0].shape)
            ):
                found[before] = array(saved)
    return found


def unknown(fn: Any) -> Array:
    """Return zeros that take no memory, of the shape and dtype of what a function's op returned and nobody kept."""
    data = fn._input_metadata[0]
    dtype = str(data.dtype).removeprefix("torch.")
    return np.broadcast_to(np.zeros((), dtype if dtype in ("float16", "float64") else "float32"), tuple(data.shape))


def signed(n: int) -> int:
    """Return a number that PyTorch keeps without its sign: −1 of 2⁶⁴ − 1."""
    return n - 2**64 if n >= 2**63 else n


def options(fn: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the options of an op, by the names that they have here."""
    op, name = our_op(fn), torch_name(fn)
    if op in ("softmax", "log_softmax"):
        return {"axis": signed(fn._saved_dim)}
    if op in ("reshape", "broadcast_to"):
        return {"shape": shape}
    if op == "transpose":
        axes = list(range(len(shape)))
        if name == "permute":
            axes = [signed(n) % len(shape) for n in fn._saved_dims]
        else:
            i, j = (0, 1) if name == "t" else (signed(fn._saved_dim0), signed(fn._saved_dim1))
            axes[i], axes[j] = axes[j], axes[i]
        return {"axes": tuple(axes)}
    if op == "nll_loss":
        return {
            "axis": 1 if name == "nllloss2d" else -1, "reduction": REDUCTIONS[fn._saved_reduction],
            "ignore_index": signed(fn._saved_ignore_index), "weight": kept(fn, "_saved_weight"),
        }  # fmt: skip
    if op == "attention":
        mask, scale = kept(fn, "_saved_attn_mask"), kept(fn, "_saved_scale")
        scale = kept(fn, "_saved_query").shape[-1] ** -0.5 if scale is None else float(scale)
        return {
            "causal": bool(kept(fn, "_saved_is_causal")), "scale": scale,
            "mask": None if mask is None else array(mask),
        }  # fmt: skip
    if op in ("sum", "mean"):
        dims = kept(fn, "_saved_dim")
        return {"axis": None if dims is None else tuple(signed(n) for n in dims)}
    return {}


def source_line(fn: Any) -> str:
    """Return the user's line, which PyTorch notes under torch.autograd.detect_anomaly()."""
    for frame in reversed(fn.metadata.get("traceback_", [])):
        match = re.match(r'\s*File "(.+)", line (\d+), in .*\n\s*(.*)', frame)
        if match and f"{'torch'}/" not in match[1].replace("\\", "/"):
            return f"{Path(match[1]).name}:{match[2]}: {match[3]}"
    return ""
