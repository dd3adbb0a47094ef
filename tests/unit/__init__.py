# SPDX-License-Identifier: Apache-2.0

import pathlib
import sys

from tests import threads

# lab/xenlab sets PYTHONPATH to this.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'lab'))

# Older ones patch the standard library when parts of them are imported.
if threads.NOVA < 34:
    threads.choose(native=True)
