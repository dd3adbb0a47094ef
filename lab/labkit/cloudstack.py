# SPDX-License-Identifier: Apache-2.0
"""A management server of CloudStack's for a Xen host: a double of one.

It runs the entry point of the folder that ``xen44-cloudstack bundle`` made in
dom0, over SSH with the key that may do nothing else. It is used inside the
lab's network namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import os
import pathlib
import re
import tempfile
from typing import Any
import uuid

from labkit import compute
from labkit import guest
from labkit import provisioner
from labkit import util
from labkit.cloud import GUEST_KEY
from labkit.host import XenHost

COMMAND = f'{compute.VENV}/bin/xen44-cloudstack'

#: In dom0: all that is made, and what is put in place.
PLACE = '/var/lib/xen44-gate'
VMS = f'{PLACE}/vms'
CONF = '/etc/xen44/xen44.conf'
KEYS = '/root/.ssh/authorized_keys'
BRIDGE = 'gate-cs0'
IMAGE = 'small.qcow2'
#: Where the image does not boot by itself: what boots, beside it.
KERNEL = 'small.vmlinuz'
RAMDISK = 'small.initrd'

OPTIONS = '''[xen44_cloudstack]
storage_path = {vms}
images_directory = {place}/images
network_mode = bridge
vnc_listen = {address}
stop_timeout = 120
'''

#: Seconds: under emulation the imports take most of them.
TIMEOUT = 900

#: Of a guest, and of the way out of its network.
ADDRESS = '10.20.0.37'
GATEWAY = '10.20.0.1'

#: Bytes of a guest's memory.
MEMORY = 192 * 1024 ** 2


@contextlib.contextmanager
def management_server(host: XenHost) -> Iterator[provisioner.Provisioner]:
    """Set a Xen host up as the manual says, and undo that after the body.

    :param host: it runs, with the driver.
    :returns: a double of a management server, for :class:`Vm`.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(
            host.ssh, f'rm -rf {PLACE} {CONF}; ip link delete {BRIDGE}; '
                      f'test ! -e {KEYS}.gate || mv {KEYS}.gate {KEYS}',
            check=False)
        host.ssh(f'mkdir -p -m 700 {PLACE}/images /etc/xen44 && '
                 f'ip link add {BRIDGE} type bridge && '
                 f'ip link set {BRIDGE} up && cp -p {KEYS} {KEYS}.gate')
        host.ssh(['install', '--mode=600', '/dev/stdin', CONF],
                 input=OPTIONS.format(vms=VMS, place=PLACE,
                                      address=host.address))
        files = guest.small_guest(host.arch.name)
        for source, name in ((files.disk_qcow2, IMAGE),
                             (files.kernel, KERNEL), (files.ramdisk, RAMDISK)):
            host.copy_to(source, f'{PLACE}/images/{name}')
        steps = host.ssh([COMMAND, 'bundle', f'{PLACE}/xen44', '--address',
                          host.address], timeout=TIMEOUT).stdout
        found = re.search(r'^restrict,command=.*$', steps, re.M)
        if found is None:
            raise util.LabError(f'bundle names no line for a key: {steps}')
        host.ssh(['tee', '--append', KEYS], input=f'{found[0]}\n')
        local = pathlib.Path(stack.enter_context(
            tempfile.TemporaryDirectory()))
        host.copy_from(f'{PLACE}/xen44/', local / 'xen44')
        payloads = local / 'payloads'
        payloads.mkdir()
        yield provisioner.Provisioner(
            local / 'xen44/xen44.py', payloads,
            environment={'PATH': os.environ['PATH'], 'TMPDIR': str(local)},
            details={'extension': {}, 'host': {
                'dom0': host.address, 'network_bridge': BRIDGE,
                'console_host': host.address}})


class Vm:
    """A VM of a management server's.

    :param server: the server.
    :param guest_type: what it is to be.
    :param arch: its architecture. What does not boot by itself there is
        given its kernel.
    :param vlan: the VLAN of its network, or None for none.
    :param host: details of its host, instead of the server's.
    :ivar uuid: its UUID.
    :ivar name: CloudStack's instance name, the domain's.
    """

    def __init__(self, server: provisioner.Provisioner,
                 guest_type: str = 'pv', *,
                 arch: str = 'x86_64', vlan: int | None = None,
                 host: Mapping[str, str] | None = None) -> None:
        self.server = server
        self.guest_type = guest_type
        self.arch = arch
        self.vlan = vlan
        self.host = host or {}
        self.uuid = str(uuid.uuid4())
        self.name = f'i-9-{uuid.uuid4().int % 10 ** 6}-VM'

    def change(self, payload: dict[str, Any]) -> None:
        """Make a payload one of this VM."""
        if 'virtualmachineid' not in payload:
            return
        payload['virtualmachineid'] = self.uuid
        payload['virtualmachinename'] = self.name
        vm = payload['cloudstack.vm.details']
        vm.update(uuid=self.uuid, name=self.name, arch=self.arch, cpus=1,
                  maxRam=MEMORY, minRam=MEMORY)
        for nic in vm['nics']:
            nic.update(broadcastUri=f'vlan://{self.vlan or "untagged"}',
                       ip=ADDRESS, netmask='255.255.255.0', gateway=GATEWAY)
        vm['details']['SSH.PublicKey'] = GUEST_KEY.with_suffix(
            '.pub').read_text()
        payload['externaldetails']['host'].update(self.host)
        boot = {} if self.arch not in guest.FOREIGN else {
            'kernel': KERNEL, 'ramdisk': RAMDISK, 'cmdline': guest.CMDLINE}
        payload['externaldetails']['virtualmachine'] = {
            'image': IMAGE, 'guest_type': self.guest_type,
            'root_disk_gb': '1', **boot}

    def act(self, action: str, **parameters: Any) -> provisioner.Answer:
        """Have the server run an action.

        :param action: a standard or a custom one.
        :param parameters: those of a custom action.
        """
        return self.server.act(action, seconds=TIMEOUT, change=self.change,
                               parameters=parameters)

    def do(self, action: str, **parameters: Any) -> provisioner.Answer:
        """Run an action that has to succeed.

        :raises LabError: it failed.
        """
        answer = self.act(action, **parameters)
        if not answer.success:
            raise util.LabError(f'{action} of {self.name}: {answer.text}')
        return answer

    def console(self) -> str:
        """The end of its console log, without carriage returns.

        The small guest writes one before its login prompt.
        """
        message: str = self.do('ConsoleLog').json['message']
        return message.replace('\r', '')
