# SPDX-License-Identifier: Apache-2.0
"""Take steps back, all of them, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
import types
from typing import Any

from nova import objects
from oslo_log import log as logging

LOG = logging.getLogger(__name__)


def attempt(
    instance: objects.Instance, action: Callable[..., Any], *args: Any,
) -> None:
    """Do something whose failure is logged and stops nothing.

    :param instance: to which it is done
    :param action: what
    :param args: with what
    """
    try:
        action(*args)
    except Exception:
        LOG.exception('%s failed; going on',
                      getattr(action, '__qualname__', action),
                      instance=instance)


class Undo:
    """Steps back, taken in reverse order when the ``with`` block fails.

    A step that fails is logged; the rest are taken, and the error that
    began it is the one that is raised.

    :param instance: what the steps are about
    """

    def __init__(self, instance: objects.Instance) -> None:
        self._instance = instance
        self._steps: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def add(self, action: Callable[..., Any], *args: Any) -> None:
        """Register a step back, before the step it takes back."""
        self._steps.append((action, args))

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        if kind is None:
            return
        for action, args in reversed(self._steps):
            attempt(self._instance, action, *args)
