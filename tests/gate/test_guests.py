# SPDX-License-Identifier: Apache-2.0
"""A guest of each type: what is seen inside, its power, its end.

Each class boots one guest when a test first needs it. A test takes it as it
finds it and makes it run, so the tests of a class may come in any order; the
order of their names is only the quickest one.
"""

from __future__ import annotations

from collections.abc import Mapping
import functools
import time
import types
from typing import Any
from typing import ClassVar

from openstack import exceptions

from labkit import images
from labkit import util
from labkit import vnc
from tests.gate import base
from tests.gate import guest as guest_lib
from tests.gate.rows import consoles
from tests.gate.rows import guest_agent
from tests.gate.rows import interfaces
from tests.gate.rows import limits
from tests.gate.rows import rebuild
from tests.gate.rows import rescue
from tests.gate.rows import resize
from tests.gate.rows import snapshot
from tests.gate.rows import suspend

#: Nova looks at power states by itself every 600 s
#: (``sync_power_state_interval``); what is seen sooner came by an event.
BY_EVENT_TIMEOUT = 240

#: ``[xen44] console_log_max_bytes``, and seconds after which a longer log
#: has been cut: nova-compute looks every ten.
MAX_LOG_BYTES = 1024 * 1024
CUT_TIMEOUT = 180
#: Seconds for libxl to write a guest's memory to dom0's disk.
SAVE_TIMEOUT = 300
#: Seconds for systemd to restart libvirtd.
RESTART_TIMEOUT = 180
FLOOD_END = 'end-of-the-flood'

#: Guests of a class that may end in ERROR. A host that cannot start one takes
#: minutes to say so, and would for each of the class's tests.
MAX_LOST = 2


