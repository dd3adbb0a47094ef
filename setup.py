# SPDX-License-Identifier: Apache-2.0
"""Packaging is pbr's (setup.cfg), but for one file.

Nova imports ``nova.virt.<compute_driver>`` only. A .pth file at the root
of our wheel lets an unmodified Nova find us there, see
xen44_driver/loader.py; neither pbr nor setuptools has an option for a
file at that place.
"""

import os
import sys

import setuptools
from setuptools.command import build_py

PTH = 'xen44_driver-nova.pth'


class BuildPyWithPth(build_py.build_py):
    """Put the .pth file beside the package, at the wheel's root."""

    command_name = 'build_py'

    def run(self):
        super().run()
        if not self.editable_mode:
            self.copy_file(PTH, os.path.join(self.build_lib, PTH))

    def get_outputs(self, include_bytecode=True):
        outputs = super().get_outputs(include_bytecode)
        if not self.editable_mode:
            outputs.append(os.path.join(self.build_lib, PTH))
        return outputs


# pbr takes commands from [global] commands of setup.cfg only, and so imports
# this file as a module: hence the guard.
if __name__ == '__main__':
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    setuptools.setup(setup_requires=['pbr>=2.0.0'], pbr=True)
