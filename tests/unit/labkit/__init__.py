# SPDX-License-Identifier: Apache-2.0
"""The lab's own code, as far as it needs neither root nor a lab."""

import pathlib
import sys

# lab/xenlab sets PYTHONPATH to this.
sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / 'lab'))
