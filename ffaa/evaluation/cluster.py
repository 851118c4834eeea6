"""The processes that share an evaluation, and the one moment at which they agree before each goes its own way.

Nobody waits for anybody after that: a rank that ends early, or dies, holds up no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ffaa.runtime import EXIT_INPUT, Rank
from ffaa.types import InputError

T = TypeVar("T")


ALONE = Rank()


def in_step(rank: Rank, each: Callable[[], None], first: Callable[[], T]) -> T:
    """Every rank does ``each``; when all have, rank 0 does ``first`` and every rank gets what it returned.

    Raises:
        InputError: on rank 0, where ``each`` of any rank or ``first`` raised one; the others end quietly, with the exit
            code of bad input.
    """
    if rank.count == 1:
        each()
        return first()
    from torch import distributed

    # gloo, also beside GPUs: what is said is a few strings.
    distributed.init_process_group("gloo", rank=rank.index, world_size=rank.count)
    try:
        errors: list[str | None] = [None] * rank.count
        distributed.all_gather_object(errors, _error_of(each))
        _refuse(rank, next((error for error in errors if error), None))
        said: list[Any] = [None, None]
        if rank.index == 0:
            try:
                said = [first(), None]
            except InputError as error:
                said = [None, str(error)]
        distributed.broadcast_object_list(said, src=0)
        _refuse(rank, said[1])
        result: T = said[0]
        return result
    finally:
        distributed.destroy_process_group()


def _error_of(act: Callable[[], None]) -> str | None:
    try:
        act()
    except InputError as error:
        return str(error)
    return None


def _refuse(rank: Rank, error: str | None) -> None:
    if error is None:
        return
    if rank.index == 0:
        raise InputError(error)
    raise SystemExit(EXIT_INPUT)
