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
COMMAND_TIMEOUT = 5400
#: Seconds for one on this machine.
HERE_TIMEOUT = 900


class PageCase(base.GateCase):
    """A reader of the page.

    :cvar name: of the log of what was run.
    :cvar passed_over: sections that are for other readers.
    :cvar copied: before the command that begins with it: files of this
        machine, below the checkout, that are brought to dom0.
    """

    name: ClassVar[str]
    passed_over: ClassVar[tuple[str, ...]]
    copied: ClassVar[tuple[str, str]]

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
        for service in self.cloud.compute.services(binary='nova-compute'):
            if service.host == self.host.name:
                self.cloud.compute.delete_service(service.id)
        self.host.start()
        compute.start(self.host, Cloud())
        there = self.host.ssh(
            ['ls', '--directory', *ABSENT], check=False).stdout.split()
        self.assertEqual([], there)
        self.assertNotEqual(0, self.host.ssh(
            ['getent', 'passwd', 'nova'], check=False).returncode)
        self.dom0('mkdir', DIRECTORY)

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
        begin, files = self.copied
        if command.startswith(begin):
            self.bring(files)
        elif command.startswith('xl info'):
            self.reboot()
        for example, value in self.examples().items():
            command = command.replace(example, value)
        with util.step(f'{self.host.name}: {command[:60]}'):
            if command.startswith(HERE):
                self.run_here(command)
            else:
                self.run_there(command)

    def examples(self) -> Mapping[str, str]:
        """What stands for what is the page's."""
        return EXAMPLES

    def run_here(self, command: str) -> None:
        """Run a command in the copy of the checkout.

        :raises LabError: it fails.
        """
        wheels = installpage.build_requirements()
        util.run(['bash', '-c', command], cwd=self.checkout, log=self.log,
                 timeout=HERE_TIMEOUT, env={
                     'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': str(wheels),
                     'DEBIAN_FRONTEND': 'noninteractive'})

    def run_there(self, command: str) -> None:
        """Run a command in dom0.

        :raises LabError: it fails.
        """
        self.host.ssh(f'cd {DIRECTORY} && export {ENVIRONMENT} && {command}',
                      log=self.log, timeout=COMMAND_TIMEOUT)

    # What it says in words

    def bring(self, pattern: str) -> None:
        """Copy what was built on this machine to dom0, as it lies there."""
        found = list(self.checkout.glob(pattern))
        self.assertNotEqual([], found, pattern)
        place = pathlib.PurePath(DIRECTORY, pattern).parent
        self.dom0('mkdir', '-p', str(place))
        for path in found:
            self.host.copy_to(path, f'{place}/')

    def reboot(self) -> None:
        """Reboot dom0, and have what is the lab's there again."""
        self.host.ssh(['systemctl', '--no-block', 'reboot'])
        self.host.wait_until_down()
        self.host.power_on()
        compute.weigh(self.host)
        compute.restart(self.host, Cloud(), (arch.AGENT,))

    def configure_nova(self, text: str) -> None:
        """Add the page's settings to those of every compute node."""
        for example, value in EXAMPLES.items():
            text = text.replace(example, value)
        settings = Cloud().render_compute_config(
            self.host.number)[compute.NOVA_CONF]
        self.host.ssh(
            ['install', '-o', 'root', '-g', 'nova', '-m', '0640',
             '/dev/stdin', compute.NOVA_CONF],
            input=installpage.nova_conf(settings, text))

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
    copied = ('/opt/nova/bin/pip install ', 'dist/*.whl')

    @base.slow
    def test_install_page(self) -> None:
        self.follow()
        self.assert_hypervisor()
        self.assert_serves()
