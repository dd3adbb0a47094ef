# SPDX-License-Identifier: Apache-2.0
"""Make a new server of a domain that somebody else made.

Nova cannot adopt a domain: its API makes servers of images and volumes only,
and each create ends in the driver's ``spawn()``. So the content of the disks
is copied: the root disk into an image of which the server is made, with the
kernel if the domain boots one of the host's, and other disks into volumes.
The ports get the MAC addresses of the domain's interfaces.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import io
import math
import os
from typing import Any

from keystoneauth1 import exceptions as keystone
from nova import exception
from nova import objects
from openstack import exceptions
from oslo_utils import units

from xen44_driver.cmd import foreign as foreign_lib
from xen44_driver.cmd import report
from xen44_driver.compute import devices
from xen44_driver.compute import disk_class
from xen44_driver.compute import guest_type
from xen44_driver.compute import machine as machine_lib
from xen44_driver.storage import kinds
from xen44_driver.xen.guesttype import GuestType

#: Property of volumes and servers: the domain that they were made of. Images
#: have a tag instead, as a property would be that of each snapshot, too.
MARK = 'xen44_import'
#: Property of servers: the stamp of the domain's disks. The users of a project
#: can set the other one as they like.
STAMP = 'xen44_import_stamp'

#: Seconds between two looks at a server or a volume.
INTERVAL = 5

#: What the cloud raises if it does not do what it is asked for.
ERRORS = (exceptions.SDKException, keystone.ClientException)

# The most characters of a name in Glance, Cinder, Neutron and Nova.
_MAX_NAME = 255

# Stands for the images that are not made yet.
_LATER = '00000000-0000-0000-0000-000000000000'


class NotMade(Exception):
    """A server could not be made; what was made for it is removed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a domain does not tell.

    :ivar flavor: name or id of the server's flavor.
    :ivar networks: names or ids of the networks of its interfaces, in their
        order; one for all of them.
    :ivar timeout: seconds for the server to start, and for each volume.
    """

    flavor: str | None
    networks: Sequence[str]
    timeout: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Nic:
    """An interface: a port that exists, or the network for a new one."""

    mac: str
    port: str | None = None
    network: str | None = None


@dataclasses.dataclass(slots=True, kw_only=True)
class Plan:
    """How a server is to be made.

    :ivar foreign: the domain.
    :ivar flavor: openstacksdk's flavor.
    :ivar nics: its interfaces.
    :ivar server: the server that a run has made that was killed since.
    :ivar needs: what is missing for it; the domain itself is in order.
    """

    foreign: foreign_lib.Foreign
    flavor: Any = None
    nics: list[_Nic] = dataclasses.field(default_factory=list)
    server: str | None = None
    needs: list[str] = dataclasses.field(default_factory=list)


def _tag(foreign: foreign_lib.Foreign) -> str:
    return f'{MARK}={foreign.uuid}'


def properties(foreign: foreign_lib.Foreign) -> dict[str, str]:
    """Return the properties of the image of a domain's root disk."""
    found = {'img_hv_type': 'xen', 'img_config_drive': 'optional'}
    # Nova has no mode for PVH, and "xen" would be PV.
    if foreign.guest_type not in (None, GuestType.PVH):
        found['hw_vm_mode'] = guest_type.mode_of(foreign.guest_type)
    if foreign.uefi:
        found['hw_firmware_type'] = 'uefi'
    if foreign.local_time:
        found['os_type'] = 'windows'
    if foreign.vif_model:
        found['hw_vif_model'] = foreign.vif_model
    if foreign.disks[0].target.startswith('sd'):
        found['hw_disk_bus'] = 'scsi'
    if foreign.kernel:
        found['os_command_line'] = foreign.kernel.cmdline
    return found


# Before anything is made

def problems(foreign: foreign_lib.Foreign,
             made: Sequence[Any]) -> Iterator[str]:
    """Yield why no server can be made of a domain.

    :param foreign: the domain.
    :param made: its servers, see :func:`earlier`.
    """
    yield from foreign.problems
    for disk in foreign.disks:
        if disk.problem:
            yield (f'disk {disk.target} ({disk.source}, {disk.format}): '
                   f'{disk.problem}')
    if not any(_is_of(server, foreign) for server in made):
        for server in made:
            yield (f'server {server.id} was made of it, and not of what is on '
                   'its disks now: if nobody needs that server, openstack '
                   f'server delete {server.id}, and import it again; else '
                   f'virsh undefine {foreign.uuid}')