class GuestCase(base.GateCase):
    """One guest for all tests of a class.

    :cvar guest_type: what the flavor asks for.
    :cvar image_name: what it boots.
    :cvar config_drive: whether it gets one; else the metadata service.
    :cvar specs: extra specs of its flavor.
    :cvar has_qemu: whether a QEMU serves it.
    :cvar linux_type: what Linux in it takes it for; else ``guest_type``.
    """

    guest_type: ClassVar[str]
    image_name: ClassVar[str] = images.DISK
    config_drive: ClassVar[bool] = False
    specs: ClassVar[Mapping[str, str]] = types.MappingProxyType({})
    has_qemu: ClassVar[bool] = True
    linux_type: ClassVar[str] = ''
    _flavor: ClassVar[Any]
    _guest: ClassVar[guest_lib.Guest | None] = None
    _lost: ClassVar[int] = 0

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls._flavor = cls.make_flavor(
            cls.addClassCleanup, guest_type=cls.guest_type,
            swap=64, ephemeral=1, specs=cls.specs)

    def present(self) -> guest_lib.Guest:
        """The guest, in whatever state; a new one where there is none."""
        cls = type(self)
        known = cls._guest
        if known and known.exists():
            if known.server().status != 'ERROR':
                return known
            cls._lost += 1
            if cls._lost >= MAX_LOST:
                self.fail(f'{known.name} is in ERROR, and {MAX_LOST} guests '
                          'of a class are enough: no other is made')
            self.remove_server(known.id)
        cls._guest = self.make_server(
            self.addClassCleanup, flavor=self._flavor,
            image=self.image(self.image_name),
            config_drive=self.config_drive, user_data=guest_lib.USER_DATA)
        return cls._guest

    def seen_type(self) -> str:
        """What ``/sys/hypervisor/guest_type`` says in the guest."""
        return self.linux_type or self.guest_type.upper()

    def running(self) -> guest_lib.Guest:
        """The guest, running, with ssh into it."""
        guest = self.present()
        match guest.server().status:
            case 'SHUTOFF':
                self.cloud.compute.start_server(guest.id)
            case 'PAUSED':
                self.cloud.compute.unpause_server(guest.id)
            case 'SUSPENDED':
                self.cloud.compute.resume_server(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        return guest


class Inside:
    """What every guest finds in itself, and the host has for it."""

    def test_console_has_login_prompt(self: Any) -> None:
        console = self.running().wait_for_login()
        self.assertRegex(console, rf'guest type: {self.seen_type()}\b')
        self.assertIn('Using FIFO-based ABI', console)

    def test_disks_of_flavor(self: Any) -> None:
        guest = self.running()
        sizes = {}
        for name, what in (('ephemeral', 'LABEL=ephemeral0'),
                           ('swap', 'TYPE=swap')):
            sizes[name] = int(guest.ssh(
                f'device=$(blkid -t {what} -o device) && '
                'cat "/sys/block/${device##*/}/size"')) // 2048
        self.assertEqual({'ephemeral': 1024, 'swap': 64}, sizes)
        root = guest.ssh('cat /sys/block/xvda/size')
        self.assertEqual(1024, int(root) // 2048)

    def test_files_are_private(self: Any) -> None:
        directory = f'{base.INSTANCES}/{self.running().id}'
        found = [line.split(maxsplit=3) for line in self.dom0(
            'find', directory, '-printf', r'%y %m %u %f\n').splitlines()]
        wrong = [entry for entry in found if tuple(entry[:3]) not in
                 {('d', '700', 'nova'), ('f', '600', 'nova')}]
        self.assertEqual([], wrong)
        self.assertGreater(len(found), 3)

    def test_inside_address(self: Any) -> None:
        guest = self.running()
        port = guest.port()
        self.assertIn(f' {guest.address}/24 ', guest.ssh(
            'ip -4 -o addr show dev eth0'))
        self.assertEqual(port.mac_address, guest.ssh(
            'cat /sys/class/net/eth0/address'))

    def test_inside_guest_type(self: Any) -> None:
        guest = self.running()
        self.assertEqual(self.seen_type(), guest.ssh(
            'cat /sys/hypervisor/guest_type'))
        self.assertIn('Using FIFO-based ABI', guest.ssh(
            'dmesg | grep xen:events:'))

    def test_inside_metadata(self: Any) -> None:
        guest = self.running()
        source = ('config drive' if self.config_drive
                  else 'metadata service')
        self.assertIn(source, guest.ssh('cat /run/datasource'))
        self.assertEqual(guest.id, guest.ssh(
            'cat /var/lib/cloud/instance-id'))
        self.assertEqual(guest.name, guest.ssh('hostname'))

    def test_inside_user_data(self: Any) -> None:
        guest = self.running()
        said = util.wait_for(
            f'user data of {guest.name} to run',
            lambda: guest.ssh('cat /root/user-data', check=False), 60)
        self.assertEqual(f'user data of {guest.name}', said)

    def test_port_is_wired(self: Any) -> None:
        guest = self.running()
        port = guest.port()
        self.assertEqual(('ACTIVE', self.host.name, 'ovs'),
                         (port.status, port.binding_host_id,
                          port.binding_vif_type))
        mac = self.dom0('ovs-vsctl', '--bare',
                        '--columns=external_ids', 'find', 'Interface',
                        f'external_ids:iface-id={port.id}')
        self.assertIn(f'attached-mac={port.mac_address}',
                      mac.replace('"', ''))

    def test_vanishes_when_deleted(self: Any) -> None:
        guest = self.present()
        traces = self.traces(guest)
        seen = traces.on_host(self.host)
        for kind in ('libvirt domain', 'disks', 'console log', 'ovs port',
                     'network device'):
            self.assertTrue([trace for trace in seen
                             if trace.startswith(kind)], (kind, seen))
        self.assertEqual(2, len(traces.in_cloud(self.cloud)))
        self.cloud.compute.delete_server(guest.id)
        guest.wait_for_delete()
        traces.wait_for_none(self.host, self.cloud)


class Screen:
    """The VNC console, as a browser would reach it."""

    def test_screen(self: Any) -> None:
        guest = self.running()
        url = self.cloud.compute.create_console(guest.id, 'novnc')['url']
        path = consoles.SCREENS / f'{guest.name}.png'
        picture = vnc.save(url, path)
        util.say(f'  {path}: {picture.width}x{picture.height}, '
                 f'{picture.colours()} colours')
        self.assertTrue(path.read_bytes().startswith(b'\x89PNG'))
        self.assertGreaterEqual(picture.width, 640)
        self.assertGreater(picture.colours(), 1)


class NoScreen:
    """A guest without one says so, rather than showing nothing."""

    def test_screen_is_refused(self: Any) -> None:
        guest = self.running()
        error = self.assertRaises(
            exceptions.BadRequestException, self.cloud.compute.create_console,
            guest.id, 'novnc')
        self.assertIn('console type vnc', str(error))


class StopStart:
    """Nova's stop and start."""

    @base.slow  # Tempest does it with PV guests.
    def test_power_stop_and_start(self: Any) -> None:
        guest = self.running()
        before = guest.boot_id()
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF', guest_lib.STOP_TIMEOUT)
        self.assertNotIn(guest.domain, self.dom0('xl', 'list'))
        self.cloud.compute.start_server(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)


class SoftReboot:
    """Nova's soft reboot: the guest is asked."""

    @base.slow
    def test_power_soft_reboot(self: Any) -> None:
        guest = self.running()
        before = guest.boot_id()
        self.cloud.compute.reboot_server(guest.id, 'SOFT')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)


class HardReboot:
    """Nova's hard reboot: the domain is made anew, its console log kept.

    Before it, the guest writes more than a console log may have.

    :cvar console_device: where it writes.
    """

    console_device: ClassVar[str] = '/dev/hvc0'

    @base.unhurried
    def test_power_hard_reboot(self: Any) -> None:
        guest = self.running()
        before = guest.boot_id()
        domid = self.dom0('xl', 'domid', guest.domain)
        log = self.console_log(guest)
        logs = [log]
        if self.has_qemu:
            logs.append(f'/var/log/xen/qemu-dm-{guest.domain}.log')
        # In a guest of such a slow host, a serial port takes minutes for
        # what a real one writes in seconds: dom0 helps.
        for path in logs:
            self.dom0('sh', '-c', f'yes | head -c 2000000 >> {path}')
        guest.ssh(f'timeout 15 yes > {self.console_device}; '
                  f'echo; echo {FLOOD_END} > {self.console_device}',
                  timeout=120)
        for path in logs:
            util.wait_for(
                f'{path} to be cut',
                functools.partial(self.is_cut, path), CUT_TIMEOUT, interval=5)
        self.assertIn(FLOOD_END, guest.console())
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)
        self.assertNotEqual(domid, self.dom0('xl', 'domid', guest.domain))

        # It has gone on being written right behind what is kept.
        def written_since() -> str:
            found = self.dom0('grep', '-a', '-A', '9999', FLOOD_END, log)
            return found.partition(FLOOD_END)[2].strip()

        util.wait_for(f'more in the log of {guest.name}', written_since,
                      CUT_TIMEOUT, interval=5)
        self.assertEqual(0, int(self.dom0(
            'sh', '-c', f"tr -cd '\\000' < {log} | wc -c")))

    def is_cut(self: Any, path: str) -> bool:
        """Whether a log in dom0 is no longer than it may be."""
        return int(self.dom0('stat', '-c', '%s', path)) <= MAX_LOG_BYTES

    def console_log(self, guest: guest_lib.Guest) -> str:
        """Path in dom0 of what the guest writes to ``console_device``."""
        return f'/var/log/xen/console/guest-{guest.domain}.log'


