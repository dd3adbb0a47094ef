# SPDX-License-Identifier: Apache-2.0
"""What tests/run refuses before it does anything."""

import subprocess

from labkit import config
from tests.unit.labkit import base


class RunTest(base.TestCase):

    def run_tests(self, *words):
        return subprocess.run(
            [config.CHECKOUT / 'tests/run', *words], text=True, check=False,
            capture_output=True, timeout=60)

    def test_help(self):
        done = self.run_tests('unit', '--help')
        self.assertEqual(0, done.returncode)
        self.assertIn('usage: tests/run [--full] [PART...]', done.stdout)

    def test_unknown_words(self):
        for words, said in ((['--ful'], 'no such option: --ful'),
                            (['unit', '-x'], 'no such option: -x'),
                            (['units'], 'no such part: units'),
                            (['unit gate'], 'no such part: unit gate'),
                            ([''], 'no such part: ')):
            done = self.run_tests(*words)
            self.assertEqual(2, done.returncode, words)
            self.assertIn(said, done.stderr)
