# SPDX-License-Identifier: Apache-2.0
"""What of an instance is to be found in dom0, in Neutron and placement.

A live instance has traces of every kind, a deleted one of none.
"""

from __future__ import annotations

import dataclasses
import shlex

import openstack

from labkit import util
from labkit.host import XenHost

#: One line for each trace: its kind, a colon, and what was found. The
#: script comes by standard input, so that no process has the names it looks
#: for in its arguments but those it is to find.
_SCRIPT = r'''
found() { sed "s|^|$1: |"; }
virsh -q list --all --name | grep -Fx -- "$name" | found 'libvirt domain'
xl list | awk -v n="$name" '$1 == n' | found 'xl list'
find /var/lib/nova/instances -maxdepth 1 -name "$uuid*" | found disks
find /var/log/xen/console -name "*$name*" | found 'console log'
find /etc/libvirt/libxl /var/lib/libvirt/libxl -name "$name*" \
    2>/dev/null | found 'libvirt file'
for port in $ports; do
    short=$(echo "$port" | cut -c 1-11)
    ovs-vsctl --bare --columns=name find Interface \
        "external_ids:iface-id=$port" | grep . | found 'ovs port'
    ip -o link | grep -F -- "$short" | cut -d: -f2 | found 'network device'
done
for domid in $domids; do
    ip -o link | grep -E ": vif$domid\.[0-9]" | cut -d: -f2 |
        found 'network device'
    for path in "/local/domain/$domid" "/libxl/$domid" \
            "/local/domain/0/device-model/$domid" \
            $(xenstore-ls -f /local/domain/0/backend |
              grep -oE "^/local/domain/0/backend/[a-z0-9_]+/$domid " |
              sort -u); do
        xenstore-exists "$path" && echo "$path" | found xenstore
    done
done
xenstore-ls -f | grep -F -e "$uuid" -e "\"$name\"" | cut -d= -f1 |
    found xenstore
pgrep -a qemu | grep -F -- "$name" | cut -c 1-60 | found 'qemu process'
losetup --list --noheadings --output NAME,BACK-FILE | grep -F -- "$uuid" |
    found 'loop device'
exit 0
'''


@dataclasses.dataclass(frozen=True)
class Traces:
    """Where to look for one instance.

    :ivar uuid: its id in Nova.
    :ivar name: its domain's name.
    :ivar ports: ids of its ports in Neutron.
    :ivar domids: ids its domain has had in Xen.
    """

    uuid: str
    name: str
    ports: tuple[str, ...] = ()
    domids: tuple[str, ...] = ()

    @classmethod
    def of(cls, cloud: openstack.connection.Connection, host: XenHost,
           uuid: str) -> Traces:
        """Those of an instance that Nova still knows."""
        name = cloud.compute.get_server(uuid).instance_name
        domid = host.ssh(['xl', 'domid', name], check=False).stdout.split()
        ports = [port.id for port in cloud.network.ports(device_id=uuid)]
        return cls(uuid, name, tuple(ports), tuple(domid))

    def on_host(self, host: XenHost) -> list[str]:
        """What dom0 has of it, one line for each thing."""
        values = {'uuid': self.uuid, 'name': self.name,
                  'ports': ' '.join(self.ports),
                  'domids': ' '.join(self.domids)}
        script = ''.join(f'{key}={shlex.quote(value)}\n'
                         for key, value in values.items()) + _SCRIPT
        return host.ssh(['sh', '-s'], input=script).stdout.splitlines()

    def in_cloud(self, cloud: openstack.connection.Connection) -> list[str]:
        """What Neutron and placement have of it."""
        allocations = cloud.placement.get(
            f'/allocations/{self.uuid}').json()['allocations']
        return [*(f'port: {port.id}' for port in
                  cloud.network.ports(device_id=self.uuid)),
                *(f'allocation: on {provider} {held["resources"]}'
                  for provider, held in allocations.items())]

    def wait_for_none(
        self, host: XenHost,
        cloud: openstack.connection.Connection | None = None,
        timeout: float = 240,
    ) -> None:
        """Wait until there are none; some go a little after the server.

        :param cloud: look there too.
        :raises util.LabError: with those that stay.
        """
        left: list[str] = []

        def none() -> bool:
            left[:] = self.on_host(host)
            if cloud:
                left.extend(self.in_cloud(cloud))
            return not left

        try:
            util.wait_for(f'traces of {self.name} to go', none, timeout,
                          interval=2)
        except util.LabError:
            raise util.LabError(f'{self.name} ({self.uuid}) left: '
                                + '; '.join(left)) from None
