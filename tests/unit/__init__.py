# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import sys

# Nova 33 and older patch the standard library for eventlet when parts of them
# are imported.
os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', 'true')

# lab/xenlab sets PYTHONPATH to this.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'lab'))
