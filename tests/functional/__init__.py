# SPDX-License-Identifier: Apache-2.0
"""Real Nova and our driver in one process; libvirt is a double.

On what Nova's compute service runs on by default: native threads, or eventlet
in Nova 33 and older. ``OS_NOVA_DISABLE_EVENTLET_PATCHING=false`` runs the same
tests on eventlet with Nova 34.
"""

import importlib.metadata
import os

os.environ.setdefault(
    'OS_NOVA_DISABLE_EVENTLET_PATCHING',
    str(int(importlib.metadata.version('nova').split('.')[0]) >= 34))

# Nova has to decide before anything else is imported.
from nova import monkey_patch

# Nova 31 has done it by now.
if hasattr(monkey_patch, 'patch'):
    monkey_patch.patch()
