# SPDX-License-Identifier: Apache-2.0
"""Why libxl and QEMU failed, in their logs."""

import datetime

from oslotest import base

from xen44_driver.xen import logs

START = datetime.datetime(
    2026, 11, 25, 18, 0, tzinfo=datetime.UTC).timestamp()

#: A device model that died; the domain's configuration as libvirt logs it.
LIBXL = """\
2026-11-25 17:59:59.999+0000: libxl: libxl_create.c:1695:domcreate_rebuild_done: Domain 6:cannot (re-)build domain: -3
Domain start: {
    "b_info": {
        "vnc": {"passwd": "hush: failed"}
2026-11-25 18:00:43.645+0000: libxl: libxl_aoutils.c:646:libxl__kill_xs_path: qemu command-line probe already exited
2026-11-25 18:00:56.584+0000: libxl: libxl_qmp.c:1399:qmp_ev_fd_callback: Domain 3:error on QMP socket: Connection reset by peer
2026-11-25 18:00:56.585+0000: libxl: libxl_qmp.c:1438:qmp_ev_fd_callback: Domain 3:Error happened with the QMP connection to QEMU
2026-11-25 18:00:56.620+0000: libxl: libxl_dm.c:3607:device_model_postconfig_done: Domain 3:Post DM startup configs failed, rc=-26
2026-11-25 18:00:56.621+0000: libxl: libxl_create.c:1957:domcreate_devmodel_started: Domain 3:device model did not start: -26
2026-11-25 18:00:56.699+0000: libxl: libxl_aoutils.c:646:libxl__kill_xs_path: Device Model already exited
2026-11-25 18:00:56.704+0000: libxl: libxl_dom.c:49:libxl__domain_type: unable to get domain type for domid=3, assuming HVM
2026-11-25 18:00:56.705+0000: libxl: libxl_domain.c:1183:libxl__destroy_domid: Domain 3:Non-existant domain
2026-11-25 18:00:56.706+0000: libxl: libxl_domain.c:1137:domain_destroy_callback: Domain 3:Unable to destroy guest
2026-11-25 18:00:56.707+0000: libxl: libxl_domain.c:1064:domain_destroy_cb: Domain 3:Destruction of domain failed
"""  # noqa: E501

#: A kernel that is not there, and at the same time another domain's device
#: model.
TWO = """\
2026-11-25 18:21:44.554+0000: xc: panic: xg_dom_core.c:205: failed to open file '/boot/k': No such file or directory: Internal error
2026-11-25 18:21:44.602+0000: libxl: libxl_dom.c:641:libxl__build_pv: xc_dom_kernel_file failed: No such file or directory
2026-11-25 18:21:44.753+0000: libxl: libxl_create.c:1695:domcreate_rebuild_done: Domain 2:cannot (re-)build domain: -3
2026-11-25 18:21:45.790+0000: libxl: libxl_exec.c:459:spawn_middle_death: domain 1 device model underlying machinery seemed to fail (-3), but its function seems to have been successful
2026-11-25 18:21:45.841+0000: libxl: libxl_qmp.c:1334:qmp_ev_lock_aquired: Domain 1:Failed to connect to QMP socket /var/run/xen/qmp-libxl-1: Connection refused
2026-11-25 18:21:45.858+0000: libxl: libxl_dm.c:3607:device_model_postconfig_done: Domain 1:Post DM startup configs failed, rc=-3
"""  # noqa: E501

#: A start that timed out, while another domain could not be saved.
STRANGER = """\
2026-11-25 18:37:52.352+0000: xc: save callback suspend() failed: 0: Internal error
2026-11-25 18:37:52.354+0000: xc: Save failed (0 = Success): Internal error
2026-11-25 18:38:45.026+0000: libxl: libxl_exec.c:403:spawn_watch_event: domain 12 device model: startup timed out
2026-11-25 18:38:47.706+0000: libxl: libxl_dm.c:3387:device_model_spawn_outcome: Domain 12:domain 12 device model: spawn failed (rc=-9)
"""  # noqa: E501

#: A disk that cannot be opened, beside what every healthy PV guest has.
QEMU_HEALTHY = """\
xen-qemu-system-i386: failed to create 'console' device '0': declining to handle console type 'xenconsoled'
xen-qemu-system-i386: terminating on signal 1 from pid 456 (/usr/sbin/libvirtd)
xen-qemu-system-i386: Duplicate device ID 'xen-vkbd-0'
xen-qemu-system-i386: failed to destroy node '/local/domain/10/device/vbd/51712': No such file or directory
"""  # noqa: E501
QEMU = QEMU_HEALTHY + """\
xen-qemu-system-i386: warning: old name, failed to be new
xen-qemu-system-i386: failed to create 'qdisk' device '51712': failed to create drive: Could not open backing file: Could not open '/var/lib/nova/instances/_base/ab': No such file or directory
"""  # noqa: E501