def earlier(connection: Any) -> dict[str, list[Any]]:
    """Return the servers that were made of domains, by the domains' UUIDs.

    :param connection: openstacksdk's connection.
    """
    found: dict[str, list[Any]] = collections.defaultdict(list)
    for server in connection.compute.servers():
        if MARK in (server.metadata or {}):
            found[server.metadata[MARK]].append(server)
    return found


def _is_of(server: Any, foreign: foreign_lib.Foreign) -> bool:
    """Return whether a server was made of what is on a domain's disks."""
    metadata = server.metadata or {}
    return ((metadata.get(MARK), metadata.get(STAMP))
            == (foreign.uuid, foreign.stamp))


def plan(connection: Any, foreign: foreign_lib.Foreign, wanted: Wanted,
         options: machine_lib.Options, made: Sequence[Any]) -> Plan:
    """Find out what a server of a domain is made with, and what is missing.

    :param connection: openstacksdk's connection.
    :param foreign: a domain without :func:`problems`.
    :param wanted: what the command line says.
    :param options: this host's, for what its driver would refuse.
    :param made: its servers, see :func:`earlier`; one of them needs nothing.
    """
    its = Plan(foreign=foreign, server=next(
        (server.id for server in made if _is_of(server, foreign)), None))
    if its.server is not None:
        return its
    if wanted.flavor is None:
        its.needs.append(
            f'--flavor, with {foreign.vcpus} vCPUs, {foreign.memory_mib} MiB '
            f'of memory and a disk of {_gib(foreign.disks[0])} GiB')
    else:
        its.flavor = connection.compute.find_flavor(
            wanted.flavor, ignore_missing=False, get_extra_specs=True)
        its.needs += _unfit(foreign, its.flavor, options)
    if foreign.macs and len(wanted.networks) not in (
            0, 1, len(foreign.macs)):
        its.needs.append(f'--network once, or {len(foreign.macs)} times, '
                          'for each interface')
        return its
    networks = [connection.network.find_network(
        name, ignore_missing=False).id for name in wanted.networks]
    for number, mac in enumerate(foreign.macs):
        network = networks[number % len(networks)] if networks else None
        nic = _nic(connection, mac, network)
        if isinstance(nic, str):
            its.needs.append(nic)
        else:
            its.nics.append(nic)
    return its


def _gib(disk: foreign_lib.Disk) -> int:
    return math.ceil(disk.size / units.Gi)


def _nic(connection: Any, mac: str, network: str | None) -> _Nic | str:
    """Return an interface's port or network, or what is missing."""
    query = {'network_id': network} if network else {}
    # An administrator sees other projects' networks, and their ports, to
    # which they give addresses as they like.
    own = connection.current_project_id
    ports = [port for port
             in connection.network.ports(mac_address=mac, **query)
             if network or port.project_id == own]
    if len(ports) > 1:
        return (f'one port with the address {mac}, and there are '
                f'{len(ports)}: give --network')
    if ports:
        if ports[0].device_id or ports[0].project_id != own:
            return (f'the address {mac}: port {ports[0].id} has it, of '
                    f'{ports[0].device_id or "another project"}')
        return _Nic(mac=mac, port=ports[0].id)
    if network is None:
        return f'--network, or a port with the address {mac}'
    return _Nic(mac=mac, network=network)


def _unfit(foreign: foreign_lib.Foreign, flavor: Any,
           options: machine_lib.Options) -> Iterator[str]:
    """Yield why a flavor does not fit, or what the driver would refuse."""
    for has, needed, what in (
            (flavor.vcpus, foreign.vcpus, 'vCPUs'),
            (flavor.ram, foreign.memory_mib, 'MiB of memory'),
            # Without a size, the disk has that of the image.
            (flavor.disk or _gib(foreign.disks[0]), _gib(foreign.disks[0]),
             'GiB of disk')):
        if has < needed:
            yield (f'another flavor: {flavor.name} has {has} {what}, and the '
                   f'domain {needed}')
    try:
        chosen = _chosen(foreign, flavor, options)
    except exception.Invalid as error:
        yield f'what the driver can do: {error.format_message()}'
        return
    if chosen is not foreign.guest_type:
        yield (f'another flavor: with {flavor.name} it would be '
               f'{chosen}; give one with xen44:guest_type='
               f'{foreign.guest_type}')


