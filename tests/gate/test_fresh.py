# SPDX-License-Identifier: Apache-2.0
"""The driver is installed as the manual says, on a dom0 without any of it.

These run in a lab whose dom0 is that (``XENLAB_KIND=fresh``), and only there.
They do what doc/source/install/index.rst says, in its order: all commands of
its literal blocks, but those of :data:`READ`, and no others for which the page
has a block.
"""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import json
import os
import pathlib
import tempfile
import types
from typing import ClassVar

from testtools import content

from labkit import arch
from labkit import compute
from labkit import config
from labkit import installpage
from labkit import util
from labkit.cloud import Cloud
from tests.gate import base

#: Commands of the page that are not run, by what they begin with, and why.
READ = types.MappingProxyType({
    'pip install --no-deps dist/':
        "of nova-api, in the controller's environment, which labs share",
    'GRUB_CMDLINE_XEN_DEFAULT=':
        'a line of a file of GRUB: QEMU starts Xen, with such an option',
    '/opt/nova/bin/xen44-host probe-uefi':
        'only for HVM guests with UEFI; tests/gate/test_uefi.py runs it',
})

#: What those begin with that are run on this machine, in a checkout. All
#: others are run in dom0.
HERE = ('python3 -m pip wheel ', 'apt install build-essential ',
        'cp -r etc/debian ')

#: What the page has for an example, and what it is here.
EXAMPLES: Mapping[str, str] = types.MappingProxyType({
    # "This dom0's address".
    '192.0.2.11': config.host_ip(1),
})

#: In dom0: where the page's commands are run. Nobody is there to answer.
DIRECTORY = '/root/install'
ENVIRONMENT = 'DEBIAN_FRONTEND=noninteractive'

#: What the driver's installation brings, or Nova's; none of it is there.
ABSENT = ('/opt/nova', '/etc/nova', '/var/lib/nova', '/var/log/nova',
          '/etc/sudoers.d/nova-xen44', '/etc/sudoers.d/nova-common',
          '/etc/systemd/system/nova-compute.service',
          '/usr/lib/systemd/system/nova-compute.service',
          '/usr/bin/nova-compute', '/var/lib/xen44')

#: Seconds for one command in dom0, where Python is 25 times as slow as here.
COMMAND_TIMEOUT = 7200
#: Seconds for one on this machine.
HERE_TIMEOUT = 900


class PageCase(base.GateCase):
    """A reader of the page.

    :cvar name: of the log of what was run.
    :cvar passed_over: sections that are for other readers.
    :cvar installs: what the command begins with that installs what was built.
    :cvar built: files that it installs, seen from the checkout.
    :cvar place: where it looks for them.
    :cvar path: where commands on this machine are looked for.
    """

    name: ClassVar[str]
    passed_over: ClassVar[tuple[str, ...]]
    installs: ClassVar[str]
    built: ClassVar[str]
    place: ClassVar[str]
    path: ClassVar[str]

    def setUp(self) -> None:
        super().setUp()
        self.log = config.LOGS / f'{self.host.name}-install-{self.name}.log'
        self.log.unlink(missing_ok=True)
        self.addOnException(self._attach_output)
        self.addCleanup(self._keep_log)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        # Debian's packages come into the directory above.
        self.checkout = pathlib.Path(directory.name, 'checkout')
        self._begin_anew()

    def _attach_output(self, _: object) -> None:
        """Keep the end of what was run beside a failure."""
        if self.log.exists():
            said = self.log.read_text(errors='replace').splitlines()[-60:]
            self.addDetail(self.log.name,
                           content.text_content('\n'.join(said)))

    def _keep_log(self) -> None:
        """Keep nova-compute's log beside ours; dom0's is lost with dom0."""
        with contextlib.suppress(util.LabError):
            self.host.copy_from(
                compute.NOVA_COMPUTE_LOG, config.LOGS /
                f'{self.host.name}-nova-compute-{self.name}.log')

    def _begin_anew(self) -> None:
        """dom0 is as it was when it first booted, and Nova does not know it.

        Nova would not take a host that has lost its identity.
        """
        self.host.stop()
        self.forget_host()
        self.host.start()
        compute.start(self.host, Cloud())
        there = self.host.ssh(
            ['ls', '--directory', *ABSENT], check=False).stdout.split()
        self.assertEqual([], there)
        self.assertNotEqual(0, self.host.ssh(
            ['getent', 'passwd', 'nova'], check=False).returncode)
        self.dom0('mkdir', DIRECTORY)

    def forget_host(self) -> None:
        """Nova does not know the host, whose nova-compute has ended."""
        for service in self.cloud.compute.services(binary='nova-compute'):
            if service.host == self.host.name:
                self.cloud.compute.delete_service(service.id)

    # Following the page

    def follow(self) -> None:
        """Do all that the page says to this reader."""
        compute.copy_checkout(self.checkout)
        for block in installpage.blocks(installpage.PAGE.read_text()):
            if block.section in self.passed_over:
                continue
            if block.language == 'ini':
                self.configure_nova(block.text)
                continue
            for command in block.commands:
                self.obey(command)

    def obey(self, command: str) -> None:
        """Do what a line of a block says, and what is said before it."""
        if command.startswith(tuple(READ)):
            return
        if command.startswith(self.installs):
            self.bring()
        elif command.startswith('xl info'):
            self.reboot()
        command = self.meant(command)
        with util.step(f'{self.host.name}: {command[:60]}'):
            if command.startswith(HERE):
                self.run_here(command)
            else:
                self.run_there(command)

    def meant(self, text: str) -> str:
        """What the page means here by a text of it."""
        for example, value in EXAMPLES.items():
            text = text.replace(example, value)
        return text

    def run_here(self, command: str) -> None:
        """Run a command in the copy of the checkout.

        :raises LabError: it fails.
        """
        wheels = installpage.build_requirements()
        util.run(['bash', '-c', command], cwd=self.checkout, log=self.log,
                 timeout=HERE_TIMEOUT, env={
                     'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': str(wheels),
                     'DEBIAN_FRONTEND': 'noninteractive', 'PATH': self.path})

    def run_there(self, command: str) -> None:
        """Run a command in dom0.

        :raises LabError: it fails.
        """
        self.host.ssh(f'cd {DIRECTORY} && export {ENVIRONMENT} && {command}',
                      log=self.log, timeout=COMMAND_TIMEOUT)

    # What it says in words

    def bring(self) -> None:
        """Copy what was built on this machine to dom0."""
        found = list(self.checkout.glob(self.built))
        self.assertNotEqual([], found, self.built)
        self.dom0('mkdir', '-p', f'{DIRECTORY}/{self.place}')
        for path in found:
            self.host.copy_to(path, f'{DIRECTORY}/{self.place}/')

    def reboot(self) -> None:
        """Reboot dom0, and have what is the lab's there again."""
        # The connection may end with it.
        self.host.ssh(['systemctl', '--no-block', 'reboot'], check=False)
        self.host.wait_until_down()
        self.host.power_on()
        compute.weigh(self.host)
        compute.restart(self.host, Cloud(), (arch.AGENT,))

    def configure_nova(self, text: str) -> None:
        """Add the page's settings to those of every compute node."""
        settings = Cloud().render_compute_config(
            self.host.number)[compute.NOVA_CONF]
        self.write_nova_conf(
            installpage.nova_conf(settings, self.meant(text)))

    def write_nova_conf(self, text: str) -> None:
        """Write nova.conf with the owner and the mode that it is to have."""
        self.host.ssh(
            ['install', '-o', 'root', '-g', 'nova', '-m', '0640',
             '/dev/stdin', compute.NOVA_CONF], input=text)

    # What comes of it

    def assert_hypervisor(self) -> None:
        """Nova has the host, as the page says."""
        Cloud().wait_compute(self.host.name, compute.START_TIMEOUT,
                             hopeless=self.host.check)
        shown = json.loads(util.run(
            ['openstack', 'hypervisor', 'list', '--format', 'json']).stdout)
        self.assertEqual(
            [(self.host.name, 'xen')],
            [(one['Hypervisor Hostname'], one['Hypervisor Type'])
             for one in shown])

    def assert_serves(self) -> None:
        """A PV server boots there, lets us in, and is deleted."""
        guest = self.make_server(self.addCleanup, flavor=self.make_flavor(
            self.addCleanup, guest_type='pv'))
        guest.wait_for_status('ACTIVE')
        guest.wait_for_ssh()
        traces = self.traces(guest)
        self.assertNotEqual([], traces.on_host(self.host))
        self.remove_server(guest.id)
        traces.wait_for_none(self.host, self.cloud)


