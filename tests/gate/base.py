# SPDX-License-Identifier: Apache-2.0
"""What every test on the lab has: the cloud, dom0, servers that are undone."""

from __future__ import annotations

import base64
from collections.abc import Mapping
import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import sys
from typing import Any
from typing import ClassVar

import openstack
import testtools
from testtools import content
from testtools import testcase

from labkit import compute
from labkit import config
from labkit import images
from labkit import util
from labkit.cloud import Cloud
from labkit.cloud.content import KEYPAIR
from labkit.host import XenHost
from labkit.host import hosts
from tests.gate.guest import ACTIVE_TIMEOUT
from tests.gate.guest import Guest
from tests.gate.traces import Traces

#: Directories in dom0: of an instance's directory, and of what the driver
#: keeps of images.
INSTANCES = '/var/lib/nova/instances'
IMAGES = f'{INSTANCES}/_base'

#: Seconds: under emulation the imports of Nova's code are most of it, and it
#: starts two privsep daemons.
CHECK_TIMEOUT = 300
#: Seconds for Nova to note how an action ended.
ACTION_TIMEOUT = 120

#: Marks a test that only ``--full`` runs: one of many of its kind, or one
#: that takes minutes. The test's id then ends with "[slow]".
slow = testcase.attr('slow')

#: Marks a test that the first tier has where the machine is fast enough for it
#: (tests/run). The test's id then ends with "[unhurried]".
unhurried = testcase.attr('unhurried')

_number = itertools.count(1)


