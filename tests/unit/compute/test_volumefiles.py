# SPDX-License-Identifier: Apache-2.0
"""What the qcow2 files of volumes may lead to."""

import os
import subprocess

import fixtures
from nova import exception

from tests.unit import base
from xen44_driver import privsep
from xen44_driver.compute import volumefiles
from xen44_driver.xen import sockets

NAME = f'volume-{base.VOLUME}'


class FilesTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatchObject(
            privsep.sys_admin_pctxt, 'client_mode', False))
        self.useFixture(fixtures.MockPatchObject(
            sockets, 'DIRECTORY', self.useFixture(fixtures.TempDir()).path))
        self.share = self.useFixture(fixtures.TempDir()).path

    def make(self, name, backing=None, format='raw', **options):
        """Make a qcow2 file that names another one."""
        if backing:
            options |= {'backing_file': backing, 'backing_fmt': format}
        arguments = [argument for key, value in options.items()
                     for argument in ('-o', f'{key}={value}')]
        subprocess.run(
            ['qemu-img', 'create', '-q', '-u', '-f', 'qcow2', *arguments,
             name, '1M'], check=True, cwd=self.share)

    def check(self, name=NAME):
        path = os.path.join(self.share, name)
        privsep.link_volume(base.UUID, base.VOLUME, path)
        volumefiles.check(base.UUID, base.VOLUME, name)

    def refuse(self, says, name=NAME):
        raised = self.assertRaises(exception.InvalidVolume, self.check, name)
        self.assertIn(f'volume {base.VOLUME} is', str(raised))
        self.assertIn(says, str(raised))

    def test_alone(self):
        self.make(NAME)
        self.check()

    def test_snapshots(self):
        """As Cinder makes them."""
        self.make(f'{NAME}.2', f'{NAME}.1', 'qcow2')
        self.make(f'{NAME}.1', NAME)
        self.check(f'{NAME}.2')

    def test_other_files(self):
        for other in ('/etc/shadow', '../volume', f'../{NAME}', f'x/{NAME}',
                      f'volume-{base.UUID}', 'nbd:localhost:1',
                      f'json:{NAME}'):
            self.make(NAME, other)
            self.refuse(f'lies on {other!r}')
            # Nor below.
            self.make(f'{NAME}.1', NAME, 'qcow2')
            self.refuse(f'lies on {other!r}', f'{NAME}.1')

    def test_format_that_would_be_looked_for(self):
        self.make(NAME)
        self.make(f'{NAME}.1', NAME)
        path = os.path.join(self.share, f'{NAME}.1')
        with open(path, 'r+b') as file:
            content = file.read()
            # QEMU ignores extensions that it does not know.
            file.seek(content.index(b'\xe2\x79\x2a\xca'))
            file.write(b'\xe2\x79\x2a\xcb')
        self.refuse('of the format None', f'{NAME}.1')

    def test_data_file(self):
        self.make(NAME, data_file=os.path.join(self.share, 'data'))
        self.refuse('elsewhere')

    def test_not_qcow2(self):
        with open(os.path.join(self.share, NAME), 'wb') as file:
            file.write(b'guest')
        self.refuse('not qcow2')

    def test_endless(self):
        self.make(NAME, f'{NAME}.1', 'qcow2')
        self.make(f'{NAME}.1', NAME, 'qcow2')
        self.refuse('more than')

    def test_only_files_of_its_directory(self):
        self.make(NAME)
        self.check()
        for name in ('../x', '/etc/passwd', 'x\0'):
            self.assertRaises(ValueError, privsep.read_volume_head, base.UUID,
                              base.VOLUME, 1, name)
        os.mkfifo(os.path.join(self.share, 'pipe'))
        self.assertRaises(OSError, privsep.read_volume_head, base.UUID,
                          base.VOLUME, 1, 'pipe')
