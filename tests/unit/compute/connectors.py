# SPDX-License-Identifier: Apache-2.0
"""What tests with os-brick's real connectors have in common."""

import os

import fixtures
from oslo_serialization import jsonutils

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import connections
from xen44_driver.xen import sockets


class ConnectorCase(base.TestCase):
    """A volume, an instance, and what dom0's programs are asked for.

    :ivar info: what Cinder says of the volume's connection; a test's own.
    :ivar commands: what was run.
    """

    def setUp(self):
        super().setUp()
        self.flags(lock_path=self.useFixture(fixtures.TempDir()).path,
                   group='oslo_concurrency')
        self.useFixture(fixtures.MockPatchObject(
            privsep.sys_admin_pctxt, 'client_mode', False))
        self.useFixture(fixtures.MockPatchObject(
            sockets, 'DIRECTORY', self.useFixture(fixtures.TempDir()).path))
        self.useFixture(fixtures.MonkeyPatch(
            'os_brick.privileged.rootwrap.execute', self.execute))
        self.commands = []
        self.instance = base.instance()

    def double(self, begin, doubles):
        """Put functions in place of the real ones, for the host's devices.

        :param begin: how the devices' paths begin, or a tuple of that.
        :param doubles: the functions, by the real ones' names.
        """
        for name, function in doubles.items():
            self.useFixture(fixtures.MonkeyPatch(
                name, self._beside(name, function, begin)))

    @staticmethod
    def _beside(name, function, begin):
        real = getattr(os.path if 'path' in name else os,
                       name.rpartition('.')[2])
        return lambda path, *args, **kwargs: (
            function(path) if str(path).startswith(begin)
            else real(path, *args, **kwargs))

    def execute(self, *command, **_options):
        self.commands.append(' '.join(command))
        return self.program(*command) or ('', '')

    def program(self, *command):
        """Do what one of dom0's programs does; return its outputs, if any."""
        raise NotImplementedError

    def ran(self, text):
        return [command for command in self.commands if text in command]

    def connect(self, **options):
        connections.connect('context', self.instance, self.info, **options)
        # Nova keeps it as JSON.
        self.info = jsonutils.loads(jsonutils.dumps(self.info))
