# SPDX-License-Identifier: Apache-2.0
"""A host to run the commands on, and what they print, in golden files."""

import contextlib
import io
import os
import pathlib
import sys

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
        # No terminal.
        self.patch(sys, 'stdin', io.StringIO())

    def stop_libvirt(self):
        self.libvirt.down = fake.error(
            libvirt.VIR_ERR_SYSTEM_ERROR, 'refused', libvirt.VIR_FROM_RPC)

    def answer(self, text):
        """Somebody sits at the terminal, and answers each question so."""
        terminal = io.StringIO(f'{text}\n' * 9)
        terminal.isatty = lambda: True
        self.patch(sys, 'stdin', terminal)

    def run_host(self, *argv):
        """Run xen44-host.

        :returns: its exit status, and what it prints.
        """
        return self._run(cli.host_main, argv)

    def run_import(self, *argv):
        """Run xen44-import; as :meth:`run_host`."""
        return self._run(cli.import_main, argv)

    @staticmethod
    def _run(main, argv):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            status = main(argv)
        return status, out.getvalue()

    def run_json(self, *argv):
        """Run xen44-host with --json.

        :returns: its exit status, and what it prints after its progress.
        """
        status, text = self.run_host(*argv, '--json')
        return status, text[text.index('{\n'):]

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
