# SPDX-License-Identifier: Apache-2.0
"""Architectures of Xen hosts: what QEMU is told, and what dom0 is made of."""

import dataclasses
import pathlib
import subprocess

from labkit import arch
from labkit import cache
from labkit import config
from labkit import dom0venv
from labkit import image
from labkit import image_aarch64
from tests.unit.labkit import base


class ArchitectureTest(base.TestCase):

    def test_each_has_hosts_of_its_own(self):
        self.assertEqual(list(config.HOST_NAMES),
                         [one.name for one in arch.ALL])
        for one in arch.ALL:
            self.assertEqual(one, arch.get(one.name))
            for number in one.numbers:
                self.assertEqual(one, arch.of_host(number))
                self.assertTrue(config.host_name(number).startswith(
                    config.HOST_NAMES[one.name]))

    def test_kinds(self):
        """What differs, and nothing else does."""
        usual = arch.x86_64(arch.Kind())
        self.assertEqual(
            'qemu64,+svm,+npt,+vme,+invtsc,x-force-features=on', usual.cpu)
        self.assertEqual(usual.cpu, arch.X86_64.cpu)
        nested, pci, two_level = (
            arch.x86_64(arch.KINDS[kind])
            for kind in ('nested', 'pci', 'two-level'))
        self.assertEqual(
            'qemu64,+svm,+npt,+vme,+invtsc,+lbrv,+nrip-save,+flushbyasid,'
            '+decodeassists,x-force-features=on', nested.cpu)
        self.assertIn(' guest_loglvl=all ', usual.xen_options)
        self.assertEqual(usual.xen_options.replace('=all ', '=error '),
                         nested.xen_options)
        self.assertEqual(f'{usual.xen_options} iommu=verbose',
                         pci.xen_options)
        self.assertEqual('amd-iommu', pci.devices[0])
        self.assertEqual(f'{usual.dom0_options} xen.fifo_events=0',
                         two_level.dom0_options)
        debian12 = arch.x86_64(arch.KINDS['debian12'])
        self.assertEqual(
            '/opt/stack/venv/lib/python3.11/site-packages',
            debian12.site_packages)
        self.assertEqual(usual, dataclasses.replace(
            debian12, dom0_image=usual.dom0_image,
            site_packages=usual.site_packages))
        fresh = arch.x86_64(arch.KINDS['fresh'])
        self.assertEqual((arch.AGENT,), fresh.services)
        self.assertEqual(usual, dataclasses.replace(
            fresh, dom0_image=usual.dom0_image, services=usual.services))
        for one in (usual, nested, two_level):
            self.assertEqual(('pc', (), True),
                             (one.machine, one.devices, one.saved))

    def test_no_such_kind(self):
        self.patch(config, 'KIND', 'fast')
        error = self.assertRaises(SystemExit, arch._kind)
        self.assertIn(
            "'fast'; there is nested, pci, two-level, debian12, fresh",
            str(error))

    def test_boot_by_multiboot(self):
        built = image.Image(pathlib.Path('/i'))
        self.assertEqual(
            ['-kernel', '/i/xen', '-initrd', '/i/vmlinuz a=1 b=2,/i/initrd'],
            arch.X86_64.boot(built, 'a=1 b=2'))

    def test_boot_by_device_tree(self):
        built = image.Image(pathlib.Path('/i'))
        self.assertEqual(
            ['-kernel', '/i/xen', '-device', 'guest-loader,addr=0x49000000,'
             'kernel=/i/vmlinuz,bootargs=a=1 b=2', '-device',
             'guest-loader,addr=0x50000000,initrd=/i/initrd'],
            arch.AARCH64.boot(built, 'a=1 b=2'))


