# SPDX-License-Identifier: Apache-2.0
"""The devstack plugin, phase by phase, on a double of devstack."""

import re

import ddt

from labkit import config
from labkit import features
from labkit.cloud import settings
from tests.unit.devstack import base


@ddt.ddt
class Dom0Test(base.TestCase):

    def test_the_phases(self):
        self.run_well('stack')
        nova = self.ini('nova/nova-cpu.conf')
        self.assertEqual('xen44.Xen44Driver',
                         nova['DEFAULT']['compute_driver'])
        self.assertEqual({'default_guest_type': 'hvm'},
                         nova['xen44_x86_64'])
        packages, = self.calls('install_package')
        for name in ('xen-system-amd64', 'grub-xen-host', 'python3-libvirt',
                     'libvirt-daemon-driver-xen'):
            self.assertIn(f' {name}', packages)
        self.assertEqual(
            ['pip_install qemu.qmp>=0.0.6',
             f'pip_install --no-deps {base.CHECKOUT}'],
            self.calls('pip_install'))
        self.assertEqual(['add_user_to_group stack libvirt'],
                         self.calls('add_user'))
        self.assertEqual(
            ['restart_service xen', 'restart_service libvirtd',
             'restart_service logrotate.timer'],
            self.calls('restart_service'))
        self.assertEqual('ssh.service\n', self.read('enabled'))
        self.assertEqual([], self.calls('xenlab'))
        self.assertEqual([], self.calls('upload_image'))

    def test_files_of_the_host(self):
        self.run_well('stack')
        xen = self.read('etc/default/xen')
        self.assertTrue(xen.startswith('# Xen\nXENCONSOLED_ARGS=\n'), xen)
        self.assertIn('--log-dir=/var/log/xen/console"', xen)
        self.assertTrue((self.host / 'var/log/xen/console').is_dir())
        self.assertIn('xen.service', self.read(
            'etc/systemd/system/libvirtd.service.d/xen44.conf'))
        rotation = self.read('etc/logrotate.d/xen44')
        self.assertIn(f'{self.host}/opt/stack/data/nova/instances/*/',
                      rotation)
        self.assertIn('su stack stack', rotation)
        self.assertNotIn('nova nova', rotation)

    def test_twice(self):
        self.run_well('stack')
        tree, nova = self.tree(), self.ini('nova/nova.conf')
        self.run_well('stack')
        self.assertEqual(tree, self.tree())
        self.assertEqual(nova, self.ini('nova/nova.conf'))
        self.assertEqual([], self.calls('add_user'))
        self.assertNotIn('restart_service xen', self.calls())

    def test_a_user_value_stays(self):
        self.run_well('stack', base.DOM0 + """
            XEN44_DEFAULT_GUEST_TYPE=pvh
            LIBVIRT_GROUP=sudo
            BUILD_TIMEOUT=17
        """)
        nova = self.ini('nova/nova.conf')
        self.assertEqual('pvh', nova['xen44_x86_64']['default_guest_type'])
        self.assertEqual([], self.calls('add_user'))
        tempest = self.ini('tempest/tempest.conf')
        self.assertEqual('17', tempest['compute']['build_timeout'])

    def test_arm(self):
        self.run_well('stack', ARCH='aarch64')
        nova = self.ini('nova/nova.conf')
        self.assertEqual('pvh', nova['xen44_aarch64']['default_guest_type'])
        self.assertIn(' xen-system-arm64 ', self.calls('install_package')[0])
        self.assertEqual(
            features.options(features.load(), 'arm')['suspend'],
            self.ini('tempest/tempest.conf')[
                'compute-feature-enabled']['suspend'])

    def test_a_compute_node_alone(self):
        self.run_well('stack', base.DOM0 + 'ENABLED_SERVICES=n-cpu,q-agt\n')
        self.assertFalse((self.host / 'tempest').exists())

    def test_a_controller_alone(self):
        before = self.tree()
        self.run_well('stack', base.DOM0 + 'disable_service n-cpu\n')
        self.assertEqual(before, self.tree())
        self.assertNotIn('compute_driver', self.read('nova/nova.conf'))
        self.assertEqual(
            'xen', self.ini('tempest/tempest.conf')['compute'][
                'hypervisor_type'])
        self.run_well('clean', base.DOM0 + 'disable_service n-cpu\n')
        self.assertEqual(before, self.tree())

    def test_disabled(self):
        before = self.tree()
        for mode in ('stack', 'unstack', 'clean'):
            self.run_well(mode, base.DOM0 + 'disable_service xen44\n')
            self.assertEqual(before, self.tree())

    def test_another_plugin_takes_the_driver(self):
        said, well = self.run_double(
            'stack', base.DOM0 + 'function iniget { echo other.Driver; }\n')
        self.assertFalse(well)
        self.assertIn("compute_driver is 'other.Driver'", said)
        self.assertNotIn('== stack extra', self.calls())

    def test_unstack(self):
        self.run_well('stack')
        tree = self.tree()
        self.run_well('unstack')
        self.assertEqual('Domain-0\nother\n', self.read('guests'))
        calls = self.calls()
        self.assertLess(
            calls.index('stop_process n-cpu'),
            calls.index('virsh -c xen:///system destroy instance-00000001'))
        del tree['guests']
        self.assertEqual({**tree, 'guests': 'Domain-0\nother\n'},
                         self.tree())
        self.run_well('unstack')

    def test_a_guest_that_is_shut_off(self):
        self.run_well('stack')
        self.write('fails/virsh', 'destroy')
        self.run_well('unstack')
        self.assertEqual('Domain-0\nother\n', self.read('guests'))

    def test_clean(self):
        self.write('guests', 'Domain-0\n')
        before = self.tree()
        self.run_well('stack')
        self.assertNotEqual(before, self.tree())
        self.run_well('stack')
        self.run_well('clean')
        after = self.tree()
        for name in ('lib', 'opt', 'opt/stack'):
            after.pop(name, None)
        self.assertEqual(before | {'enabled': after['enabled']}, after)
        self.assertEqual({'xendomains.service', 'ssh.service'},
                         set(self.read('enabled').split()))
        self.assertIn('restart_service xen', self.calls())
        self.run_well('clean')

    def test_clean_leaves_what_was_there(self):
        self.write('etc/default/xen', 'XENCONSOLED_ARGS=--log=all\n')
        self.write('groups', 'stack libvirt\n')
        (self.host / 'var/log/xen/console').mkdir()
        self.write('var/log/xen/console/guest-a.log', 'login:')
        self.write('xenconsoled', 'xenconsoled --log=all\n')
        self.run_well('stack')
        self.run_well('clean')
        self.assertEqual('XENCONSOLED_ARGS=--log=all\n',
                         self.read('etc/default/xen'))
        self.assertEqual('stack libvirt\n', self.read('groups'))
        self.assertEqual('login:',
                         self.read('var/log/xen/console/guest-a.log'))
        self.assertNotIn('restart_service xen', self.calls())

    @ddt.data('xen', 'libvirtd')
    def test_after_half_a_stack(self, service):
        before = self.tree()
        self.write('fails/restart_service', service)
        _, well = self.run_double('stack')
        self.assertFalse(well)
        (self.host / 'fails/restart_service').unlink()
        kept = self.host / 'lib/state/host/etc/default/half.partial'
        kept.write_text('')
        self.run_well('stack')
        self.assertIn(f'restart_service {service}', self.calls())
        self.assertIn('--log=guest', self.read('xenconsoled'))
        self.run_well('clean')
        self.assertFalse((self.host / 'etc/default/half.partial').exists())
        self.assertEqual(before['etc/default/xen'],
                         self.read('etc/default/xen'))
        self.assertEqual(before['groups'], self.read('groups'))

    def test_not_a_dom0(self):
        self.write('fails/xl', 'info')
        said = self.refused()
        self.assertIn('not the dom0', said)
        self.assertIn('XEN44_INSTALL_XEN=True', said)
        self.assertIn('XEN44_NESTED=True', said)
        self.assertEqual([], self.calls('install_package'))

    def test_xen_is_installed_where_asked_for(self):
        before = self.tree()
        self.write('fails/xl', 'info')
        text = base.DOM0 + 'XEN44_INSTALL_XEN=True\nXEN44_DOM0_MEMORY=6144M\n'
        said, well = self.run_double('stack', text)
        self.assertFalse(well)
        self.assertIn('Reboot this machine', said)
        self.assertIn('"dom0_mem=6144M,max:6144M"',
                      self.read('etc/default/grub.d/xen44.cfg'))
        self.assertEqual(['update-grub'], self.calls('update-grub'))
        (self.host / 'fails/xl').unlink()
        self.run_well('stack', text)
        self.run_well('clean', text)
        self.assertEqual(['update-grub'], self.calls('update-grub'))
        for name in ('etc/default/grub.d', 'etc/logrotate.d/xen44'):
            self.assertNotIn(name, self.tree())
        self.assertEqual(before['etc/default/xen'],
                         self.read('etc/default/xen'))

    def test_too_little_memory(self):
        said = self.refused(base.DOM0 + 'XEN44_MIN_MEMORY=999999999\n')
        self.assertIn('XEN44_MIN_MEMORY is 999999999', said)


