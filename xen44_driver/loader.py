# SPDX-License-Identifier: Apache-2.0
"""Make ``compute_driver = xen44.Xen44Driver`` find this package.

Nova imports ``nova.virt.<compute_driver>`` and has no other way to load a
driver. A package cannot add a module to ``nova.virt`` from outside: Nova does
not extend that package's path, and files installed as ``nova/virt/...`` break
an editable installation of Nova. So the wheel carries a one-line ``.pth``
file, which Python runs when it starts. It adds an import finder for one module
name, ``nova.virt.xen44``. The attributes of that module are the drivers that
are registered in the entry point group ``xen44_driver.compute``.

Every Python process of the environment runs :func:`install`, so this module
imports almost nothing and does its work when Nova imports the driver.
"""

from __future__ import annotations

import sys

# Not typing's: that takes milliseconds to import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

MODULE = 'nova.virt.xen44'
NAMESPACE = 'xen44_driver.compute'

#: Attributes of nova.virt.xen44 -> entry points of NAMESPACE.
DRIVERS = {'Xen44Driver': 'libxl'}


def _load_driver(attribute: str) -> type:
    """Return a driver class; this is ``nova.virt.xen44``'s ``__getattr__``.

    :param attribute: the attribute's name, such as ``Xen44Driver``.
    :raises AttributeError: no driver has this name.
    """
    if attribute not in DRIVERS:
        raise AttributeError(
            f'module {MODULE!r} has no attribute {attribute!r}; it has: '
            f'{", ".join(sorted(DRIVERS))}')
    from stevedore import driver  # noqa: PLC0415 (only when asked)

    # For a driver that cannot be imported, stevedore alone would report "no
    # driver found" and hide the reason.
    def failed(manager: Any, entry_point: Any, error: BaseException) -> None:
        raise error

    manager: Any = driver.DriverManager(
        NAMESPACE, DRIVERS[attribute], invoke_on_load=False,
        on_load_failure_callback=failed)
    found: type = manager.driver
    return found


class Finder:
    """Import finder for ``nova.virt.xen44`` and no other module."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: object = None, target: object = None,
    ) -> ModuleSpec | None:
        if fullname != MODULE:
            return None
        from importlib import machinery  # noqa: PLC0415 (see above)

        return machinery.ModuleSpec(
            MODULE, cls,  # type: ignore[arg-type]
            origin='xen44_driver.loader')

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Return None, so that Python creates an ordinary module."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        module.__doc__ = 'The compute drivers of the package xen44_driver.'
        module.__dict__['__getattr__'] = _load_driver


def install() -> None:
    """Make ``nova.virt.xen44`` importable; safe to call again."""
    if Finder not in sys.meta_path:
        sys.meta_path.append(Finder)
