# SPDX-License-Identifier: Apache-2.0
"""What functional tests share: the doubles around real Nova."""

import functools
import io
import os
import shutil
import subprocess
import sysconfig
import warnings

import fixtures
from nova.tests import fixtures as nova_fixtures
import os_vif
from sqlalchemy import pool
from testtools import testcase
from vif_plug_ovs import privsep as vif_plug_ovs

from tests.functional import fakelibvirt
from tests.functional import fakeqemu
from tests.functional import fakexenstore
from xen44_driver import loader
from xen44_driver import privsep

#: Nova's wheel brings it.
API_PASTE = os.path.join(
    sysconfig.get_path('data'), 'etc', 'nova', 'api-paste.ini')

IMAGE_SIZE = 1024 * 1024

#: Begins as a Linux bzImage does.
BZIMAGE = bytes(0x202) + b'HdrS' + bytes(4096)


class DriverFixture(fixtures.Fixture):
    """Everything below the driver: libvirt, os-vif, root's powers, disks.

    :param test: a nova test case
    :ivar host: the Xen host (:class:`fakelibvirt.XenHost`)
    :ivar xenstore: its :class:`fakexenstore.FakeXenstoreFixture`
    :ivar qemu: the guests' :class:`fakeqemu.FakeQemuFixture`
    :ivar plugged: ids of the ports that are plugged
    :ivar console_logs: where xenconsoled would write
    :ivar crash_dumps: where crash dumps go
    :ivar memory_room: MiB that are free for saved memory
    :ivar hanging: whether Xen has a domain whose save failed
    :ivar sockets: where QEMUs would listen
    """

    def __init__(self, test) -> None:
        super().__init__()
        self._test = test
        self.plugged: list[str] = []
        self.memory_room = 4096
        self.hanging = False

    def _setUp(self):
        # A .pth does it where the package is installed.
        loader.install()
        self.host = self.useFixture(fakelibvirt.FakeLibvirtFixture()).host
        self.xenstore = self.useFixture(
            fakexenstore.FakeXenstoreFixture(self.host))
        self.qemu = self.useFixture(fakeqemu.FakeQemuFixture(self.host))
        self.instances = self.useFixture(fixtures.TempDir()).path
        self.console_logs = self.useFixture(fixtures.TempDir()).path
        self.crash_dumps = self.useFixture(fixtures.TempDir()).path
        boot = self.useFixture(fixtures.TempDir()).path
        for name in ('pv', 'pvh', 'uefi'):
            with open(os.path.join(boot, name), 'wb') as file:
                file.write(b'grub')
        flags = self._test.flags
        flags(instances_path=self.instances)
        flags(console_log_dir=self.console_logs, allow_image_kernels=True,
              crash_dump_directory=self.crash_dumps,
              # Its thread would outlive the test, and what stands for root.
              boot_watch_time=0,
              default_config_drive=False, group='xen44')
        flags(pv_loader=os.path.join(boot, 'pv'),
              pvh_loader=os.path.join(boot, 'pvh'),
              uefi_firmware=os.path.join(boot, 'uefi'), group='xen44_x86_64')
        flags(mkisofs_cmd=self._fake_mkisofs(boot))
        for context in (privsep.sys_admin_pctxt, vif_plug_ovs.vif_plug):
            self.useFixture(fixtures.MockPatchObject(
                context, 'client_mode', False))
        for name, double in (
                ('saved_memory_room',
                 lambda: (1, self.memory_room * 1024 ** 2)),
                ('wake_domain', self._wake),
                ('remove_loop', self._remove_loop)):
            self.useFixture(fixtures.MonkeyPatch(
                f'xen44_driver.privsep.{name}', double))
        self.sockets = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MonkeyPatch(
            'xen44_driver.xen.sockets.DIRECTORY', self.sockets))
        os_vif.initialize()
        self.useFixture(fixtures.MonkeyPatch('os_vif.plug', self._plug))
        self.useFixture(fixtures.MonkeyPatch('os_vif.unplug', self._unplug))

    @staticmethod
    def _fake_mkisofs(directory):
        """A program that puts the names of a config drive's files in it."""
        path = os.path.join(directory, 'mkisofs')
        with open(path, 'w') as script:
            script.write('#!/bin/sh\n'
                         'out=$2\n'
                         'for tree; do :; done\n'
                         'find "$tree" -type f > "$out"\n')
        os.chmod(path, 0o700)
        return path

    def _wake(self, domid):
        hung, self.hanging = self.hanging, False
        return hung

    def _remove_loop(self, name, uuid):
        shutil.rmtree(os.path.join(self.host.loops, name))

    def _plug(self, vif, instance):
        if vif.id not in self.plugged:
            self.plugged.append(vif.id)

    def _unplug(self, vif, instance):
        if vif.id in self.plugged:
            self.plugged.remove(vif.id)

    def write_console(self, name, text):
        """Write to a guest's Xen console."""
        path = os.path.join(self.console_logs, f'guest-{name}.log')
        with open(path, 'a') as log:
            log.write(text)

    def files(self):
        """Every file of every instance, relative to instances_path."""
        return sorted(
            os.path.relpath(os.path.join(directory, name), self.instances)
            for directory, _dirs, names in os.walk(self.instances)
            for name in names
            if os.path.basename(directory) not in ('_base', 'locks'))

    def assert_nothing_left(self):
        """No domain, file, port, console log, socket or loop device."""
        self._test.assertEqual({}, self.host.domains)
        self._test.assertEqual([], os.listdir(self.host.loops))
        self._test.assertEqual([], self.files())
        self._test.assertEqual([], self.plugged)
        self._test.assertEqual([], os.listdir(self.console_logs))
        self._test.assertEqual([], os.listdir(self.crash_dumps))
        self._test.assertEqual(set(), self.host.saved)
        self._test.assertEqual([], os.listdir(self.sockets))