class GateCase(testcase.WithAttributes, testtools.TestCase):
    """One connection to the cloud and one to dom0 for each class.

    What a test makes it registers to be undone; what its class makes (in
    ``setUpClass`` or by ``once``) stays until the class has ended.
    """

    cloud: ClassVar[openstack.connection.Connection]
    host: ClassVar[XenHost]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # The runner's own protocol goes through standard output; waits that
        # tell their progress there must not disturb it.
        cls.enterClassContext(contextlib.redirect_stdout(sys.stderr))
        cls.cloud = openstack.connect()
        cls.addClassCleanup(cls.cloud.close)
        cls.host = hosts()[0]

    def setUp(self) -> None:
        super().setUp()
        self.addOnException(self._attach_log)

    def _attach_log(self, _: object) -> None:
        """Keep what nova-compute said last beside a failure.

        It raises nothing: that would end the runner, and all other tests.
        """
        try:
            said = self.host.ssh('grep -v "Get console output" '
                                 '/var/log/nova/nova-compute.log | tail -n 40',
                                 check=False).stdout
        except util.LabError as error:
            said = f'{self.host.name} does not answer: {error}'
        self.addDetail('nova-compute.log', content.text_content(said))

    # Making things

    @classmethod
    def image(cls, name: str = images.DISK) -> Any:
        """The image of that kind (``labkit.images``), for this lab's host."""
        return cls.cloud.image.find_image(images.name(name),
                                          ignore_missing=False)

    @classmethod
    def make_image(cls, undo: Any, path: pathlib.Path, disk_format: str,
                   **properties: Any) -> Any:
        """Make an image of a file.

        :param undo: ``addCleanup`` or ``addClassCleanup``.
        :raises openstack.exceptions.HttpException: Glance refuses it.
        """
        image = cls.cloud.image.create_image(
            name=cls._name('image'), filename=str(path),
            disk_format=disk_format, allow_duplicates=True,
            container_format=properties.pop('container_format', 'bare'),
            **properties)
        undo(cls.cloud.image.delete_image, image.id)
        return image

    @classmethod
    def make_flavor(cls, undo: Any, *, guest_type: str | None = None,
                    ram: int = 192, disk: int = 1, swap: int = 0,
                    ephemeral: int = 0,
                    specs: Mapping[str, str] | None = None) -> Any:
        """Make a flavor.

        :param undo: ``addCleanup`` or ``addClassCleanup``.
        :param guest_type: value of ``xen44:guest_type``.
        :param ram: MiB; as ``swap``.
        :param disk: GiB; as ``ephemeral``.
        :param specs: further extra specs.
        """
        flavor = cls.cloud.compute.create_flavor(
            name=cls._name('flavor'), ram=ram, vcpus=1, disk=disk,
            swap=swap, ephemeral=ephemeral)
        undo(cls.cloud.compute.delete_flavor, flavor.id)
        wanted = dict(specs or {})
        if guest_type:
            wanted['xen44:guest_type'] = guest_type
        if wanted:
            cls.cloud.compute.create_flavor_extra_specs(flavor, wanted)
        return flavor

    @classmethod
    def make_server(cls, undo: Any, *, image: Any = None, flavor: Any = None,
                    user_data: str | None = None, config_drive: bool = False,
                    groups: tuple[str, ...] = ('default',),
                    user: str = 'root', volume: Any = None) -> Guest:
        """Ask Nova for a server on the lab's network; do not wait for it.

        :param undo: ``addCleanup`` or ``addClassCleanup``.
        :param image: from :meth:`image`; the guest's own disk by default.
        :param flavor: from :meth:`make_flavor`; else the smallest.
        :param user_data: a script for its first boot.
        :param groups: names of its port's security groups.
        :param user: who may come in by ssh.
        :param volume: what it boots from, instead of an image.
        """
        network = cls.cloud.network.find_network(
            config.LAB_NET, ignore_missing=False)
        options: dict[str, Any] = {}
        if user_data:
            options['user_data'] = base64.b64encode(
                user_data.encode()).decode()
        if volume:
            options['block_device_mapping'] = [{
                'boot_index': 0, 'uuid': volume.id, 'source_type': 'volume',
                'destination_type': 'volume'}]
        else:
            options['image_id'] = (image or cls.image()).id
        server = cls.cloud.compute.create_server(
            name=cls._name(),
            flavor_id=flavor.id if flavor else '42', key_name=KEYPAIR,
            networks=[{'uuid': network.id}], config_drive=config_drive,
            security_groups=[{'name': group} for group in groups],
            **options)
        undo(cls.remove_server, server.id)
        guest = Guest(cls.cloud, server.id, user)
        util.say(f'  {cls.__name__}: {guest.name} is {guest.id}')
        return guest

    @classmethod
    def configure(cls, undo: Any, text: str) -> None:
        """Have nova-compute run with these options in its configuration.

        :param undo: ``addCleanup`` or ``addClassCleanup``.
        """
        cloud = Cloud()
        kept = f'{compute.NOVA_CONF}.gate'

        def restore() -> None:
            cls.host.ssh(['mv', kept, compute.NOVA_CONF])
            compute.restart(cls.host, cloud)

        cls.host.ssh(['cp', '-p', compute.NOVA_CONF, kept])
        # Not in a file of its own: nova-compute reads nova.conf last.
        cls.host.ssh(['tee', '-a', compute.NOVA_CONF], input=text)
        undo(restore)
        compute.restart(cls.host, cloud)

    @classmethod
    def remove_server(cls, server_id: str) -> None:
        """Delete a server, if it is there, and wait until it is gone."""
        try:
            guest = Guest(cls.cloud, server_id)
            cls.cloud.compute.delete_server(server_id)
            guest.wait_for_delete()
        except openstack.exceptions.NotFoundException:
            return

    @classmethod
    def _name(cls, kind: str = '') -> str:
        parts = ['gate', cls.__name__.lower(), kind,
                 f'{os.getpid()}-{next(_number)}']
        return '-'.join(part for part in parts if part)

    # Looking

    def dom0(self, *argv: str) -> str:
        """Run a command in dom0; returns what it prints."""
        return self.host.ssh(list(argv)).stdout

    def compute_pid(self) -> str:
        """Process id of nova-compute in dom0."""
        return self.dom0('systemctl', 'show', '--value', '--property=MainPID',
                         compute.NOVA_COMPUTE).strip()

    def provider(self) -> str:
        """The path of the host's resource provider in Placement."""
        found, = (hypervisor for hypervisor
                  in self.cloud.compute.hypervisors()
                  if hypervisor.name == self.host.name)
        return f'/resource_providers/{found.id}'

    def traits(self) -> set[str]:
        """The host's traits, as Placement has them."""
        return {*self.cloud.placement.get(
            f'{self.provider()}/traits',
            microversion='1.6').json()['traits']}

    def inventory(self, resource: str) -> Any:
        """What the host has of a resource class, as Placement has it."""
        return self.cloud.placement.get(
            f'{self.provider()}/inventories/{resource}').json()

    def checks(self) -> tuple[str, dict[str, tuple[str, str]]]:
        """What ``xen44-host check`` says of the host.

        :returns: the host's software; by each check's name, the result and
            why.
        """
        done = self.host.ssh(
            [f'{compute.VENV}/bin/xen44-host', 'check', '--json'],
            check=False, timeout=CHECK_TIMEOUT)
        said = json.loads(done.stdout)
        return said['software'] or '', {
            check['check']: (check['result'], ' '.join(check['texts']))
            for check in said['checks']}

    def check(self, key: str) -> tuple[str, str]:
        """What ``xen44-host check`` says of one thing: the result, and why.

        :param key: the check's name.
        """
        return self.checks()[1][key]

    def service(self) -> Any:
        """Nova's record of the host's nova-compute, fresh."""
        service, = (
            service for service
            in self.cloud.compute.services(binary='nova-compute')
            if service.host == self.host.name)
        return service

    def traces(self, guest: Guest) -> Traces:
        """Where to look for what a server leaves."""
        return Traces.of(self.cloud, self.host, guest.id)

    def kept_files(self, image: Any) -> list[str]:
        """Names of the files that dom0 keeps of an image, in any form."""
        stem = hashlib.sha1(
            image.id.encode(), usedforsecurity=False).hexdigest()
        # The directory comes with the first image.
        return self.host.ssh(
            ['find', IMAGES, '-name', f'{stem}*', '-printf', r'%f\n'],
            check=False).stdout.split()

    def assert_fault(self, guest: Guest, *fragments: str) -> str:
        """A server ended in ERROR, and says why.

        :param fragments: what its fault must mention.
        :returns: the fault.
        """
        guest.wait_for_status('ERROR', ACTIVE_TIMEOUT)
        fault = guest.fault()
        for fragment in fragments:
            self.assertIn(fragment.lower(), fault.lower())
        return fault

    def assert_refused(self, guest: Guest, *fragments: str) -> str:
        """The host refused a server: it says why, and left nothing behind.

        :param fragments: what its fault must mention.
        :returns: the fault.
        """
        fault = self.assert_fault(guest, *fragments)
        traces = self.traces(guest)
        traces.wait_for_none(self.host)
        self.remove_server(guest.id)
        traces.wait_for_none(self.host, self.cloud)
        return fault

    def assert_action_fails(self, guest: Guest, name: str) -> None:
        """Nova notes that the guest's last action failed."""
        def failed() -> bool:
            action = next(iter(self.cloud.compute.server_actions(guest.id)))
            self.assertEqual(name, action.action)
            detail = self.cloud.compute.get_server_action(
                action.request_id, guest.id)
            return any(event['result'] == 'Error' for event in detail.events)

        util.wait_for(f'{name} of {guest.name} to fail', failed,
                      ACTION_TIMEOUT, interval=2)
