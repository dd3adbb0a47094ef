# SPDX-License-Identifier: Apache-2.0

import pathlib
import sys

# lab/xenlab sets PYTHONPATH to this.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'lab'))
