# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

from oslotest import base


class ThreadsTest(base.BaseTestCase):
    """Both kinds of threads that Nova may run on; see modes.py."""

    def _run(self, mode):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', 'tests.unit.xen.modes',
             mode],
            env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
            capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((0, 'OK\n'), (done.returncode, done.stdout),
                         done.stderr)

    def test_native(self):
        self._run('native')

    def test_eventlet(self):
        self._run('eventlet')