@ddt.ddt
class TempestTest(base.TestCase):

    @ddt.data('pv', 'pvh', 'hvm')
    def test_from_the_matrix(self, kind):
        self.run_well('stack', base.DOM0 + f'XEN44_DEFAULT_GUEST_TYPE={kind}'
                      '\nenable_service n-sproxy n-spice\n')
        wanted = features.options(features.load(), f'x86-{kind}')
        written = self.ini('tempest/tempest.conf')
        self.assertEqual(
            {name: value for name, value in wanted.items()
             if isinstance(features.OPTIONS[name], features.Rows)},
            written['compute-feature-enabled'])
        self.assertEqual('xvdb', written['compute']['volume_device_name'])

    def test_no_console_without_its_proxy(self):
        self.run_well('stack', base.DOM0 + 'disable_service n-novnc\n')
        written = self.ini('tempest/tempest.conf')
        self.assertEqual(
            'false', written['compute-feature-enabled']['vnc_console'])


class NestedTest(base.TestCase):

    def test_the_phases(self):
        before = self.tree()
        self.run_well('stack', base.NESTED)
        state = self.host / 'lib/state'
        self.assertEqual(
            [f'xenlab {words} [{state}/lab]' for words in (
                'check', 'down --host-only', 'node', 'up --host-only',
                f'join --venv {self.host}/opt/stack/data/venv')],
            self.calls('xenlab'))
        calls = self.calls()
        self.assertLess(calls.index('async_run xen44-lab _xen44_run_lab'),
                        calls.index('== stack install'))
        self.assertLess(calls.index('== stack extra'),
                        calls.index('async_wait xen44-lab'))
        self.assertEqual([f'upload_image file://{state}/xen44-small.img'],
                         self.calls('upload_image'))
        # Nothing of a dom0 was done to this machine.
        self.assertEqual([], self.calls('restart_service'))
        self.assertEqual([], self.calls('pip_install'))
        self.assertEqual(before['etc/default/xen'],
                         self.read('etc/default/xen'))
        self.assertNotIn('compute_driver', self.read('nova/nova.conf'))

    def test_what_dom0_is_told(self):
        self.run_well('stack', base.NESTED)
        known = dict(line.split('=', 1)
                     for line in self.read('joined').splitlines())
        self.assertEqual({
            'address': config.NODE_IP,
            'auth_url': f'http://{config.NODE_IP}/identity',
            'region': 'RegionOne',
            'image_url': f'http://{config.NODE_IP}/image',
            'transport_url': 'rabbit://u:p@q:5672/nova_cell1',
            'network_transport_url': 'rabbit://u:p@q:5672/',
            'password': 'se=cr"et',
            'guest_type': 'pv'}, known)
        settings.Foreign(**known)

    def test_it_waits_for_dom0(self):
        self.run_well('stack', base.NESTED)
        first, second, third = self.calls('test_with_retry')
        self.assertIn('compute service list --host xen1 ', first)
        self.assertIn('network agent list --host xen1 ', second)
        self.assertIn('tools/discover_hosts.sh', third)
        self.write('fails/test_with_retry', 'compute service')
        said, well = self.run_double('stack', base.NESTED)
        self.assertFalse(well)
        self.assertIn('nova-compute of xen1 does not report', said)
        self.assertIn(f'XENLAB_STATE={self.host}/lib/state/lab', said)

    def test_devstacks_defaults(self):
        self.run_well('stack', base.NESTED)
        tempest = self.ini('tempest/tempest.conf')
        self.assertEqual('900', tempest['compute']['build_timeout'])
        self.assertEqual('xen44', tempest['validation']['image_ssh_user'])
        self.assertEqual('udhcpc', tempest['scenario']['dhcp_client'])
        self.assertEqual({'image': 'xen44-small', 'tunnel': config.NODE_IP},
                         tempest['double'])

    def test_without_the_image(self):
        self.run_well('stack', base.NESTED + 'XEN44_BUILD_IMAGE=False\n'
                      'BUILD_TIMEOUT=17\n')
        self.assertEqual([], self.calls('upload_image'))
        self.assertEqual([], self.calls('guest-image'))
        tempest = self.ini('tempest/tempest.conf')
        self.assertEqual('17', tempest['compute']['build_timeout'])
        self.assertEqual('cirros', tempest['double']['image'])

    def test_the_image_for_a_dom0(self):
        self.run_well('stack', base.DOM0 + 'XEN44_BUILD_IMAGE=True\n')
        self.assertEqual([], self.calls('xenlab'))
        self.assertEqual(1, len(self.calls('guest-image')))
        self.assertEqual(1, len(self.calls('upload_image')))

    def test_twice(self):
        self.run_well('stack', base.NESTED)
        tree = self.tree()
        self.run_well('stack', base.NESTED)
        self.assertEqual(tree, self.tree())

    def test_unstack_and_clean(self):
        before = self.tree()
        self.run_well('stack', base.NESTED)
        self.assertEqual('INPUT -i xenlab0 -j ACCEPT\n', self.read('rules'))
        self.run_well('unstack', base.NESTED)
        self.assertEqual('', self.read('rules'))
        self.assertEqual(1, len(self.calls('xenlab down --host-only')))
        self.assertEqual([], self.calls('virsh'))
        self.run_well('clean', base.NESTED)
        self.assertEqual(1, len(self.calls('xenlab reset')))
        # What only saves time is kept.
        after = {name: text for name, text in self.tree().items()
                 if not name.startswith('cache')}
        for name in ('lib', 'opt', 'opt/stack', 'rules'):
            after.pop(name, None)
        self.assertEqual(before, after)

    def test_clean_after_another_shape(self):
        self.run_well('stack', base.NESTED)
        self.run_well('clean', base.DOM0)
        self.assertEqual(1, len(self.calls('xenlab reset')))
        self.assertFalse((self.host / 'lib/state').exists())

    def test_a_host_that_does_not_start(self):
        self.write('fails/xenlab', ' up ')
        said, well = self.run_double('stack', base.NESTED)
        self.assertFalse(well, said)
        self.assertIn('async_wait xen44-lab', self.calls())
        self.assertEqual([], self.calls('xenlab join'))

    def test_an_image_that_is_not_built(self):
        self.write('fails/guest-image', '')
        _, well = self.run_double('stack', base.NESTED)
        self.assertFalse(well)
        self.assertEqual([], self.calls('upload_image'))

    def test_another_lab_runs(self):
        self.write('fails/xenlab', ' check ')
        self.refused(base.NESTED)
        self.assertEqual([], self.calls('install_package'))


