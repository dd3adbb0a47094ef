# SPDX-License-Identifier: Apache-2.0
"""Disks of a guest as xenstore shows them."""

from oslotest import base

from xen44_driver.xen import xenstore
from xen44_driver.xen.xenstore import BackendKind

ROOT = '/local/domain/0/backend/qdisk/7/51712'
BEFORE = f"""\
{ROOT} = ""
{ROOT}/bootable = "1"
{ROOT}/dev = "xvda"
{ROOT}/device-type = "disk"
{ROOT}/discard-enable = "1"
{ROOT}/frontend = "/local/domain/7/device/vbd/51712"
{ROOT}/frontend-id = "7"
{ROOT}/mode = "w"
{ROOT}/online = "1"
{ROOT}/params = "qcow2:/var/lib/nova/instances/uuid/disk.qcow2"
{ROOT}/removable = "1"
{ROOT}/specification = "xen"
{ROOT}/state = "1"
{ROOT}/type = "qdisk"
"""
AFTER = BEFORE.replace('state = "1"', 'state = "4"') + f"""\
{ROOT}/discard-alignment = "0"
{ROOT}/discard-granularity = "512"
{ROOT}/feature-discard = "1"
{ROOT}/feature-flush-cache = "1"
{ROOT}/hotplug-status = "connected"
{ROOT}/info = "0"
{ROOT}/max-ring-page-order = "4"
{ROOT}/sector-size = "512"
{ROOT}/sectors = "2097152"
"""


class NumberTest(base.BaseTestCase):

    def test_numbers(self):
        for target, number in (
                ('xvda', 51712), ('xvdp', 51952), ('xvdq', 268439552),
                ('xvdaa', 268442112), ('hda', 768), ('hdb', 832),
                ('hdc', 5632), ('hdd', 5696), ('sda', 2048), ('sdp', 2288)):
            self.assertEqual(number, xenstore.disk_number(target))

    def test_no_disks(self):
        for target in ('hde', 'sdq', 'vda', 'xvd', 'xvdaaa', 'xvda1', 'hdaa'):
            self.assertRaises(ValueError, xenstore.disk_number, target)


class BackendsTest(base.BaseTestCase):

    def one(self, text):
        backend, = xenstore.backends(text)
        return backend

    def test_before(self):
        self.assertEqual(
            xenstore.Backend(
                device='xvda', number=51712, kind=BackendKind.QDISK),
            self.one(BEFORE))
        self.assertFalse(self.one(BEFORE).is_open)

    def test_after(self):
        backend = self.one(AFTER)
        self.assertEqual(2097152, backend.sectors)
        self.assertTrue(backend.is_open)
        # An empty file is open, too.
        self.assertTrue(self.one(AFTER.replace('2097152', '0')).is_open)

    def test_several(self):
        cdrom = BEFORE.replace('51712', '5696').replace(
            '"disk"', '"cdrom"').replace('xvda', 'hdd')
        loop = AFTER.replace('qdisk', 'vbd').replace('51712', '51728')
        self.assertEqual(
            [('xvda', BackendKind.QDISK), ('hdd', BackendKind.QDISK),
             ('xvda', BackendKind.VBD)],
            [(backend.device, backend.kind)
             for backend in xenstore.backends(AFTER + cdrom + loop)])

    def test_failed_script(self):
        backend = self.one(AFTER + f'{ROOT}/hotplug-error = "no loop"\n')
        self.assertEqual('no loop', backend.error)
        self.assertFalse(backend.is_open)

    def test_escapes(self):
        value = r'qcow2:/a\x20\\x41\t\001\xc3\xa4\xff = \x22b'
        backend = self.one(f'{ROOT}/dev = "xvda"\n{ROOT}/error = "{value}"')
        self.assertEqual('qcow2:/a \\x41\t\x01ä\\xff = "b', backend.error)

    def test_nonsense(self):
        self.assertEqual((), xenstore.backends(''))
        # libxl has made the directory and not yet filled it.
        self.assertEqual((), xenstore.backends(f'{ROOT} = ""\n'))
        self.assertEqual((), xenstore.backends(AFTER.replace('qdisk', '9p')))
        backend = self.one(f'{ROOT}/dev = "xvda"\n{ROOT}/sectors = "-1"\n')
        self.assertIsNone(backend.sectors)


VIF = '/local/domain/0/backend/vif/7/1'
WIRED = f"""\
{VIF} = ""
{VIF}/frontend = "/local/domain/7/device/vif/1"
{VIF}/mac = "FA:16:3e:00:00:01"
{VIF}/bridge = "qbr51a9642b-14"
{VIF}/handle = "1"
{VIF}/state = "2"
{VIF}/hotplug-status = "connected"
"""


class VifsTest(base.BaseTestCase):

    def one(self, text):
        vif, = xenstore.vifs(text)
        return vif

    def test_wired(self):
        self.assertEqual(
            xenstore.Vif(devid=1, mac='fa:16:3e:00:00:01',
                         state=xenstore.BackendState.INIT_WAIT,
                         hotplug='connected'), self.one(WIRED))

    def test_states(self):
        for state, hotplug, plugged, connected, failed in (
                ('1', '', False, False, False),
                ('2', '', False, False, False),
                ('2', 'connected', True, False, False),
                ('4', 'connected', True, True, False),
                ('4', '', True, True, False),
                ('2', 'error', False, False, True),
                ('5', 'connected', False, False, True),
                ('6', '', False, False, True),
                ('x', '', False, False, False),
                ('99', '', False, False, False)):
            vif = self.one(WIRED.replace('"2"', f'"{state}"').replace(
                '"connected"', f'"{hotplug}"'))
            self.assertEqual(
                (plugged, connected, failed),
                (vif.is_plugged, vif.is_connected, vif.has_failed), vif)

    def test_error(self):
        vif = self.one(WIRED + f'{VIF}/hotplug-error = "no bridge"\n')
        self.assertEqual(('no bridge', True), (vif.error, vif.has_failed))

    def test_others(self):
        self.assertEqual((), xenstore.vifs(AFTER))
        self.assertEqual((), xenstore.vifs(f'{VIF}/state = "1"'))
        self.assertEqual((), xenstore.backends(WIRED))
