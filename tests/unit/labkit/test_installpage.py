# SPDX-License-Identifier: Apache-2.0
"""What is read of the install page, and what the gate's test does with it."""

import fixtures

from labkit import compute
from labkit import config
from labkit import gate
from labkit import installpage
from labkit import util
from labkit.cloud import install
from labkit.cloud import settings
from tests.gate import test_fresh
from tests.unit.labkit import base

PAGE = """\
=====
Title
=====

As root::

    one
    two --long \\
        three

Part
----

#. Words
   and more::

       four

   .. literalinclude:: share/file
      :language: sh

   Not it: ``::`` in a line.

#. Last:

   .. code-block:: ini

       [DEFAULT]
       # Why.
       name = value

       [group]
       more = 1

.. note:: this, too::

    five
"""

SETTINGS = """\
[DEFAULT]
my_ip = 192.168.144.11
compute_driver = xen44.Xen44Driver
transport_url = rabbit://xenlab:1%2@192.168.144.1/
[xen44]
max_concurrent_starts = 1
[xen44_x86_64]
default_guest_type = pv
[vnc]
enabled = true
server_listen = 192.168.144.11
"""


class BlocksTest(base.TestCase):

    def test_blocks(self):
        first, second, third = installpage.blocks(PAGE)
        self.assertEqual(('Title', '', ['one', 'two --long three']),
                         (first.section, first.language, first.commands))
        self.assertEqual(('Part', '', ['four']),
                         (second.section, second.language, second.commands))
        self.assertEqual(('Part', 'ini'), (third.section, third.language))
        self.assertEqual(
            '[DEFAULT]\n# Why.\nname = value\n\n[group]\nmore = 1',
            third.text)


class NovaConfTest(base.TestCase):

    def test_what_is_the_drivers_is_the_pages(self):
        merged = installpage.nova_conf(
            SETTINGS, '[DEFAULT]\ncompute_driver = other\n'
            '[vnc]\nserver_proxyclient_address = 192.0.2.11\n'
            '[xen44_x86_64]\ndefault_guest_type = hvm\n')
        self.assertEqual(
            '[DEFAULT]\nmy_ip = 192.168.144.11\n'
            'transport_url = rabbit://xenlab:1%2@192.168.144.1/\n'
            'compute_driver = other\n\n'
            '[vnc]\nenabled = true\n'
            'server_proxyclient_address = 192.0.2.11\n\n'
            '[xen44_x86_64]\ndefault_guest_type = hvm\n\n', merged)

    def test_the_page_has_what_the_lab_has_because_of_the_driver(self):
        """But paths that are where Nova looks for them anyway."""
        files = settings.render('compute', settings.compute_values(1))
        ours = installpage._parsed(files['etc/nova/nova.conf'])
        page, = (block.text for block in read_page()
                 if block.language == 'ini')
        pages = installpage._parsed(page)
        for section, names in installpage._OWN_OPTIONS.items():
            for name in names:
                self.assertTrue(ours.has_option(section, name), name)
                if name != 'instances_path':
                    self.assertTrue(pages.has_option(section, name), name)


class BuildTest(base.TestCase):

    def test_requirements(self):
        self.patch(util, 'need_root', lambda: None)
        ran = []

        def run(argv, **options):
            ran.append([str(word) for word in argv])
            (config.CACHE / argv[argv.index('--dest') + 1]).mkdir()

        self.patch(util, 'run', run)
        self.patch(install, 'venv_path', lambda: config.CACHE / 'venv')
        found = installpage.build_requirements()
        self.assertEqual(found, installpage.build_requirements())
        self.assertTrue(found.is_dir())
        [argv] = ran
        self.assertEqual(['pbr', 'setuptools'],
                         [name.partition('>')[0] for name in argv[-2:]])


READERS = (test_fresh.Wheel, test_fresh.DebianPackages)


def read_page():
    return list(installpage.blocks(installpage.PAGE.read_text()))


class ReaderTest(base.TestCase):
    """The gate's test knows the page as it is."""

    def setUp(self):
        super().setUp()
        self.commands = [command for block in read_page()
                         if block.language != 'ini'
                         for command in block.commands]

    def test_all_that_is_told_apart_is_there(self):
        for begin in (*test_fresh.READ, *test_fresh.HERE, 'xl info',
                      *(reader.installs for reader in READERS)):
            self.assertEqual(1, len([
                command for command in self.commands
                if command.startswith(begin)]), begin)
        sections = {block.section for block in read_page()}
        for reader in READERS:
            self.assertLessEqual({*reader.passed_over}, sections)
        text = installpage.PAGE.read_text()
        for example in test_fresh.EXAMPLES:
            self.assertIn(example, text)

    def test_few_are_not_run(self):
        read = [command for command in self.commands
                if command.startswith(tuple(test_fresh.READ))]
        self.assertEqual(len(test_fresh.READ), len(read))

    def follow(self, reader):
        """Follow the page as one of the tests does.

        :returns: what it did.
        """
        done = []
        test = reader('test_install_page')
        test.host = compute.XenHost(1)
        test.checkout = self.directory / 'checkout'
        for name in ('run_here', 'run_there', 'bring', 'configure_nova',
                     'reboot'):
            self.useFixture(fixtures.MockPatchObject(
                test, name,
                lambda text='', name=name: done.append((name, text))))
        self.patch(compute, 'copy_checkout', lambda target: None)
        self.output()
        test.follow()
        return done

    def test_wheel(self):
        done = self.follow(test_fresh.Wheel)
        self.assertEqual(
            ['run_there', 'run_here', 'run_there', 'bring', 'run_there',
             *['run_there'] * 4, 'reboot', *['run_there'] * 2,
             'configure_nova', *['run_there'] * 3],
            [what for what, _ in done])
        ran = [text for what, text in done if what == 'run_there']
        self.assertEqual('/opt/nova/bin/pip install nova '
                         'dist/xen44_driver-*.whl', ran[2])
        self.assertIn('systemctl enable --now nova-compute', ran)

    def test_debian_packages(self):
        done = self.follow(test_fresh.DebianPackages)
        self.assertEqual(
            ['run_there', *['run_here'] * 2, 'bring', *['run_there'] * 6,
             'reboot', *['run_there'] * 2, 'configure_nova',
             *['run_there'] * 3],
            [what for what, _ in done])
        ran = [text for what, text in done if what == 'run_there']
        self.assertIn('/usr/bin/xen44-host check', ran)
        self.assertEqual([], [text for text in ran if '/opt/nova' in text])

    def test_what_builds_debian_packages_is_installed_before(self):
        page, = (command for command in self.commands
                 if command.startswith('apt install build-essential '))
        tests = 'tests.gate.test_fresh.DebianPackages.'
        self.assertEqual(page.split()[2:], [*gate.TOOLS[tests]])

    def test_the_last_release_waits_for_no_event(self):
        text = installpage.nova_conf(settings.render(
            'compute', settings.compute_values(1))['etc/nova/nova.conf'], '')
        written = []
        self.useFixture(fixtures.MockPatchObject(
            compute.XenHost, 'ssh',
            lambda host, argv, input: written.append(input)))
        test = test_fresh.DebianPackages('test_install_page')
        test.host = compute.XenHost(1)
        test.write_nova_conf(text)
        self.assertIn('\nvif_plugging_timeout = 0\n', written[0])
