# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import subprocess
import sys

from oslotest import base

# Not as a module: tests.unit may choose the kind of threads, too.
MODES = pathlib.Path(__file__).with_name('modes.py')


class ThreadsTest(base.BaseTestCase):
    """Both kinds of threads that Nova may run on; see modes.py."""

    def _run(self, mode):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', MODES, mode],
            env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
            capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((0, 'OK\n'), (done.returncode, done.stdout),
                         done.stderr)

    def test_native(self):
        self._run('native')

    def test_eventlet(self):
        self._run('eventlet')
