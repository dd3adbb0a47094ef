# SPDX-License-Identifier: Apache-2.0
"""Which images of the guest a cloud gets."""

import pathlib

from labkit import guest
from labkit import images
from tests.unit.labkit import base


class Cloud:
    """Glance, in place of the lab's.

    :ivar found: images by name.
    """

    def __init__(self):
        self.found = {}

    def client(self):
        return self

    def call(self, method, service, path):
        found = self.found.get(path.rpartition('=')[2])
        return {'images': [found] if found else []}

    def upload_image(self, name, path, disk_format, **properties):
        self.found[name] = {'id': f'id of {name}', 'status': 'active',
                            'format': disk_format, **properties}
        return self.found[name]['id']


class EnsureTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.output()
        self.cloud = Cloud()
        self.patch(guest, 'small_guest', lambda architecture: guest.GuestFiles(
            *(pathlib.Path(f'/{architecture}-1/{name}')
              for name in ('qcow2', 'raw', 'vmlinuz', 'initrd'))))

    def test_x86(self):
        ids = images.ensure(self.cloud)
        self.assertEqual(set(ids), set(self.cloud.found))
        self.assertEqual({'guest', 'direct', 'direct-raw', 'agent', 'kernel',
                          'ramdisk'}, set(ids))
        direct = self.cloud.found['direct']
        self.assertEqual(ids['kernel'], direct['kernel_id'])
        self.assertEqual(ids['ramdisk'], direct['ramdisk_id'])

    def test_what_is_there_stays(self):
        images.ensure(self.cloud)
        self.cloud.upload_image = None
        images.ensure(self.cloud)

    def test_arm(self):
        ids = images.ensure(self.cloud, 'aarch64')
        self.assertEqual({kind: f'id of {kind}-aarch64' for kind in (
            'kernel', 'ramdisk', 'direct-raw')}, ids)
        disk = self.cloud.found[images.name('direct-raw', 'aarch64')]
        self.assertEqual(
            ('raw', 'aarch64', ids['kernel']),
            (disk['format'], disk['hw_architecture'], disk['kernel_id']))