@ddt.ddt
class WrongValuesTest(base.TestCase):

    @ddt.data(
        (base.DOM0, 'VIRT_DRIVER=libvirt', 'xen44, set in localrc'),
        (base.DOM0, 'XEN44_NESTED=maybe', 'True or False'),
        (base.DOM0, 'XEN44_BUILD_IMAGE=2', 'True or False'),
        (base.DOM0, 'XEN44_INSTALL_XEN=ja', 'True or False'),
        (base.DOM0, 'XEN44_DEFAULT_GUEST_TYPE=kvm', 'hvm, pvh or pv'),
        (base.DOM0, 'XEN44_MIN_MEMORY=8G', 'a number of MiB'),
        (base.DOM0, 'XEN44_DOM0_MEMORY=lots', 'a size such as 8G or 6144M'),
        (base.DOM0, 'XEN44_START_TIMEOUT=0', 'a number of seconds'),
        (base.DOM0, 'XEN44_STATE_DIR=/', 'two directories deep'),
        (base.DOM0, 'XEN44_CACHE_DIR=cache', 'two directories deep'),
        (base.NESTED, 'Q_AGENT=ovn', 'openvswitch with XEN44_NESTED'),
        (base.NESTED, 'Q_ML2_TENANT_NETWORK_TYPE=vlan', 'vxlan'),
    )
    @ddt.unpack
    def test_refused(self, localrc, line, allowed):
        said = self.refused(f'{localrc}\n{line}\n')
        self.assertRegex(
            said, f'{re.escape(line)}: it is .*{re.escape(allowed)}')
        self.assertEqual([], self.calls('install_package'))

    @ddt.data('n-cpu', 'tls-proxy')
    def test_services_that_nested_cannot_have(self, service):
        said = self.refused(f'{base.NESTED}\nENABLED_SERVICES+=,{service}\n')
        self.assertIn(f'disable_service {service}', said)

    def test_all_in_one_message(self):
        said = self.refused(
            base.DOM0 + 'XEN44_NESTED=maybe\nVIRT_DRIVER=fake\n')
        self.assertIn('XEN44_NESTED=maybe', said)
        self.assertIn('VIRT_DRIVER=fake', said)

    def test_arm(self):
        said = self.refused(base.DOM0 + 'XEN44_DEFAULT_GUEST_TYPE=pv\n',
                            ARCH='aarch64')
        self.assertIn('pvh on ARM', said)
        said = self.refused(base.NESTED, ARCH='aarch64')
        self.assertIn('only on x86-64', said)

    def test_clean_works_all_the_same(self):
        self.run_well('clean', base.DOM0 + 'XEN44_NESTED=maybe\n')


