# SPDX-License-Identifier: Apache-2.0
"""Import for "preloaded" what cinder-volume imports once it is configured."""

from cinder import objects

# Its modules name each other's classes by cinder.objects.
objects.register_all()

from cinder.volume import manager  # noqa: E402, F401
from cinder.volume.drivers import lvm  # noqa: E402, F401
from cinder.volume.drivers import nfs  # noqa: E402, F401
from cinder.volume.targets import lio  # noqa: E402, F401
