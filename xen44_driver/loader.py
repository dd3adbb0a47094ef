# SPDX-License-Identifier: Apache-2.0
"""How Nova's ``compute_driver = xen44.Xen44Driver`` finds this package.

Nova imports ``nova.virt.<compute_driver>`` and offers no other way in. A
package cannot add a module to ``nova.virt`` from outside: nova does not
extend its path, and files shipped as ``nova/virt/...`` break an editable
Nova. So our wheel carries a one-line ``.pth`` file, which Python runs at
start, that adds a finder for exactly one module name: ``nova.virt.xen44``.
Its attributes are the drivers registered under the entry point group
``xen44_driver.compute``.

Every Python started in that environment runs :func:`install`: this module
imports next to nothing and does its work when Nova asks.
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
    """``__getattr__`` of ``nova.virt.xen44``.

    :param attribute: what was asked of the module, e.g. ``Xen44Driver``
    :returns: the driver class
    :raises AttributeError: it is no driver's name
    """
    if attribute not in DRIVERS:
        raise AttributeError(
            f'module {MODULE!r} has no attribute {attribute!r}; it has: '
            f'{", ".join(sorted(DRIVERS))}')
    from stevedore import driver  # noqa: PLC0415 (only when asked)

    # stevedore alone would say "no driver found" of a driver that cannot
    # be imported: the reason is worth more.
    def failed(manager: Any, entry_point: Any, error: BaseException) -> None:
        raise error

    manager: Any = driver.DriverManager(
        NAMESPACE, DRIVERS[attribute], invoke_on_load=False,
        on_load_failure_callback=failed)
    found: type = manager.driver
    return found


class Finder:
    """Finds and makes ``nova.virt.xen44``, and no other module."""

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
        """Let Python make an ordinary module."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        module.__doc__ = 'The compute drivers of the package xen44_driver.'
        module.__dict__['__getattr__'] = _load_driver


def install() -> None:
    """Make ``nova.virt.xen44`` importable; safe to call again."""
    if Finder not in sys.meta_path:
        sys.meta_path.append(Finder)
