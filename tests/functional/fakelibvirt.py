# SPDX-License-Identifier: Apache-2.0
"""A double of libvirt's Python binding, with one Xen host behind it.

It knows what ``xen44_driver.xen`` calls, and tells what real Xen told (see
the captured XML of tests/unit/xen): domains have states, ids that change at
every start, and lifecycle events in libxl's odd order. It is no judge of
domain XML; tests/unit/xen asks libvirt's own schema for that.
"""

import contextlib
import itertools
import os
import queue
import shutil
import threading
import uuid

import fixtures
import libvirt
from lxml import etree

from xen44_driver.xen import connection
from xen44_driver.xen import loops

CAPABILITIES = """
<capabilities>
  <host>
    <cpu>
      <arch>{arch}</arch>
      <model>pentium-v1</model>
      <topology sockets='1' dies='1' clusters='1' cores='8' threads='2'/>
      <feature name='pni'/><feature name='sse2'/><feature name='aes'/>
      <feature name='svm'/>
    </cpu>
    <migration_features><live/></migration_features>
    <topology><cells num='1'><cell id='0'>
      <memory unit='KiB'>67108864</memory><cpus num='16'>{cpus}</cpus>
    </cell></cells></topology>
  </host>
  {guests}
</capabilities>
"""

CPU = "<cpu id='{}' socket_id='0' core_id='{}' siblings='{}-{}'/>"

GUEST = """
<guest><os_type>{os_type}</os_type>
  <arch name='{arch}'><wordsize>64</wordsize>
    <emulator>/usr/lib/xen/bin/qemu-system-i386</emulator>
    <machine>{machine}</machine><domain type='xen'/>
  </arch>
</guest>
"""

DOMAIN_CAPABILITIES = """
<domainCapabilities>
  <domain>xen</domain><machine>{machine}</machine><arch>x86_64</arch>
  <vcpu max='{max_vcpus}'/>
  <os supported='yes'><loader supported='no'/></os>
  <devices>
    <disk supported='yes'><enum name='bus'>
      <value>ide</value><value>scsi</value><value>xen</value>
    </enum></disk>
    <graphics supported='yes'><enum name='type'>
      <value>vnc</value>
    </enum></graphics>
    <video supported='yes'><enum name='modelType'>
      <value>vga</value><value>cirrus</value><value>xen</value>
    </enum></video>
  </devices>
</domainCapabilities>
"""

#: machine -> (os_type, most vCPUs)
MACHINES = {
    'xenpv': ('xen', 512),
    'xenpvh': ('xenpvh', 512),
    'xenfv': ('hvm', 128),
}


def error(code: int, message: str) -> libvirt.libvirtError:
    """An error as libvirt raises it."""
    raised = libvirt.libvirtError(message)
    raised.err = (code, libvirt.VIR_FROM_LIBXL, message, 2,
                  None, None, None, -1, -1)
    return raised