def _chosen(foreign: foreign_lib.Foreign, flavor: Any,
            options: machine_lib.Options) -> GuestType:
    """Return the guest type that the server would have here.

    :raises nova.exception.Invalid: a spawn would be refused.
    """
    image = objects.ImageMeta.from_dict({
        'disk_format': foreign.disks[0].format,
        'properties': properties(foreign)})
    its = objects.Flavor(
        name=flavor.name, vcpus=flavor.vcpus, memory_mb=flavor.ram,
        root_gb=flavor.disk, ephemeral_gb=flavor.ephemeral,
        swap=flavor.swap, extra_specs=dict(flavor.extra_specs))
    kernel = _LATER if foreign.kernel else None
    ramdisk = (_LATER if foreign.kernel and foreign.kernel.ramdisk else None)
    chosen = machine_lib.choose(
        image, its, options, kernel_id=kernel, ramdisk_id=ramdisk)
    machine = machine_lib.make(
        image, its, chosen, options, kernel_id=kernel, ramdisk_id=ramdisk,
        disk_class=disk_class.choose(
            its, offered=options.arch.profile(chosen).disk_classes,
            default=options.disk_class),
        disks=[kinds.DiskRecord(
            kind='overlay', name=devices.ROOT, target='xvda',
            file=machine_lib.ROOT_FILE.format(format='qcow2'))])
    machine_lib.check_loader(machine, options.arch.name)
    return chosen


# Make it

def make(connection: Any, its: Plan, wanted: Wanted) -> str:
    """Make the server, and wait until it runs.

    :param connection: openstacksdk's connection.
    :param its: a plan that needs nothing.
    :param wanted: what the command line says.
    :returns: the server's UUID.
    :raises NotMade: it does not run; what was made is removed, except for
        what the message names.
    """
    making = _Making(connection, its, wanted)
    try:
        with contextlib.ExitStack() as undo:
            server = its.server or making.server(undo)
            making.wait(server)
            undo.pop_all()
            return server
    except (*ERRORS, OSError, TimeoutError) as error:
        if its.server:
            making.left.append('to make another one, openstack server delete '
                               f'{its.server}')
        texts = [str(error), *making.left]
        making.left.clear()
        raise NotMade('; '.join(texts)) from error
    finally:
        for text in making.left:
            report.progress(report.sentence(text))