class SerialHardReboot(HardReboot):
    """The same with the serial port of an HVM guest: its BIOS takes long."""

    console_device = '/dev/ttyS0'

    @base.slow
    def test_power_hard_reboot(self: Any) -> None:
        super().test_power_hard_reboot()

    def console_log(self, guest: guest_lib.Guest) -> str:
        return f'/var/lib/nova/instances/{guest.id}/console.log'


class Pause:
    """Nova's pause: no vCPU runs, and the guest goes on where it was."""

    def test_power_pause(self: Any) -> None:
        guest = self.running()
        before = guest.boot_id()
        self.cloud.compute.pause_server(guest.id)
        guest.wait_for_status('PAUSED')
        self.assertFalse(guest.reachable())
        self.cloud.compute.unpause_server(guest.id)
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        self.assertEqual(before, guest.boot_id())


class SlowPause(Pause):
    """The same, where it takes longest."""

    @base.slow
    def test_power_pause(self: Any) -> None:
        super().test_power_pause()


class RebootsItself:
    """A reboot from inside is none of Nova's business."""

    @base.unhurried
    def test_reboots_itself(self: Any) -> None:
        guest = self.running()
        before = guest.boot_id()
        guest.leave('reboot')
        guest.wait_for_reboot(before)
        # libxl tells of a stopped domain after the started one.
        time.sleep(10)
        server = guest.server()
        self.assertEqual(('ACTIVE', None),
                         (server.status, server.task_state))


