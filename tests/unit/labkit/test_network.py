# SPDX-License-Identifier: Apache-2.0
"""One lab at a time: which one runs, and what a killed one left."""

import json

from labkit import config
from labkit import network
from labkit import util
from tests.unit.labkit import base


class Namespace:
    """The network namespace, in place of `ip`.

    :ivar alias: of its bridge; None without a bridge.
    :ivar pids: what `ip netns pids` prints.
    :ivar made: what was called, but for questions.
    """

    def __init__(self, alias=None, pids=''):
        self.there = True
        self.alias = alias
        self.pids = pids
        self.made = []

    def _links(self):
        if self.alias is not None:
            yield {'ifname': config.BRIDGE, 'ifalias': self.alias}
        if any(config.NODE_PORT in call for call in self.made):
            yield {'ifname': config.NODE_PORT}

    def run(self, argv, **_):
        match argv[1:]:
            case ['-json', 'netns', 'list']:
                out = f'[{{"name": "{config.NETNS}"}}]' * self.there
            case ['netns', 'pids', _]:
                out = self.pids
            case ['netns', 'delete', _]:
                self.there, self.alias, out = False, None, ''
            case ['netns', 'add', _]:
                self.there, out = True, ''
            case ['-json', 'link', 'show']:
                out = json.dumps(list(self._links()))
            case ['link', 'set', config.BRIDGE, 'alias', alias]:
                self.alias, out = alias, ''
            case call:
                self.made.append(call)
                out = ''
        return util.subprocess.CompletedProcess(argv, 0, out, '')


class AnotherLabTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.other = self.directory / 'other'
        self.default = self.directory / 'default'
        self.patch(config, 'DEFAULT_STATE', self.default)
        self.patch(util, 'need_packages', lambda *_: None)
        self.patch(network.shutil, 'which', lambda _: '/usr/sbin/ip')

    def namespace(self, *args):
        namespace = Namespace(*args)
        self.patch(util, 'run', namespace.run)
        return namespace

    def refused(self):
        return str(self.assertRaises(
            util.LabError, network.refuse_beside_another))

    def test_no_lab(self):
        self.namespace().there = False
        network.refuse_beside_another()

    def test_this_lab(self):
        self.namespace(f'xenlab {self.state}', '17\n18\n')
        network.refuse_beside_another()

    def test_another_one_runs(self):
        self.namespace(f'xenlab {self.other}', '17\n18\n')
        said = self.refused()
        self.assertIn(f'another lab runs on this machine: {self.other} '
                      '(2 processes)', said)
        self.assertIn(f'XENLAB_STATE={self.other} ', said)
        self.assertIn('lab/xenlab down', said)
        self.assertRaises(util.LabError, network.up)

    def test_another_one_is_busy(self):
        self.namespace(f'xenlab {self.other}')
        with util.Lock(self.other / 'lock'):
            self.assertIn('(pid ', self.refused())
        network.refuse_beside_another()

    def test_the_usual_one_begins_to_start(self):
        # It has no network yet.
        self.namespace().there = False
        with util.Lock(self.default / 'lock'):
            self.assertIn(str(self.default), self.refused())

    def test_one_in_a_namespace_of_its_own(self):
        self.namespace().there = False
        self.patch(config, 'NETNS', 'elsewhere')
        with util.Lock(self.default / 'lock'):
            network.refuse_beside_another()

    def test_what_a_killed_lab_left_is_taken(self):
        namespace = self.namespace(f'xenlab {self.other}')
        network.refuse_beside_another()
        network.up()
        self.assertEqual(f'xenlab {self.state}', namespace.alias)

    def test_up_claims_it(self):
        namespace = self.namespace()
        network.up()
        self.assertEqual(f'xenlab {self.state}', namespace.alias)

    def test_a_node_is_added_once(self):
        namespace = self.namespace()
        network.add_node()
        network.add_node()
        self.assertEqual(f'xenlab {self.state}', namespace.alias)
        self.assertEqual(1, namespace.made.count(
            ['link', 'add', config.NODE_LINK, 'type', 'veth', 'peer', 'name',
             config.NODE_PORT, 'netns', config.NETNS]))
        self.assertIn(['address', 'replace', f'{config.NODE_IP}/24', 'dev',
                       config.NODE_LINK], namespace.made)

    def test_down_leaves_that_of_another(self):
        namespace = self.namespace(f'xenlab {self.other}')
        network.down()
        self.assertTrue(namespace.there)
        namespace.alias = f'xenlab {self.state}'
        network.down()
        self.assertFalse(namespace.there)

    def test_a_machine_without_ip(self):
        self.patch(network.shutil, 'which', lambda _: None)
        network.refuse_beside_another()
