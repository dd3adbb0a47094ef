# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S108 - paths in commands that nobody runs
"""The privsep daemons that nova-compute's start begins."""

import os
import threading
from unittest import mock

import fixtures
from nova import exception
from oslo_privsep import daemon
from oslo_privsep import priv_context
from oslo_rootwrap import filters
from oslo_rootwrap import wrapper

from tests.unit import base
from xen44_driver.compute import privileges

REFUSED = daemon.FailedToDropPrivileges('exited non-zero (99)')


def fail(error):
    raise error


def privilege(probe, of=privileges.XEN):
    """A privilege whose daemon does what the test says."""
    return privileges.Privilege(of.context, probe, of.use)


class StartTest(base.TestCase):

    def test_all_start_together(self):
        barrier = threading.Barrier(2, timeout=10)
        both = [privilege(barrier.wait), privilege(barrier.wait)]
        started = [privileges.start(one) for one in both]
        numbers = {privileges.result(one, future)
                   for one, future in zip(both, started, strict=True)}
        self.assertEqual({0, 1}, numbers)

    def test_each_imports_its_code(self):
        with mock.patch('vif_plug_ovs.linux_net.ip_lib') as ip_lib:
            ip_lib.exists.return_value = False
            with mock.patch.object(
                    privileges.PORTS.context, 'client_mode', False):
                privileges.PORTS.probe()
        ip_lib.exists.assert_called_once_with(mock.ANY)
        self.assertEqual([], ip_lib.delete.mock_calls)

    def test_never_starts(self):
        never = privilege(threading.Event().wait)
        with mock.patch.object(privileges, 'TIMEOUT', 0.01):
            self.assertRaisesRegex(
                exception.InvalidConfiguration, 'not started within 0.01 s',
                privileges.result, never, privileges.start(never))


class RefusedTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.conf = os.path.join(self.directory, 'rootwrap.conf')
        self.filters = os.path.join(self.directory, 'rootwrap.d')
        os.mkdir(self.filters)
        self.useFixture(fixtures.MockPatchObject(
            priv_context, '_HELPER_COMMAND_PREFIX',
            ['sudo', 'nova-rootwrap', self.conf]))

    def write_conf(self, exec_dirs):
        with open(self.conf, 'w') as file:
            file.write(f'[DEFAULT]\nfilters_path={self.filters}\n'
                       f'exec_dirs={exec_dirs}\n')

    def assert_says(self, *texts, error=REFUSED):
        refused = privilege(lambda: fail(error))
        raised = self.assertRaises(
            exception.InvalidConfiguration, privileges.result, refused,
            privileges.start(refused))
        for text in ('what only root can do',
                     '[xen44_privileged] helper_command', *texts):
            self.assertIn(text, str(raised))

    def test_no_sudo(self):
        self.write_conf(os.path.dirname(__file__))
        with mock.patch.object(wrapper, 'match_filter'):
            self.assert_says(
                'No such file', error=FileNotFoundError(2, 'No such file'))

    def test_no_rootwrap_conf(self):
        self.assert_says(self.conf, 'No such file')

    def test_no_helper_where_rootwrap_looks(self):
        self.write_conf(self.directory)
        self.assert_says('exec_dirs', 'privsep-helper', self.conf)

    def test_no_filter(self):
        self.write_conf(self.directory)
        with mock.patch.object(wrapper, 'load_filters', return_value=[]):
            self.assert_says(
                'xen44.filters', self.filters,
                '--privsep_context xen44_driver.privsep.sys_admin_pctxt')

    def test_filters_that_the_package_ships(self):
        """They let it start: what else failed is told."""
        self.filters = FiltersTest.DIRECTORY
        self.write_conf(self.directory)
        helper = os.path.join(self.directory, 'privsep-helper')
        with open(helper, 'w') as file:
            file.write('#!/bin/sh')
        os.chmod(helper, 0o700)
        self.flags(helper_command=f'sudo nova-rootwrap {self.conf} '
                   'privsep-helper --config-file /etc/nova/nova.conf',
                   group='xen44_privileged')
        self.assert_says('exited non-zero (99)')

    def test_rootwrap_is_not_asked(self):
        self.flags(helper_command='doas privsep-helper',
                   group='xen44_privileged')
        self.assert_says('exited non-zero (99)')

    def test_only_a_warning_for_others(self):
        refused = privilege(lambda: fail(REFUSED), of=privileges.PORTS)
        future = privileges.start(refused)
        with mock.patch.object(privileges.LOG, 'warning') as warning:
            privileges.warn_if_refused(refused, future)
            self.assertIs(REFUSED, future.exception(10))
        text = warning.call_args.args[0] % warning.call_args.args[1:]
        self.assertIn('Plugging ports will fail', text)
        self.assertIn('[vif_plug_ovs_privileged] helper_command', text)

    def test_no_warning_where_all_is_well(self):
        well = privilege(lambda: True, of=privileges.PORTS)
        future = privileges.start(well)
        future.result(10)
        with mock.patch.object(privileges.LOG, 'warning') as warning:
            privileges.warn_if_refused(well, future)
        warning.assert_not_called()


class FiltersTest(base.TestCase):
    """The file of filters that the package ships."""

    DIRECTORY = os.path.join(
        os.path.dirname(__file__), '../../../etc/nova/rootwrap.d')

    def setUp(self):
        super().setUp()
        # Without those that rootwrap adds by itself.
        self.filters = [one for one in wrapper.load_filters([self.DIRECTORY])
                        if isinstance(one, filters.RegExpFilter)]

    def command(self, context, path='/etc/nova/nova.conf'):
        self.flags(helper_command=f'privsep-helper --config-file {path}',
                   group=context.cfg_section)
        return context.helper_command('/tmp/tmp2x_/privsep.sock')

    def matches(self, command):
        return any(one.match(command) for one in self.filters)

    def test_what_the_driver_starts(self):
        for one in (privileges.XEN, privileges.PORTS):
            self.assertTrue(self.matches(self.command(one.context)), one)

    def test_nothing_else(self):
        context = privileges.XEN.context
        for path in ('/etc/nova/../../tmp/mine', '/etc/nova/..',
                     '/tmp/nova.conf'):
            self.assertFalse(
                self.matches(self.command(context, path)), path)
        command = self.command(context)
        for wrong in ('tests.x', 'xen44_driver.privsep.sys_admin_pctxt2',
                      'xen44_driver_privsep_sys_admin_pctxt'):
            self.assertFalse(self.matches(
                [wrong if word.startswith('xen44_driver.') else word
                 for word in command]), wrong)
        self.assertFalse(self.matches([*command, '--config-dir', '/tmp']))