class TurnsItselfOff:
    """A guest that powers itself off is off for Nova too, by an event."""

    # Behind the tests that need it running.
    def test_turns_itself_off(self: Any) -> None:
        guest = self.running()
        guest.leave('poweroff')
        begin = time.monotonic()
        guest.wait_for_status('SHUTOFF', BY_EVENT_TIMEOUT)
        util.say(f'  {guest.name}: off and SHUTOFF',
                 time.monotonic() - begin)


class SurvivesLibvirtd:
    """A guest goes on while libvirtd restarts, and so does nova-compute."""

    # Before the guest turns itself off: the event of that comes through the
    # new connection.
    def test_survives_libvirtd(self: Any) -> None:
        guest = self.running()
        before, pid = guest.boot_id(), self.compute_pid()
        self.host.ssh(['systemctl', 'restart', 'libvirtd'],
                      timeout=RESTART_TIMEOUT)
        self.assertEqual(before, guest.boot_id())
        self.cloud.compute.pause_server(guest.id)
        guest.wait_for_status('PAUSED')
        self.cloud.compute.unpause_server(guest.id)
        guest.wait_for_status('ACTIVE')
        self.assertEqual(before, guest.boot_id())
        self.assertEqual(pid, self.compute_pid())


class Panics:
    """A guest whose kernel panics is off for Nova too, by an event."""

    # Behind the tests that need it running.
    def test_stops_by_panic(self: Any) -> None:
        guest = self.running()
        guest.leave('echo c > /proc/sysrq-trigger')
        begin = time.monotonic()
        guest.wait_for_status('SHUTOFF', BY_EVENT_TIMEOUT)
        util.say(f'  {guest.name}: panicked and SHUTOFF',
                 time.monotonic() - begin)
        self.assertIn('Kernel panic', guest.console())


