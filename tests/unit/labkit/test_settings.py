# SPDX-License-Identifier: Apache-2.0
"""The release, addresses, and the services' configuration files."""

import configparser
import ipaddress
import pathlib
import re
import urllib.parse

from labkit import config
from labkit import host
from labkit import release
from labkit.cloud import content
from labkit.cloud import install
from labkit.cloud import settings
from tests.unit.labkit import base


class ReleaseTest(base.TestCase):

    def test_its_files(self):
        current = release.CURRENT
        self.assertIn(current.name, current.constraints.name)
        pinned = set(re.findall(r'^([\w.-]+)===?', re.sub(
            '_', '-', current.constraints.read_text().lower()),
            re.MULTILINE))
        for name in ('nova', 'neutron', 'keystone', 'glance', 'cinder'):
            self.assertIn(name, current.controller_packages)
            self.assertIn(name, pinned)

    def test_tox_uses_the_same(self):
        text = (config.CHECKOUT / 'tox.ini').read_text()
        name = release.CURRENT.constraints.relative_to(config.CHECKOUT)
        used = set(re.findall(
            r'-c {env:TOX_CONSTRAINTS_FILE:{tox_root}/(\S+)}', text))
        self.assertEqual({str(name)}, used)

    def test_the_venv_is_kept_by_what_is_in_it(self):
        before = install.venv_path()
        self.assertEqual(before, install.venv_path())
        self.patch(release, 'CURRENT',
                   release.Release('2026.2', ('nova',), ()))
        self.assertNotEqual(before, install.venv_path())


class SecretsTest(base.TestCase):

    def test_made_once_for_root_alone(self):
        known = settings.load_secrets()
        self.assertEqual(known, settings.load_secrets())
        self.assertEqual(0o600, config.SECRETS.stat().st_mode & 0o777)
        self.assertEqual(len(known), len(set(known.values())))

    def test_a_new_name_leaves_the_others(self):
        known = settings.load_secrets()
        self.patch(settings, '_SECRETS', (*settings._SECRETS, 'barbican'))
        again = settings.load_secrets()
        self.assertEqual(again, {**again, **known})
        self.assertTrue(again['barbican'])

    def test_private_directories(self):
        path = self.directory / 'a/b/c'
        settings.write_private(path, 'secret')
        for one in (path.parent, path.parent.parent):
            self.assertEqual(0o700, one.stat().st_mode & 0o777)
        self.assertEqual('secret', path.read_text())


