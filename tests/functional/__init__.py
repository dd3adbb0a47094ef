# SPDX-License-Identifier: Apache-2.0
"""Real Nova and our driver in one process; libvirt is a double.

On native threads, as Nova's compute service runs by default;
``OS_NOVA_DISABLE_EVENTLET_PATCHING=false`` runs the same tests on eventlet,
as Nova 33 and older do.
"""

import os

os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', 'true')

# Nova has to decide before anything else is imported.
from nova import monkey_patch

monkey_patch.patch()