class Wheel(PageCase):
    """A wheel, in an environment of nova-compute's own."""

    name = 'wheel'
    passed_over = ('Debian packages',)
    installs = '/opt/nova/bin/pip install '
    built = 'dist/*.whl'
    place = 'dist'
    path = os.environ.get('PATH', os.defpath)

    @base.slow
    def test_install_page(self) -> None:
        self.follow()
        self.assert_hypervisor()
        self.assert_serves()


class DebianPackages(PageCase):
    """Our Debian packages, beside Debian's own Nova 31.

    Nova does not support that one with the lab's controller, Nova 34. It can
    serve it all the same, but for events: this controller sends those of
    Neutron where only a nova-compute of the last two releases listens.
    """

    name = 'deb'
    passed_over = ('Install the driver', "Extra specs in Nova's API",
                   'Prepare dom0')
    installs = 'apt install ./'
    built = '../*.deb'
    place = '.'
    # Debian's Python, whatever else there is.
    path = '/usr/sbin:/usr/bin:/sbin:/bin'

    #: What keeps packages from starting services.
    policy: ClassVar[str] = '/usr/sbin/policy-rc.d'

    def setUp(self) -> None:
        super().setUp()
        # Nova 34 does not start where it knows of such an old nova-compute.
        self.addCleanup(self.forget_host)
        self.addCleanup(self.host.ssh, [
            'systemctl', 'disable', '--now', arch.NOVA_COMPUTE], check=False)

    def meant(self, text: str) -> str:
        # "In the rest of this page".
        return super().meant(text).replace('/opt/nova/bin', '/usr/bin')

    def bring(self) -> None:
        """Also: nova-compute is not started before it is configured.

        Debian's package starts it, and waits. Without a configuration it looks
        for a message queue until systemd ends it, and then once more.
        """
        super().bring()
        self.host.ssh(['install', '-m', '755', '/dev/stdin', self.policy],
                      input='#!/bin/sh\nexit 101\n')

    def reboot(self) -> None:
        """Also: nova-compute is not started, for the same reason."""
        self.dom0('rm', self.policy)
        self.dom0('systemctl', 'disable', arch.NOVA_COMPUTE)
        super().reboot()

    def write_nova_conf(self, text: str) -> None:
        """Also: it does not wait for events, which do not come."""
        super().write_nova_conf(text.replace(
            'vif_plugging_is_fatal = true\nvif_plugging_timeout = 120\n',
            'vif_plugging_is_fatal = false\nvif_plugging_timeout = 0\n'))

    @base.slow
    def test_install_page(self) -> None:
        self.follow()
        self.assertIn('xen44.Xen44Driver', self.dom0(
            'grep', 'Loading compute driver', compute.NOVA_COMPUTE_LOG))
        self.assert_hypervisor()
        self.assert_serves()
