"""Where kernels run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

from gtasr_video.device import current

P = ParamSpec("P")
T = TypeVar("T")


def where_tensors_are(launch: Callable[P, T]) -> Callable[P, T]:
    """Let `launch` run on the GPU that its first tensor lies on: Triton takes the current one, whatever it is given."""

    @functools.wraps(launch)
    def there(*arguments: P.args, **options: P.kwargs) -> T:
        with current(next(_tensors(arguments)).device):
            return launch(*arguments, **options)

    return there


def _tensors(values: tuple[Any, ...]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from _tensors(value)
