# SPDX-License-Identifier: Apache-2.0
"""``xen44-host restart-toolstack``: guests run on, or it says which do not."""

import json
import os
import subprocess

from oslo_concurrency import processutils

from tests.unit.cmd import base
from xen44_driver import privsep
from xen44_driver.cmd import systemd

DOM0 = '00000000-0000-0000-0000-000000000000'
XL_ONLY = '99999999-1111-4111-8111-111111111111'


class ToolstackTestCase(base.CommandTestCase):
    """A host with two guests that run and one that is off."""

    def setUp(self):
        super().setUp()
        self.patch(privsep.sys_admin_pctxt, 'set_client_mode')
        self.one, self.two = self.libvirt.add(1), self.libvirt.add(
            2, ours=False)
        self.libvirt.add(3, running=False)
        self.xen = {DOM0: 'Domain-0', self.one.uuid: self.one.name,
                    self.two.uuid: self.two.name}
        self.patch(privsep, 'running_domains', lambda: dict(self.xen))
        self.commands = []
        self.modular = 'inactive\ninactive\n'
        self.at_restart = lambda: None
        self.patch(systemd.processutils, 'execute', self._execute)
        self.fake_time()

    def _execute(self, *command, check_exit_code, timeout):
        if command[1] == 'is-active':
            self.assertFalse(check_exit_code)
            return self.modular, ''
        self.commands.append((*command, timeout))
        self.at_restart()
        return '', ''

    def restart(self, *argv):
        return self.run_host('restart-toolstack', *argv)

    def problems(self, *argv):
        status, text = self.run_json('restart-toolstack', *argv)
        problems = json.loads(text)['problems']
        self.assertEqual(int(bool(problems)), status)
        return {problem['uuid']: problem['text'] for problem in problems}


class GoldenTest(ToolstackTestCase):

    def test_healthy(self):
        status, text = self.restart()
        self.assertEqual(0, status, text)
        self.assert_golden('restart-toolstack.txt', text)
        self.assertEqual([('systemctl', 'restart', 'libvirtd', 300)],
                         self.commands)

    def test_json(self):
        status, text = self.run_json('restart-toolstack')
        self.assertEqual(0, status, text)
        self.assert_golden('restart-toolstack.json', text)

    def test_broken(self):
        """One is lost by libvirt, one has ended, one is of xl."""
        self.xen[XL_ONLY] = 'of xl'

        def lose():
            self.libvirt.stop(self.one)
            self.libvirt.stop(self.two)
            del self.xen[self.two.uuid]

        self.at_restart = lose
        status, text = self.restart()
        self.assertEqual(1, status)
        self.assert_golden('restart-toolstack-broken.txt', text)


class RestartTest(ToolstackTestCase):

    def test_modular_daemons(self):
        self.modular = 'inactive\nactive\n'
        self.restart()
        self.assertEqual([('systemctl', 'restart', 'virtxend', 300)],
                         self.commands)

    def test_waits(self):
        """libvirt does not answer at first, then not know a guest yet."""
        steps = [self.stop_libvirt,
                 lambda: setattr(self.libvirt, 'down', None),
                 lambda: self.libvirt.run(self.one)]

        def step():
            if steps:
                steps.pop(0)()

        self.at_restart = lambda: (self.libvirt.stop(self.one), step())
        self.at_sleep = step
        self.assertEqual({}, self.problems())
        self.assertEqual([], steps)

    def test_libvirt_stays_away(self):
        self.at_restart = self.stop_libvirt
        status, text = self.restart('--timeout', '10')
        self.assertEqual(2, status)
        self.assertIn('libvirtd was restarted, and does not answer within '
                      '10 s', text)
        self.assertGreaterEqual(self.now, 10)

    def test_libvirt_is_away_before(self):
        self.stop_libvirt()
        self.at_restart = lambda: setattr(self.libvirt, 'down', None)
        self.assertEqual({}, self.problems())

    def test_libvirt_runs_what_xen_does_not(self):
        self.at_restart = lambda: self.libvirt.add(7)
        [text] = self.problems().values()
        self.assertIn('Xen does not run it', text)

    def test_new_guests(self):
        def boot():
            new = self.libvirt.add(7)
            self.xen[new.uuid] = new.name

        self.at_restart = boot
        self.assertEqual({}, self.problems())

    def test_of_xl(self):
        """It was unknown before, and is no problem."""
        self.xen[XL_ONLY] = 'of xl'
        status, text = self.restart()
        self.assertEqual(0, status)
        self.assertIn(f'of xl ({XL_ONLY})', text)

    def test_restart_fails(self):
        for error, words in (
                (processutils.ProcessExecutionError(
                    exit_code=1, stderr='Job failed.\n'),
                 'exit status 1: Job failed.'),
                (subprocess.TimeoutExpired('systemctl', 300),
                 'took more than 300 s'),
                (FileNotFoundError(2, 'No such file', 'systemctl'),
                 'No such file')):
            def fail(error=error):
                raise error

            self.at_restart = fail
            status, text = self.restart()
            self.assertEqual(2, status)
            self.assertIn(words, text)

    def test_not_root(self):
        self.patch(os, 'geteuid', lambda: 1000)
        self.assertEqual(2, self.restart()[0])
        self.assertEqual([], self.commands)
