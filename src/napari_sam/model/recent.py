"""A few values that were asked for last, for what is costly to compute and soon asked for again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from torch import Tensor

__all__ = ["Recent", "weights_version"]

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Remembers the values that were asked for last. Threads may share it.

    A copy of it is empty: what a module remembers belongs to its own weights.

    Parameters
    ----------
    size : int
        How many values stay.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made where it is not known.

        It is made outside the lock, so that others need not wait: at worst it is made twice.
        """
        with self._lock:
            known = self._values.get(key)
            if known is not None:
                self._values.move_to_end(key)
                return known
        made = make()
        with self._lock:
            self._values[key] = made
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return made

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[type[Recent[Value]], tuple[int]]:
        return type(self), (self._size,)


def weights_version(weights: Iterable[Tensor]) -> tuple[tuple[int, int], ...]:
    """Tell weights from other or changed ones: where each lies, and how often it was written.

    Whoever keeps this as a key keeps the weights too, or others may come to lie there.
    """
    return tuple(
        (weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights
    )