#: The same of an HVM guest, whose QEMU ends.
QEMU_HVM = """\
xen-qemu-system-i386: -drive file=/instances/disk.qcow2,if=ide,index=0,media=disk,format=qcow2,cache=writeback: Could not open backing file: Could not open '/_base/ab': No such file or directory
"""  # noqa: E501

#: A screen with a password, of a QEMU without ciphers.
QEMU_VNC = (
    'xen-qemu-system-i386: -vnc 127.0.0.1:0,password=on: Cipher backend does '
    'not support DES algorithm\n')


class LibxlTest(base.BaseTestCase):

    def reasons(self, text, since=START):
        return logs.libxl_reasons(logs.libxl_lines(text, since))

    def test_lines(self):
        lines = logs.libxl_lines(LIBXL, START)
        self.assertEqual(10, len(lines))
        self.assertEqual(
            logs.LogLine(time=START + 56.584, domid=3, text=(
                'error on QMP socket: Connection reset by peer')), lines[1])
        self.assertEqual((None, 'qemu command-line probe already exited'),
                         (lines[0].domid, lines[0].text))

    def test_reasons(self):
        self.assertEqual(
            ('error on QMP socket: Connection reset by peer',
             'Error happened with the QMP connection to QEMU',
             'Post DM startup configs failed, rc=-26'), self.reasons(LIBXL))
        self.assertEqual((), self.reasons(LIBXL, START + 60))
        self.assertEqual((), self.reasons(''))

    def test_kernel(self):
        kernel = ''.join(TWO.splitlines(keepends=True)[:3])
        self.assertEqual(
            ("xg_dom_core.c:205: failed to open file '/boot/k': No such file "
             "or directory: Internal error",
             'xc_dom_kernel_file failed: No such file or directory',
             'cannot (re-)build domain: -3'), self.reasons(kernel))

    def test_several_domains(self):
        self.assertEqual(
            ('domain 1: domain 1 device model underlying machinery seemed to '
             'fail (-3), but its function seems to have been successful',
             "domain 2: xg_dom_core.c:205: failed to open file '/boot/k': No "
             'such file or directory: Internal error'), self.reasons(TWO))

    def test_stranger(self):
        self.assertEqual(
            ('domain 12 device model: startup timed out',
             'domain 12 device model: spawn failed (rc=-9)'),
            self.reasons(STRANGER))
        # Nobody else may have said it.
        alone = ''.join(STRANGER.splitlines(keepends=True)[:2])
        self.assertEqual(2, len(self.reasons(alone)))

    def test_what_is_not_shown(self):
        head = '2026-11-25 18:00:01.100+0000: libxl: a.c:1:f: Domain 7:'
        shown = self.reasons(
            f'{head}all is well\n{head}failed: password "hush"\n'
            f'{head}failed: \x1b[2J\u202e\n{head}failed: {"x" * 1000}\n')
        self.assertEqual(('failed: ?[2J?', f'failed: {"x" * 241}…'), shown)


class QemuTest(base.BaseTestCase):

    def test_disks(self):
        self.assertEqual(
            {51712: "Could not open backing file: Could not open "
                    "'/var/lib/nova/instances/_base/ab': No such file or "
                    "directory"}, logs.qemu_disk_reasons(QEMU))
        self.assertEqual({}, logs.qemu_disk_reasons(QEMU_HEALTHY))

    def test_reasons(self):
        reasons = logs.qemu_reasons(QEMU)
        self.assertIn('_base/ab', reasons[0])
        self.assertNotIn('qemu-system', ' '.join(reasons))
        self.assertEqual(1, len(reasons))
        self.assertEqual((), logs.qemu_reasons(QEMU_HEALTHY))
        self.assertEqual(
            ("/instances/disk.qcow2: Could not open backing file: Could not "
             "open '/_base/ab': No such file or directory",),
            logs.qemu_reasons(QEMU_HVM))
        self.assertIn('DES', logs.qemu_reasons(QEMU_VNC)[0])
        self.assertEqual(logs.MAX_LINES, len(logs.qemu_reasons(
            '\n'.join(f'failed {number}' for number in range(9)))))
