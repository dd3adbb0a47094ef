# SPDX-License-Identifier: Apache-2.0
"""A host to run the commands on, and what they print, in golden files."""

import contextlib
import io
import os
import pathlib

import fixtures
import libvirt

from tests.unit import base
from tests.unit.xen import fake
from xen44_driver.cmd import cli
from xen44_driver.xen import connection

DATA = pathlib.Path(__file__).parent / 'data'


class CommandTestCase(base.TestCase):
    """Root runs the commands beside the libvirt of a double."""

    maxDiff = None

    def setUp(self):
        super().setUp()
        self.libvirt = fake.Libvirt()
        self.patch(connection, 'libvirt', self.libvirt)
        self.patch(os, 'geteuid', lambda: 0)
        self.useFixture(fixtures.MockPatch(
            'socket.gethostname', return_value='xen1'))
        # The configuration is the test's.
        self.patch(cli, '_configure', lambda arguments: None)
        self.patch(cli, '_be_quiet', lambda: None)

    def patch(self, *args, **kwargs):
        return self.useFixture(fixtures.MockPatchObject(*args, **kwargs)).mock

    def stop_libvirt(self):
        self.libvirt.down = fake.error(
            libvirt.VIR_ERR_SYSTEM_ERROR, 'refused', libvirt.VIR_FROM_RPC)

    def run_host(self, *argv):
        """Run xen44-host.

        :returns: its exit status, and what it prints.
        """
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.host_main(argv)
        return status, out.getvalue() + err.getvalue()

    def assert_golden(self, name, text, **replaced):
        """Compare a text with a golden file.

        ``XEN44_WRITE_GOLDEN=1`` in the environment writes it anew. Then read
        what git shows of the difference.

        :param replaced: what differs from run to run, by what to put there.
        """
        for word, variable in replaced.items():
            text = text.replace(variable, f'@{word}@')
        path = DATA / name
        if os.environ.get('XEN44_WRITE_GOLDEN'):
            path.write_text(text, encoding='utf-8')
        self.assertEqual(path.read_text(encoding='utf-8'), text)