class UploadsFixture(fixtures.Fixture):
    """Make Nova's double of Glance keep what is uploaded to it."""

    def _setUp(self):
        update = nova_fixtures.GlanceFixture.update

        def keep(double, context, image_id, metadata, data=None,
                 purge_props=False):
            result = update(double, context, image_id, metadata, None,
                            purge_props)
            if data is not None:
                double._imagedata[image_id] = data.read()
                double.images[image_id]['size'] = len(
                    double._imagedata[image_id])
            return result

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.GlanceFixture.update', keep))


#: Leaves a test to ``tests/run --full``, in a test case that is
#: :class:`testcase.WithAttributes`: its id then ends with "[slow]".
slow = testcase.attr('slow')


class PatientWaits(testcase.WithAttributes):
    """Makes the waits of Nova's functional tests long.

    Nova's own give up after five seconds, which a busy machine needs for
    what is done in one.
    """

    #: Tries, half a second apart.
    TRIES = 180

    def setUp(self):
        double = nova_fixtures.NotificationFixture
        self.useFixture(fixtures.MockPatchObject(
            double, 'wait_for_versioned_notifications',
            functools.partialmethod(
                double.wait_for_versioned_notifications,
                timeout=self.TRIES / 2)))
        # oslo.db opens a SQLite file anew for each transaction, which takes an
        # eighth of a test's time.
        self.useFixture(fixtures.MonkeyPatch(
            'oslo_db.sqlalchemy.engines.pool.NullPool', pool.QueuePool))
        super().setUp()

    def _wait_for_server_parameter(self, server, expected_params,
                                   max_retries=TRIES, **options):
        return super()._wait_for_server_parameter(
            server, expected_params, self.TRIES, **options)

    def _wait_for_instance_action_event(self, *args, **kwargs):
        return self._patiently(
            super()._wait_for_instance_action_event, *args, **kwargs)

    def _wait_until_deleted(self, server):
        self._patiently(super()._wait_until_deleted, server)

    def _patiently(self, wait, *args, **kwargs):
        """Wait again and again, as waits of ten tries or more do."""
        for _ in range(self.TRIES // 10):
            try:
                return wait(*args, **kwargs)
            except self.failureException as error:
                failure = error
        raise failure


def tolerate_noload():
    """Undo, for one warning, that Nova's tests make errors of warnings.

    Nova 34 calls what SQLAlchemy 2.1 calls deprecated.
    """
    warnings.filterwarnings(
        'ignore', message=r'The noload\(\) option is deprecated')


def raw_image(content=b'', size=IMAGE_SIZE):
    """A raw disk image."""
    return content + bytes(size - len(content))


def qcow2_image(size, directory, *, backing=None):
    """A qcow2 image made by qemu-img.

    :param size: of its disk, for qemu-img (``'2G'``)
    :param directory: where it may be made
    :param backing: a file it claims to be based on
    """
    path = os.path.join(directory, 'image.qcow2')
    options = ['-b', backing, '-F', 'raw', '-u'] if backing else []
    subprocess.run(
        ['qemu-img', 'create', '-q', '-f', 'qcow2', *options, path, size],
        check=True)
    with open(path, 'rb') as image:
        return image.read()


def create_image(glance, data, *, disk_format='raw',
                 container_format='bare', **properties):
    """Put an image into nova's double of Glance.

    :returns: its id
    """
    image = {
        'name': 'test', 'disk_format': disk_format,
        'container_format': container_format, 'size': len(data),
        'status': 'active', 'min_ram': 0, 'min_disk': 0,
        'is_public': True, 'visibility': 'public', 'deleted': False,
        'deleted_at': None, 'protected': False, 'tags': [],
        'properties': properties,
    }
    return glance.create(None, image, io.BytesIO(data))['id']
