# SPDX-License-Identifier: Apache-2.0
"""Real Nova and our driver in one process; libvirt is a double.

On what Nova's compute service runs on by default: native threads, or eventlet
in Nova 33 and older. ``OS_NOVA_DISABLE_EVENTLET_PATCHING=false`` runs the same
tests on eventlet with Nova 34.
"""

from tests import threads

threads.choose(native=threads.NOVA >= 34)
