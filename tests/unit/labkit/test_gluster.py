# SPDX-License-Identifier: Apache-2.0
"""What Gluster says of its bricks."""

import types

from labkit import gluster
from labkit import util
from tests.unit.labkit import base

#: Shortened: Gluster 10.3, with the healer beside three bricks.
STATUS = '''<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<cliOutput><opRet>0</opRet><volStatus><volumes><volume>
  <volName>gate</volName><nodeCount>4</nodeCount>
  <node><hostname>192.0.2.1</hostname><path>/a/long/path/brick0</path>
    <status>0</status><port>N/A</port><pid>-1</pid></node>
  <node><hostname>192.0.2.1</hostname><path>/a/long/path/brick1</path>
    <status>1</status><port>59999</port><pid>14669</pid></node>
  <node><hostname>192.0.2.1</hostname><path>/a/long/path/brick2</path>
    <status>1</status><port>50262</port><pid>14685</pid></node>
  <node><hostname>Self-heal Daemon</hostname><path>localhost</path>
    <status>1</status><port>N/A</port><pid>14702</pid></node>
  <tasks/>
</volume></volumes></volStatus></cliOutput>
'''
HEAL = '''Gathering count of entries to be healed has been successful

Brick 192.0.2.1:/a/long/path/brick0
Number of entries: 0

Brick 192.0.2.1:/a/long/path/brick1
Number of entries: 2
'''


class GlusterTest(base.TestCase):

    def gluster(self, answer):
        self.patch(util, 'run', lambda *_, **__: types.SimpleNamespace(
            stdout=answer, stderr=''))
        return gluster.Gluster(self.directory)

    def test_bricks_that_run(self):
        self.assertEqual(2, self.gluster(STATUS).bricks())

    def test_what_is_to_be_healed(self):
        self.assertEqual(2, self.gluster(HEAL).unhealed())