class Outside:
    """What somebody in dom0 does behind Nova's back, and what heals it."""

    @base.slow
    def test_outside_paused(self: Any) -> None:
        """Nova does not see it; a hard reboot heals it."""
        guest = self.running()
        before = guest.boot_id()
        self.dom0('xl', 'pause', guest.domain)
        state = self.dom0('xl', 'list', guest.domain).split()[-2]
        self.assertIn('p', state)
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        guest.wait_for_reboot(before)

    @base.slow
    def test_outside_saved(self: Any) -> None:
        """Memory that was saved is not resumed: the guest boots anew."""
        guest = self.running()
        before = guest.boot_id()
        self.host.ssh(['virsh', 'managedsave', guest.domain],
                      timeout=SAVE_TIMEOUT)
        guest.wait_for_status('SHUTOFF', BY_EVENT_TIMEOUT)
        self.assertEqual('yes', self.has_saved_memory(guest))
        self.cloud.compute.reboot_server(guest.id, 'HARD')
        guest.wait_for_status('ACTIVE')
        self.assertEqual('no', self.has_saved_memory(guest))
        guest.wait_for_reboot(before)

    def has_saved_memory(self: Any, guest: guest_lib.Guest) -> str:
        """What libvirt says of it: ``yes`` or ``no``."""
        said = dict(line.split(':', 1) for line in self.dom0(
            'virsh', 'dominfo', guest.domain).splitlines() if ':' in line)
        return said['Managed save'].strip()

    @base.slow
    def test_outside_undefined(self: Any) -> None:
        """It is stopped all the same, and defined anew when it starts."""
        guest = self.running()
        self.dom0('virsh', 'undefine', guest.domain)
        self.cloud.compute.stop_server(guest.id)
        guest.wait_for_status('SHUTOFF', guest_lib.STOP_TIMEOUT)
        self.assertNotIn(guest.domain,
                         self.dom0('virsh', 'list', '--all', '--name'))
        self.cloud.compute.start_server(guest.id)
        guest.wait_for_status('ACTIVE')
        # That it boots is seen by the next test.
        self.assertIn(guest.domain,
                      self.dom0('virsh', 'list', '--persistent', '--name'))


class PV(Inside, Outside, StopStart, SoftReboot, TurnsItselfOff, NoScreen,
         suspend.Suspend, suspend.CrashDump, suspend.Diagnostics,
         snapshot.SnapshotBoots, interfaces.Interfaces, limits.DiskLimits,
         consoles.SerialConsole, rebuild.Rebuild, rescue.Rescue,
         resize.Resize, interfaces.SecurityGroups, SurvivesLibvirtd,
         GuestCase):
    """Paravirtual, booted by grub from its own disk."""

    guest_type = 'pv'
    specs: ClassVar[Mapping[str, str]] = limits.DISK_SPECS


class AgentPV(guest_agent.AgentChannel, GuestCase):
    """A PV guest with a guest agent."""

    guest_type = 'pv'
    image_name = images.AGENT


class AgentPVH(guest_agent.AgentChannel, GuestCase):
    """The same with a PVH guest."""

    guest_type = 'pvh'
    image_name = images.AGENT


class PVH(Inside, HardReboot, SlowPause, RebootsItself, NoScreen, Panics,
          suspend.SlowSuspend, limits.CpuLimits, limits.DiskLimits,
          suspend.Diagnostics, snapshot.SlowSnapshot,
          interfaces.InterfaceLimit, interfaces.SlowInterfaces,
          rescue.SlowRescue, rebuild.SlowRebuild, consoles.SlowSerialConsole,
          resize.ConfirmedResize, GuestCase):
    """PVH, booted by grub from its own disk, with a config drive."""

    guest_type = 'pvh'
    config_drive = True
    specs: ClassVar[Mapping[str, str]] = {
        **limits.CPU_SPECS, **limits.DISK_SPECS, **interfaces.LIMIT_SPECS}


class HVM(Inside, SoftReboot, SerialHardReboot, SlowPause, Screen,
          consoles.HiddenScreen, consoles.BrowserScreen,
          suspend.SlowSuspend, snapshot.SlowSnapshot, suspend.Diagnostics,
          interfaces.SlowInterfaces, limits.DiskLimits, rescue.SlowRescue,
          rebuild.SlowRebuild, consoles.SlowSerialConsole, resize.Resize,
          GuestCase):
    """A whole PC; boots a given kernel, which its slow BIOS need not read."""

    guest_type = 'hvm'
    specs: ClassVar[Mapping[str, str]] = limits.DISK_SPECS
    image_name = images.DIRECT
    config_drive = True
    console_device = '/dev/ttyS0'