@ddt.ddt
class SamplesTest(base.TestCase):

    @ddt.data(('aio', 'hvm'), ('compute', 'hvm'), ('nested', 'pv'))
    @ddt.unpack
    def test_it_stacks(self, shape, kind):
        text = (base.PLUGIN / f'local.conf.{shape}').read_text()
        localrc = text.partition('[[local|localrc]]\n')[2]
        self.run_well('stack', localrc + 'XEN44_MIN_MEMORY=1\n')
        name = self.calls('enable_plugin')[0].split()[1]
        self.assertTrue((base.PLUGIN / 'files/debs' / name).is_file())
        self.assertEqual([f'define_plugin {name}'],
                         self.calls('define_plugin'))
        driver = 'compute_driver = xen44' in self.read('nova/nova.conf')
        self.assertEqual(shape != 'nested', driver)
        if shape == 'nested':
            self.assertIn(f'address={config.NODE_IP}\n', self.read('joined'))
            self.assertIn(f'guest_type={kind}\n', self.read('joined'))
        else:
            nova = self.ini('nova/nova.conf')
            self.assertEqual({'default_guest_type': kind},
                             nova['xen44_x86_64'])

    def test_every_variable_is_explained(self):
        variables = set(re.findall(
            r'^\s*(?:_xen44_boolean \S+ |[^#\n]*?)(XEN44_\w+)(?:$|=\$\{\1:-)',
            (base.PLUGIN / 'settings').read_text(), re.MULTILINE))
        self.assertIn('XEN44_NESTED', variables)
        self.assertIn('XEN44_STATE_DIR', variables)
        explained = re.findall(r'^   \* - ``(XEN44_\w+)``$',
                               (base.PLUGIN / 'README.rst').read_text(),
                               re.MULTILINE)
        self.assertEqual(sorted(variables), sorted(explained))