class Domain:
    """One domain; what the binding calls ``virDomain``.

    :ivar xml: its definition
    :ivar live: its XML while it runs
    :ivar vifs: number and MAC address of each interface that it has while it
        runs; libxl's view, not libvirt's
    :ivar disks: target of each disk that it has while it runs, and ``file``
        if QEMU serves it or ``block`` if dom0's kernel does; libxl's view
    """

    def __init__(self, host: 'XenHost', xml: str) -> None:
        self._host = host
        self.xml = xml
        self.live = xml
        self.vifs: dict[int, str] = {}
        self.disks: dict[str, str] = {}
        tree = etree.fromstring(xml)
        self._name = tree.findtext('name')
        self._uuid = tree.findtext('uuid')
        self._memory = int(tree.findtext('memory'))
        self._vcpus = int(tree.findtext('vcpu'))
        self.id = -1
        self.running = libvirt.VIR_DOMAIN_SHUTOFF
        self.reason = 0
        self.scheduler = {'weight': 256, 'cap': 0}

    def name(self):
        return self._name

    def UUIDString(self):
        return self._uuid

    def UUID(self):
        return uuid.UUID(self._uuid).bytes

    def ID(self):
        return self.id

    def isActive(self):
        return int(self.id != -1)

    def isPersistent(self):
        return 1

    def state(self, flags=0):
        self._host.check(self)
        return [self.running, self.reason]

    def info(self):
        kib = self._memory * 1024
        return [self.running, kib, kib, self._vcpus, 12 * 10 ** 9]

    def XMLDesc(self, flags=0):
        self._host.check(self)
        inactive = flags & libvirt.VIR_DOMAIN_XML_INACTIVE
        live = self.isActive() and not inactive
        tree = etree.fromstring(self.live if live else self.xml)
        vnc = tree.find("devices/graphics[@type='vnc']")
        if live:
            tree.set('id', str(self.id))
            if vnc is not None:
                vnc.set('port', str(5900 + self.id))
        return etree.tostring(tree, encoding='unicode')

    def metadata(self, kind, uri, flags=0):
        self._host.check(self)
        if uri not in self.xml:
            raise error(libvirt.VIR_ERR_NO_DOMAIN_METADATA, 'no metadata')
        return '<instance/>'

    def jobInfo(self):
        self._host.check(self)
        return [libvirt.VIR_DOMAIN_JOB_NONE] + [0] * 11

    def hasManagedSaveImage(self, flags=0):
        self._host.check(self)
        return int(self._uuid in self._host.saved)

    def managedSave(self, flags=0):
        self._host.check(self)
        self._host.fail('save')
        self._need_running()
        self._host.saved.add(self._uuid)
        self._off(libvirt.VIR_DOMAIN_SHUTOFF_SAVED)
        return 0

    def managedSaveRemove(self, flags=0):
        self._host.check(self)
        if self._uuid not in self._host.saved:
            raise error(libvirt.VIR_ERR_INTERNAL_ERROR, 'there is no file')
        self._host.saved.remove(self._uuid)
        return 0

    def pMWakeup(self, flags=0):
        self.running = libvirt.VIR_DOMAIN_RUNNING
        return 0

    def coreDump(self, to, flags=0):
        self._host.check(self)
        self._need_running()
        with open(to, 'w') as file:
            file.write('core')
        self._host.fail('dump')
        return 0

    def schedulerParameters(self):
        self._host.check(self)
        self._need_running()
        return self.scheduler

    def setSchedulerParameters(self, values):
        self._host.check(self)
        self._host.fail('schedule')
        self._need_running()
        self.scheduler = dict(values)
        return 0

    def getCPUStats(self, total, flags=0):
        self._need_running()
        return [{'cpu_time': 6 * 10 ** 9}] * self._vcpus

    def interfaceStats(self, device):
        self._need_running()
        return (2080, 18, 0, 1, 1596, 12, 0, 0)

    def blockStats(self, device):
        self._need_running()
        if self.disks.get(device) == 'block':
            return (3, 4096, 2, 1024, -1)
        raise error(libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
                    'unsupported disk driver qemu')

    def create(self):
        return self.createWithFlags(0)

    def createWithFlags(self, flags=0):
        self._host.check(self)
        self._host.fail('create')
        if self.isActive():
            raise error(libvirt.VIR_ERR_OPERATION_INVALID,
                        'domain is already running')
        if self._uuid in self._host.saved:
            self._host.saved.remove(self._uuid)
            self._host.restored.append(self._uuid)
        self.on(paused=flags & libvirt.VIR_DOMAIN_START_PAUSED)
        return 0

    def on(self, *, paused=False):
        """Start, without saying how."""
        self.id = next(self._host.ids)
        self.scheduler = {'weight': 256, 'cap': 0}
        self.running = (libvirt.VIR_DOMAIN_PAUSED if paused
                        else libvirt.VIR_DOMAIN_RUNNING)
        self._begin()
        self._host.tell(self, libvirt.VIR_DOMAIN_EVENT_STARTED)

    def destroy(self):
        return self.destroyFlags(0)

    def destroyFlags(self, flags=0):
        self._host.check(self)
        self._host.fail('destroy')
        self._need_running()
        self._off(libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED)
        return 0

    def shutdownFlags(self, flags=0):
        self._host.check(self)
        self._need_running()
        if self._host.guests_obey:
            self._off(libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
        return 0

    def crash(self):
        """The guest's kernel panics."""
        self._need_running()
        self._off(libvirt.VIR_DOMAIN_SHUTOFF_CRASHED,
                  libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED)

    def reboot(self, flags=0):
        self._need_running()
        self.id = next(self._host.ids)
        self._begin()
        self.scheduler = {'weight': 256, 'cap': 0}
        # libxl's order, and no event called REBOOT.
        self._host.tell(self, libvirt.VIR_DOMAIN_EVENT_STARTED)
        self._host.tell(self, libvirt.VIR_DOMAIN_EVENT_STOPPED)
        return 0

    def suspend(self):
        self._need_running()
        self.running = libvirt.VIR_DOMAIN_PAUSED
        self._host.tell(self, libvirt.VIR_DOMAIN_EVENT_SUSPENDED)
        return 0

    def resume(self):
        self._need_running()
        self.running = libvirt.VIR_DOMAIN_RUNNING
        self._host.tell(self, libvirt.VIR_DOMAIN_EVENT_RESUMED)
        return 0

    def attachDeviceFlags(self, xml, flags=0):
        self._host.check(self)
        device = etree.fromstring(xml)
        if flags & libvirt.VIR_DOMAIN_AFFECT_LIVE:
            self._need_running()
            self.live = self._with(self.live, device)
            try:
                self._host.fail('attach')
                if device.tag == 'disk':
                    self.disks[_target(device)] = _server(device)
                else:
                    self.vifs[max(self.vifs, default=-1) + 1] = _mac(device)
            except libvirt.libvirtError:
                self.live = self._without(self.live, device)
                raise
        else:
            self.xml = self._with(self.xml, device)
        return 0

    def detachDeviceFlags(self, xml, flags=0):
        self._host.check(self)
        device = etree.fromstring(xml)
        if flags & libvirt.VIR_DOMAIN_AFFECT_LIVE:
            self._need_running()
            live = self._without(self.live, device)
            self._host.fail('detach')
            if device.tag == 'disk':
                self._detach_disk(device)
            elif self._host.guests_obey:
                self.drop_vif(_mac(device))
            self.live = live
        else:
            self.xml = self._without(self.xml, device)
        return 0

    def drop_vif(self, mac):
        """libxl takes an interface away."""
        self.vifs = {number: other for number, other in self.vifs.items()
                     if other != mac}

    def _detach_disk(self, disk):
        """libxl takes a disk away, by force if the guest does not obey.

        It fails then, although the disk is gone, if it was there.
        """
        had = self.disks.pop(_target(disk), None)
        if had and not self._host.guests_obey:
            raise error(libvirt.VIR_ERR_INTERNAL_ERROR,
                        'libxenlight failed to detach disk')

    def _begin(self):
        """What a start makes of the definition."""
        self.live = self.xml
        disks = etree.fromstring(self.xml).findall('devices/disk')
        self.disks = {_target(disk): _server(disk) for disk in disks}
        self._host.detach_loops(self)
        self._host.attach_loops(self, [
            disk.find('source').get('file') for disk in disks
            if disk.get('type') == 'file' and _server(disk) == 'block'])
        self.vifs = dict(enumerate(map(_mac, etree.fromstring(
            self.xml).iterfind('devices/interface'))))

    @staticmethod
    def _with(xml, device):
        tree = etree.fromstring(xml)
        devices = tree.find('devices')
        if device.tag == 'disk':
            if _target(device) in map(_target, devices.iterfind('disk')):
                raise error(libvirt.VIR_ERR_OPERATION_FAILED, 'target '
                            f'{_target(device)} already exists')
        elif _mac(device) in map(_mac, devices.iterfind('interface')):
            raise error(libvirt.VIR_ERR_INVALID_ARG, 'network device with '
                        f'mac {_mac(device)} already exists')
        devices.append(device)
        return etree.tostring(tree, encoding='unicode')

    @staticmethod
    def _without(xml, device):
        tree = etree.fromstring(xml)
        key = _target if device.tag == 'disk' else _mac
        found = [other for other in tree.iterfind(f'devices/{device.tag}')
                 if key(other) == key(device)]
        if len(found) != 1:
            raise error(libvirt.VIR_ERR_OPERATION_FAILED,
                        f'no (or several) devices matching {key(device)} '
                        'found')
        found[0].getparent().remove(found[0])
        return etree.tostring(tree, encoding='unicode')

    def undefine(self):
        return self.undefineFlags(0)

    def undefineFlags(self, flags=0):
        self._host.check(self)
        self._host.domains.pop(self._uuid)
        if flags & libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE:
            self._host.saved.discard(self._uuid)
        self._host.tell(self, libvirt.VIR_DOMAIN_EVENT_UNDEFINED)
        return 0

    def _need_running(self):
        if not self.isActive():
            raise error(libvirt.VIR_ERR_OPERATION_INVALID,
                        'domain is not running')

    def _off(self, reason, detail=0):
        self.id = -1
        self._host.detach_loops(self)
        self.running = libvirt.VIR_DOMAIN_SHUTOFF
        self.reason = reason
        self._host.tell(self, libvirt.VIR_DOMAIN_EVENT_STOPPED, detail)


def _mac(interface):
    return interface.find('mac').get('address')


def _target(disk):
    return disk.find('target').get('dev')


def _server(disk):
    return 'block' if disk.find('driver').get('name') == 'phy' else 'file'


class XenHost:
    """A Xen host, and the ``virConnect`` to it.

    :ivar hostname: its name
    :ivar arch: its architecture
    :ivar machines: libvirt machines it offers
    :ivar guests_obey: whether guests shut down when asked, and let devices
        go
    :ivar failures: operation -> message it fails with from now on
    :ivar saved: UUIDs of domains whose memory is saved
    :ivar restored: UUIDs of domains that started with saved memory
    :ivar loops: the directory where Linux would tell of loop devices
    :ivar removes_loops: whether libxl removes those of a domain that ends
    """

    def __init__(self):
        self.hostname = 'xen1.test'
        self.arch = 'x86_64'
        self.loops = None
        self.removes_loops = True
        self._loop_numbers = itertools.count(1)
        self.domains = {}
        self.ids = itertools.count(1)
        self.machines = list(MACHINES)
        self.guests_obey = True
        self.failures = {}
        self.saved = set()
        self.restored = []
        self.xen_version = 4020000
        self.libvirt_version = 11003000
        self.up = True
        self.close_callback = None
        self._callbacks = {}
        self._events = queue.SimpleQueue()
        self._lock = threading.Lock()

    # For tests

    def fail(self, operation):
        """Fail, where a test asked for it."""
        if operation in self.failures:
            raise error(libvirt.VIR_ERR_INTERNAL_ERROR,
                        self.failures[operation])

    def check(self, domain):
        """Fail as libvirt does for a domain that is gone."""
        if domain.UUIDString() not in self.domains:
            raise error(libvirt.VIR_ERR_NO_DOMAIN, 'Domain not found')

    def attach_loops(self, domain, files):
        """What libxl's script does when a domain starts."""
        for file in files:
            directory = os.path.join(
                self.loops, f'loop{next(self._loop_numbers)}', 'loop')
            os.makedirs(directory)
            with open(os.path.join(directory, 'backing_file'), 'w') as entry:
                entry.write(f'{os.path.realpath(file)}\n')

    def detach_loops(self, domain):
        """What it does when the domain has ended."""
        for loop in list(loops.found()) if self.removes_loops else ():
            if loop.uuid == domain.UUIDString():
                shutil.rmtree(os.path.join(self.loops, loop.name))

    def tell(self, domain, event, detail=0):
        """Queue a lifecycle event; the event loop delivers it."""
        self._events.put((domain, event, detail))

    def run_events(self):
        """One round of libvirt's event loop."""
        with contextlib.suppress(queue.Empty):
            domain, event, detail = self._events.get(timeout=0.02)
            with self._lock:
                callbacks = list(self._callbacks.values())
            for callback, opaque in callbacks:
                callback(self, domain, event, detail, opaque)

    def restart_libvirtd(self):
        """Close the connection; what is asked next opens a new one."""
        callback, opaque = self.close_callback
        callback(self, libvirt.VIR_CONNECT_CLOSE_REASON_EOF, opaque)

    # virConnect

    def getVersion(self):
        return self.xen_version

    def getLibVersion(self):
        return self.libvirt_version

    def getType(self):
        return 'Xen'

    def getURI(self):
        return 'xen:///system'

    def getHostname(self):
        return self.hostname

    def getInfo(self):
        # model, MiB, CPUs, MHz, NUMA nodes, sockets, cores, threads
        return ['x86_64', 65536, 16, 2600, 1, 1, 8, 2]

    def getFreeMemory(self):
        return 60 * 1024 ** 3

    def getCapabilities(self):
        cpus = ''.join(
            CPU.format(cpu, cpu // 2, cpu & ~1, cpu | 1) for cpu in range(16))
        return CAPABILITIES.format(arch=self.arch, cpus=cpus, guests=''.join(
            GUEST.format(os_type=MACHINES[machine][0], machine=machine,
                         arch=self.arch)
            for machine in self.machines))

    def baselineCPU(self, cpus, flags=0):
        return "<cpu><model>pentium</model><feature name='sse'/></cpu>"

    def getDomainCapabilities(self, emulatorbin=None, arch=None,
                              machine=None, virttype=None, flags=0):
        if machine not in self.machines:
            raise error(libvirt.VIR_ERR_INVALID_ARG, f'no {machine}')
        return DOMAIN_CAPABILITIES.format(
            machine=machine, max_vcpus=MACHINES[machine][1])

    def listAllDomains(self, flags=0):
        return [self._dom0(), *self.domains.values()]

    def restoreFlags(self, path, dxml=None, flags=0):
        self.fail('restore')
        domain = self.lookupByName(
            os.path.basename(path).removesuffix('.save'))
        if domain.UUIDString() not in self.saved:
            raise error(libvirt.VIR_ERR_OPERATION_FAILED,
                        'cannot read domain image')
        self.restored.append(domain.UUIDString())
        domain.on(paused=flags & libvirt.VIR_DOMAIN_SAVE_PAUSED)
        return 0

    def _dom0(self):
        dom0 = Domain(self, '<domain><name>Domain-0</name>'
                      '<uuid>00000000-0000-0000-0000-000000000000</uuid>'
                      '<memory>2048</memory><vcpu>2</vcpu></domain>')
        dom0.id = 0
        dom0.running = libvirt.VIR_DOMAIN_RUNNING
        dom0.state = lambda flags=0: [libvirt.VIR_DOMAIN_RUNNING, 0]
        return dom0

    def lookupByUUIDString(self, wanted):
        if wanted not in self.domains:
            raise error(libvirt.VIR_ERR_NO_DOMAIN, f'no domain {wanted}')
        return self.domains[wanted]

    def lookupByID(self, wanted):
        if wanted == 0:
            return self._dom0()
        raise error(libvirt.VIR_ERR_NO_DOMAIN, f'no domain {wanted}')

    def lookupByName(self, wanted):
        if wanted == 'Domain-0':
            return self._dom0()
        for domain in self.domains.values():
            if domain.name() == wanted:
                return domain
        raise error(libvirt.VIR_ERR_NO_DOMAIN, f'no domain {wanted}')

    def defineXML(self, xml):
        return self.defineXMLFlags(xml, 0)

    def defineXMLFlags(self, xml, flags=0):
        self.fail('define')
        new = Domain(self, xml)
        domain = self.domains.setdefault(new.UUIDString(), new)
        domain.xml = xml
        self.tell(domain, libvirt.VIR_DOMAIN_EVENT_DEFINED)
        return domain

    def domainEventRegisterAny(self, domain, event_id, callback, opaque):
        with self._lock:
            number = len(self._callbacks) + 1
            self._callbacks[number] = (callback, opaque)
        return number

    def domainEventDeregisterAny(self, number):
        with self._lock:
            self._callbacks.pop(number, None)

    def registerCloseCallback(self, callback, opaque):
        self.close_callback = (callback, opaque)

    def unregisterCloseCallback(self):
        self.close_callback = None

    def setKeepAlive(self, interval, count):
        return 0

    def isAlive(self):
        return int(self.up)

    def close(self):
        return 0


class Libvirt:
    """The binding: its functions are ours, the rest is real.

    :ivar host: the Xen host of the test that runs
    """

    def __init__(self) -> None:
        self.host = XenHost()

    def open(self, uri=None):
        if not self.host.up:
            raise error(libvirt.VIR_ERR_NO_CONNECT,
                        'Failed to connect socket: No such file')
        return self.host

    def virEventRegisterDefaultImpl(self):
        return 0

    def virEventRunDefaultImpl(self):
        self.host.run_events()
        return 0

    def registerErrorHandler(self, handler, context):
        return 0

    def __getattr__(self, name):
        return getattr(libvirt, name)


#: For all tests of the process: the event loop, once it runs, never ends, and
#: would wait in the real libvirt for ever if it met it between two tests.
_LIBVIRT = Libvirt()


class FakeLibvirtFixture(fixtures.Fixture):
    """Put the double in libvirt's place, with a new host.

    :ivar host: the Xen host behind it
    """

    def _setUp(self):
        self.host = _LIBVIRT.host = XenHost()
        connection.libvirt = _LIBVIRT
        self.host.loops = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MockPatchObject(
            loops, 'SYSFS', self.host.loops))