class ImageTest(base.TestCase):

    def test_releases(self):
        """Each has an image of its own, which the other's recipe keeps."""
        asked = []

        def directory(kind, key, build):
            asked.append((kind, key))
            return self.directory

        self.patch(cache, 'directory', directory)
        arch.x86_64(arch.KINDS['']).dom0_image()
        arch.x86_64(arch.KINDS['debian12']).dom0_image()
        usual, debian12 = asked
        self.assertEqual(('image', 'debian12-image'),
                         (usual[0], debian12[0]))
        self.assertNotEqual(usual[1], debian12[1])
        self.assertEqual(usual[1], cache.recipe(
            image.hosts_file('x86_64'), image.RECIPE, *image.PREPARE,
            image.CONSTRAINTS))

    def test_without_the_driver(self):
        """What the driver's package has is nothing to this image."""
        asked = []

        def directory(kind, key, build):
            asked.append((kind, key))
            return self.directory

        self.patch(cache, 'directory', directory)
        arch.x86_64(arch.KINDS['fresh']).dom0_image()
        self.patch(image, 'PREPARE', ())
        arch.x86_64(arch.KINDS['fresh']).dom0_image()
        self.assertEqual('fresh-image', asked[0][0])
        self.assertEqual(asked[0], asked[1])

    def test_suites(self):
        for recipe, suite in ((image.RECIPE, 'trixie'),
                              (image.DEBIAN12_RECIPE, 'bookworm'),
                              (image.FRESH_RECIPE, 'trixie')):
            done = subprocess.run(
                [recipe / 'build', 'eval',
                 'echo $suite; words $here/packages'],
                check=True, capture_output=True, text=True, timeout=60)
            found, packages = done.stdout.splitlines()
            self.assertEqual(suite, found)
            self.assertIn(' xen-system-amd64 ', packages)


    def run_stage(self, recipe):
        """Run the stage "openstack", of which nothing is done.

        :returns: what it does to the disk.
        """
        root = self.directory / 'root'
        (root / 'run/outer').mkdir(parents=True)
        (root / 'srv').mkdir()
        daemon = root / 'usr/lib/xen-4.20/bin/xenstored'
        daemon.parent.mkdir(parents=True)
        daemon.touch()
        self.xen = root / 'etc/default/xen'
        self.xen.parent.mkdir(parents=True)
        self.xen.write_text('#XENSTORED=\n')
        return subprocess.run(
            [recipe / 'build', 'eval',
             'enter() { :; }; mkdir() { :; }; cp() { echo "cp $*"; }; '
             'chroot() { shift; echo "$*"; }; '
             f'openstack {root} constraints cache {config.CHECKOUT}'],
            check=True, capture_output=True, text=True,
            timeout=60).stdout

    def test_openstack(self):
        done = self.run_stage(image.RECIPE)
        self.assertIn('/opt/stack/venv/bin/pip install ', done)
        self.assertIn('/opt/stack/venv/share/xen44/prepare-dom0\n', done)
        self.assertEqual(
            '#XENSTORED=\nXENSTORED=/usr/lib/xen-4.20/bin/xenstored\n',
            self.xen.read_text())

    def test_openstack_without_the_driver(self):
        done = self.run_stage(image.FRESH_RECIPE)
        self.assertIn('/opt/stack/venv/bin/pip install ', done)
        self.assertIn(' --wheel-dir /srv/wheels ', done)
        for name in ('prepare-dom0', 'share/xen44', 'logrotate'):
            self.assertNotIn(name, done)
        self.assertEqual('#XENSTORED=\n', self.xen.read_text())
        # Debian has it, and to compile it there would be no compiler.
        wanted = (self.directory / 'root/run/outer/requirements.txt'
                  ).read_text()
        self.assertIn('\nnova>=', wanted)
        self.assertNotIn('libvirt', wanted)


class Aarch64ImageTest(base.TestCase):

    def test_packages(self):
        names = image_aarch64._packages()
        for name in ('linux-image-arm64', 'xen-system-arm64', 'klibc-utils',
                     'openvswitch-switch'):
            self.assertIn(name, names)
        self.assertEqual([], [
            name for name in names if name.endswith('amd64')
            or name in ('qemu-system-xen', 'ovmf')])
        # What is left out is there on x86.
        self.assertEqual(set(), set(image_aarch64._ABSENT) - set(
            image_aarch64._words(image.RECIPE / 'packages')))

    def test_names_of_hosts(self):
        text = image.hosts_file('aarch64')
        self.assertIn('192.168.144.1 controller\n', text)
        self.assertIn('192.168.144.15 arm1\n', text)
        self.assertNotIn('xen1', text)

    def test_scripts_run_in_the_environment_of_dom0(self):
        directory = self.directory / 'bin'
        directory.mkdir()
        script = directory / 'nova-compute'
        script.write_text('#!/tmp/pip/bin/python3\nimport sys\n')
        dom0venv.adopt_scripts(directory)
        self.assertEqual('#!/opt/stack/venv/bin/python\nimport sys\n',
                         script.read_text())