class TemplatesTest(base.TestCase):

    VENV = pathlib.Path('/venv')

    def parsed(self, text):
        parser = configparser.ConfigParser(
            interpolation=None, strict=False, allow_no_value=True)
        parser.read_string(text)
        return parser

    def test_the_controller(self):
        known = settings.values(self.VENV)
        files = settings.render('controller', known)
        self.assertIn('nova/nova.conf', files)
        for name, text in files.items():
            self.assertNotIn('${', text, name)
        nova = self.parsed(files['nova/nova.conf'])
        self.assertIn(known['nova_password'],
                      nova['keystone_authtoken']['password'])

    def test_dom0(self):
        known = settings.compute_values(1)
        files = settings.render('compute', known)
        self.assertEqual(
            known['host'],
            self.parsed(files['etc/nova/nova.conf'])['DEFAULT']['host'])
        for name, text in files.items():
            self.assertNotIn('${', text, name)

    def test_volumes_of_dom0(self):
        known = settings.compute_values(1)
        files = settings.render('volume', known)
        cinder = self.parsed(files['etc/cinder/cinder.conf'])
        backends = cinder['DEFAULT']['enabled_backends'].split(',')
        self.assertEqual(list(content.VOLUME_TYPES), backends)
        for name in backends:
            # As the type's extra spec and the wait for its pool have it.
            self.assertEqual(name, cinder[name]['volume_backend_name'])
        self.assertEqual('lioadm', cinder['lvm']['target_helper'])
        # A user of its own, not the controller's.
        url = urllib.parse.urlsplit(cinder['database']['connection'])
        self.assertEqual(
            ('cinder', known['cinder_password'], config.CONTROLLER_IP,
             '/cinder'),
            (url.username, url.password, url.hostname, url.path))
        self.assertNotIn(settings.load_secrets()['database'],
                         files['etc/cinder/cinder.conf'])

    def test_one_key_for_encrypted_volumes(self):
        known = settings.compute_values(1)
        keys = {
            self.parsed(settings.render(tree, known)[name])[
                'key_manager']['fixed_key']
            for tree, name in (('compute', 'etc/nova/nova.conf'),
                               ('volume', 'etc/cinder/cinder.conf'),
                               ('controller', 'cinder/cinder.conf'))}
        self.assertEqual(1, len(keys), keys)
        self.assertEqual(32, len(bytes.fromhex(keys.pop())))

    def test_dom0_of_a_foreign_cloud(self):
        cloud = settings.Foreign(
            address='192.0.2.7', auth_url='http://192.0.2.7/identity',
            region='RegionTwo', image_url='http://192.0.2.7/image',
            transport_url='rabbit://u:p@192.0.2.7:5672/nova_cell1',
            network_transport_url='rabbit://u:p@192.0.2.7:5672/',
            password='service', guest_type='pvh')
        files = settings.render('compute', settings.foreign_values(1, cloud))
        # Nothing of it is the lab's own, and no secret of the lab was made.
        for text in files.values():
            self.assertNotIn(f'{config.CONTROLLER_IP}:', text)
        self.assertFalse(config.SECRETS.exists())
        nova = self.parsed(files['etc/nova/nova.conf'])
        self.assertEqual(cloud.transport_url,
                         nova['DEFAULT']['transport_url'])
        self.assertEqual('pvh', nova['xen44_x86_64']['default_guest_type'])
        self.assertFalse(nova.has_section('key_manager'))
        for section in ('placement', 'neutron', 'cinder', 'service_user'):
            self.assertEqual(cloud.auth_url, nova[section]['auth_url'])
            self.assertEqual('RegionTwo', nova[section]['region_name'])
            self.assertEqual('service', nova[section]['password'])
        neutron = self.parsed(files['etc/neutron/neutron.conf'])
        self.assertEqual(cloud.network_transport_url,
                         neutron['DEFAULT']['transport_url'])
        self.assertEqual(nova['DEFAULT']['host'], neutron['DEFAULT']['host'])
        agent = self.parsed(
            files['etc/neutron/plugins/ml2/openvswitch_agent.ini'])
        self.assertEqual('vxlan', agent['agent']['tunnel_types'])
        self.assertEqual(config.host_ip(1), agent['ovs']['local_ip'])

    def test_an_unknown_name(self):
        template = self.directory / 'one'
        template.write_text('a = ${nobody}\n')
        self.assertRaises(KeyError, settings.render_one, template, {})

    def test_tempest_names_what_it_is_given(self):
        known = {name: name for name in re.findall(
            r'\$\{(\w+)\}',
            (release.CURRENT.templates / 'tempest.conf').read_text())}
        text = settings.render_one(
            release.CURRENT.templates / 'tempest.conf', known)
        self.assertEqual(
            'image', self.parsed(text)['compute']['image_ref'])


class HostsTest(base.TestCase):

    def test_hosts_are_numbered_from_one(self):
        self.patch(config, 'HOSTS', 2)
        self.assertEqual(['xen1', 'xen2'],
                         [one.name for one in host.hosts()])
        self.assertEqual(['arm1', 'arm2'],
                         [one.name for one in host.hosts('aarch64')])
        self.patch(config, 'ARCHITECTURE', 'aarch64')
        self.assertEqual(['arm1', 'arm2'],
                         [one.name for one in host.hosts()])

    def test_addresses(self):
        hosts = host.all_hosts()
        net = ipaddress.ip_interface(
            f'{config.CONTROLLER_IP}/{config.PREFIX}').network
        addresses = {one.address for one in hosts}
        self.assertEqual(8, len(addresses))
        for address in addresses:
            self.assertIn(ipaddress.ip_address(address), net)
            self.assertNotIn(address, (config.CONTROLLER_IP, config.NODE_IP))
        self.assertIn(ipaddress.ip_address(config.NODE_IP), net)

    def test_names_of_devices(self):
        both = {(role, number): (config.tap(number, role),
                                 config.mac(number, role))
                for role in 'md' for number in (1, 2, 5)}
        for at in (0, 1):
            self.assertEqual(6, len({pair[at] for pair in both.values()}))
        for tap, _ in both.values():
            self.assertTrue(len(tap) < 16)  # Linux' limit
