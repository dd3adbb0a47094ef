# SPDX-License-Identifier: Apache-2.0
"""Undo the steps of an operation that failed."""

from __future__ import annotations

from collections.abc import Callable
import types
from typing import Any
from typing import Protocol

from oslo_log import log as logging

LOG = logging.getLogger(__name__)


class Named(Protocol):
    """An instance or VM, whose UUID is in what is logged about it."""

    @property
    def uuid(self) -> str:
        """Its UUID."""


def attempt(
    instance: Named, action: Callable[..., Any], *args: Any,
) -> bool:
    """Call a function; log an exception instead of raising it.

    :param instance: the instance or VM that it is about.
    :param action: the function.
    :param args: its arguments.
    :returns: whether it raised none.
    """
    try:
        action(*args)
    except Exception:
        LOG.exception('%s failed; going on',
                      getattr(action, '__qualname__', action),
                      instance=instance)
        return False
    return True


class Undo:
    """Runs undo steps in reverse order if the ``with`` block fails.

    If an undo step fails, that is logged and the others still run, except
    after one that the others depend on. The error of the block is the one
    that is raised.

    :param instance: the instance or VM that the steps are about.
    """

    def __init__(self, instance: Named) -> None:
        self._instance = instance
        self._steps: list[
            tuple[bool, Callable[..., Any], tuple[Any, ...]]] = []

    def add(self, action: Callable[..., Any], *args: Any) -> None:
        """Register an undo step; call this before the step that it undoes."""
        self._steps.append((False, action, args))

    def add_first(self, action: Callable[..., Any], *args: Any) -> None:
        """Register an undo step on which the earlier registered ones depend.

        If it fails, they do not run.
        """
        self._steps.append((True, action, args))

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        if kind is None:
            return
        for needed, action, args in reversed(self._steps):
            if not attempt(self._instance, action, *args) and needed:
                LOG.error('What was made before is left as it is',
                          instance=self._instance)
                return