class _Making:
    """One server in the making.

    :ivar left: what could not be removed.
    """

    def __init__(self, connection: Any, its: Plan, wanted: Wanted) -> None:
        self._connection = connection
        self._plan = its
        self._foreign = its.foreign
        self._wanted = wanted
        self.left: list[str] = []

    def _clear(self) -> None:
        """Remove what a run that was killed had begun, and tell of the rest.

        What is complete may be used by now. Ports are used again.
        """
        for image in self._connection.image.images(
                owner=self._connection.current_project_id,
                tag=_tag(self._foreign)):
            if image.status in ('queued', 'saving'):
                self._connection.image.delete_image(image.id)
            else:
                self._tell('image', image.id)
        # A cloud without Cinder is good enough for most.
        if len(self._foreign.disks) > 1:
            for volume in self._connection.block_storage.volumes():
                if (volume.metadata or {}).get(MARK) == self._foreign.uuid:
                    self._tell('volume', volume.id)

    @staticmethod
    def _tell(what: str, id_: str) -> None:
        report.progress(f'{what.capitalize()} {id_} is left of an earlier '
                        f'run: openstack {what} delete {id_}')

    def server(self, undo: contextlib.ExitStack) -> str:
        """Make all that the server needs, and ask for it."""
        self._clear()
        root, *others = self._foreign.disks
        values = properties(self._foreign)
        if boot := self._foreign.kernel:
            values['kernel_id'] = self._image(
                undo, 'kernel', boot.kernel, 'aki')
            if boot.ramdisk:
                values['ramdisk_id'] = self._image(
                    undo, 'ramdisk', boot.ramdisk, 'ari')
        image = self._image(undo, root.target, root.path, root.format,
                            min_disk=_gib(root), **values)
        mapping = [{'boot_index': 0, 'uuid': image, 'source_type': 'image',
                    'destination_type': 'local',
                    'delete_on_termination': True}]
        mapping += [
            {'boot_index': -1, 'uuid': self._volume(undo, disk),
             'source_type': 'volume', 'destination_type': 'volume'}
            for disk in others]
        ports = [{'port': nic.port or self._port(undo, nic)}
                 for nic in self._plan.nics]
        compute = self._connection.compute
        report.progress('Asking for the server')
        # Nova may make it although no answer comes.
        undo.callback(self._remove_server, undo)
        server: str = compute.create_server(
            name=self._name(), flavor_id=self._plan.flavor.id,
            image_id=image, block_device_mapping=mapping,
            networks=ports or 'none', metadata={
                MARK: self._foreign.uuid, STAMP: self._foreign.stamp}).id
        return server

    def wait(self, server: str) -> None:
        """Wait until the server runs, or until it ran if it is an old one.

        :raises TimeoutError: it does not.
        """
        def runs() -> bool:
            found = self._connection.compute.get_server(server)
            if found.status == 'ERROR':
                raise TimeoutError(f'server {server} is in ERROR: '
                                   f'{(found.fault or {}).get("message")}')
            return bool(found.status != 'BUILD')

        self._wait(runs, f'server {server} does not run')

    def _wait(self, condition: Callable[[], bool], failure: str) -> None:
        """Wait; a moment without an answer is no reason to begin anew.

        :raises TimeoutError: the condition does not hold in time.
        """
        def holds() -> bool:
            try:
                return condition()
            except keystone.ConnectFailure:
                return False
            except exceptions.HttpException as error:
                if (error.status_code or 0) < 500:
                    raise
                return False

        if not report.wait(holds, self._wanted.timeout, INTERVAL):
            raise TimeoutError(f'{failure} within {self._wanted.timeout} s')

    def _name(self, *parts: str) -> str:
        # Nova refuses what cannot be printed, and spaces at the ends.
        name = ''.join(char if char.isprintable() else '_'
                       for char in '-'.join((self._foreign.name, *parts)))
        return name.strip()[:_MAX_NAME].strip()

    def _image(self, undo: contextlib.ExitStack, what: str, path: str,
               format: str, **values: Any) -> str:
        """Upload a file; returns the image's id."""
        kernel = format in ('aki', 'ari')
        # A kernel is often a link, such as /boot/vmlinuz.
        with _Content(os.path.realpath(path)) as content:
            report.progress(
                f'Uploading {what} ({len(content) // units.Mi} MiB)')
            image: str = self._connection.image.create_image(
                self._name(what), data=content, disk_format=format,
                container_format=format if kernel else 'bare',
                allow_duplicates=True, tags=[_tag(self._foreign)], **values).id
        undo.callback(self._undo, 'image', image,
                      self._connection.image.delete_image)
        return image

    def _volume(self, undo: contextlib.ExitStack,
                disk: foreign_lib.Disk) -> str:
        """Make a volume of a disk, through an image."""
        cinder = self._connection.block_storage
        with contextlib.ExitStack() as image_only:
            image = self._image(
                image_only, disk.target, disk.path, disk.format)
            volume: str = cinder.create_volume(
                name=self._name(disk.target), size=_gib(disk),
                image_id=image, metadata={MARK: self._foreign.uuid}).id
            undo.callback(self._undo, 'volume', volume, cinder.delete_volume)

            def is_there() -> bool:
                found = cinder.get_volume(volume)
                if found.status.startswith('error'):
                    raise TimeoutError(f'volume {volume} of disk '
                                       f'{disk.target} is in {found.status}')
                return bool(found.status == 'available')

            self._wait(is_there,
                       f'volume {volume} of disk {disk.target} is not made')
        return volume

    def _port(self, undo: contextlib.ExitStack, nic: _Nic) -> str:
        port: str = self._connection.network.create_port(
            name=self._name(nic.mac), network_id=nic.network,
            mac_address=nic.mac).id
        undo.callback(self._undo, 'port', port,
                      self._connection.network.delete_port)
        return port

    def _undo(self, what: str, id_: str,
              delete: Callable[[str], object]) -> None:
        try:
            delete(id_)
        except ERRORS as error:
            self.left.append(f'{what} {id_} is left: {error}')

    def _remove_server(self, undo: contextlib.ExitStack) -> None:
        """Delete the server, and wait: the rest cannot go before it.

        If it stays, so does the rest, which it uses.
        """
        def servers() -> list[str]:
            return [server.id for server
                    in self._connection.compute.servers()
                    if _is_of(server, self._foreign)]

        rest = undo.pop_all()
        try:
            for server in servers():
                self._connection.compute.delete_server(server)
            self._wait(lambda: not servers(), 'it is not deleted')
            undo.push(rest)
        except (*ERRORS, TimeoutError) as error:
            self.left.append(
                'the server may be left, with what was made for it: '
                f'{error}. {report.RETRY}')


class _Content(io.FileIO):
    """A file or block device with a length, so that it is sent in blocks.

    Of a block device, the HTTP client would see none, and send what it takes
    for lines, which can be as long as the disk.
    """

    def __init__(self, path: str) -> None:
        super().__init__(os.open(path, os.O_RDONLY | os.O_NOFOLLOW
                                 | os.O_CLOEXEC))
        self._length = self.seek(0, os.SEEK_END)
        self.seek(0)

    def __len__(self) -> int:
        return self._length