class ConstantsTest(base.TestCase):
    """What the plugin's shell code says of the lab."""

    def test_addresses_and_names(self):
        text = ''.join(path.read_text() for path in (
            base.PLUGIN / 'override-defaults', base.PLUGIN / 'lib/lab.sh'))
        self.assertIn(f'TUNNEL_ENDPOINT_IP={config.NODE_IP}\n', text)
        self.assertEqual({config.NODE_LINK},
                         set(re.findall(r'-i (\w+)', text)))
        self.assertEqual({config.host_name(1)},
                         set(re.findall(r'\bxen\d\b', text)))

    def test_what_devstack_reads_by_pattern(self):
        text = (base.PLUGIN / 'settings').read_text()
        self.assertRegex(text, r'(?m)^define_plugin xen44_driver$')
        debs = base.PLUGIN / 'files/debs/xen44_driver'
        names = debs.read_text().splitlines()
        self.assertEqual(sorted(names), names)

    def test_every_package_of_the_lab_is_there_before(self):
        """The lab installs none beside devstack's own installation."""
        text = (base.PLUGIN / 'lib/lab.sh').read_text().replace('\\\n', ' ')
        given = set(re.search(r'install_package (.*)', text)[1].split())
        wanted = set()
        for name in ('debian', 'guest', 'host', 'image', 'kernel', 'network',
                     'qemu'):
            source = (base.CHECKOUT / f'lab/labkit/{name}.py').read_text()
            for words in re.findall(r'need_packages\(([^)]*)\)', source):
                wanted |= set(re.findall(r"'([^']+)'", words))
        self.assertEqual(wanted, given)
