"""Blocks of rows that fit the cache: the one place that knows what a good block is.

A kernel that makes several passes over a large array is limited by memory traffic. Run block by block, each
pass but the first finds its numbers in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

BLOCK_BYTES = 1 << 20  # about what a core's second-level cache holds


def row_blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Cut `rows` rows into consecutive slices of about `BLOCK_BYTES`, of one row at least.

    >>> list(row_blocks(5, BLOCK_BYTES // 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, BLOCK_BYTES // max(row_bytes, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
