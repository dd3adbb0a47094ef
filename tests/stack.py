# SPDX-License-Identifier: Apache-2.0
"""A whole devstack with its plugin, nested, and a server on its Xen host.

Runs devstack's own stack.sh, unstack.sh and clean.sh in a Debian 13 with
systemd (:mod:`tests.functional.container`), with the plugin of this checkout
and its sample local.conf. devstack itself is given, a clone of its
repository; what it would clone is made of what PyPI has.

Needs root, 12 GiB of memory and 20 GB of disk.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

from labkit import config
from labkit import util
from tests.functional import container
from tests.functional import packages

CONSTRAINTS = packages.PROJECT / 'lab/openstack/constraints-2026.2.txt'

#: Projects that devstack has the repositories of, and their sdists.
PROJECTS = {'glance': 'glance', 'keystone': 'keystone', 'neutron': 'neutron',
            'nova': 'nova', 'placement': 'openstack-placement'}

#: What devstack looks up in global-requirements.txt.
_GLOBAL = ('PyMySQL', 'glance-store>=0', 'keystonemiddleware', 'osc-placement',
           'psutil', 'python-memcached', 'python-openstackclient')

#: In place of OpenStack's requirements, which are not on PyPI: the one command
#: of it that devstack runs.
_EDIT_CONSTRAINTS = '''\
import pathlib
import re
import sys


def main():
    path, _, name, *line = sys.argv[1:]
    path = pathlib.Path(path)
    wanted = re.sub('[-_.]+', '-', name).lower()
    lines = [one for one in path.read_text().splitlines() if wanted !=
             re.sub('[-_.]+', '-', re.split('[=<>;@ ]', one)[0]).lower()]
    path.write_text('\\n'.join([*line, *lines]) + '\\n')
'''
_PYPROJECT = '''\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "openstack-requirements"
version = "1"
[project.scripts]
edit-constraints = "edit_constraints:main"
[tool.setuptools]
py-modules = ["edit_constraints"]
'''

#: stack.sh asks for this language.
_LOCALE = 'localedef -i en_US -f UTF-8 en_US.UTF-8'
_CERTIFICATES = pathlib.Path('/etc/ssl/certs/ca-certificates.crt')

#: XEN44_CACHE_DIR and XEN44_STATE_DIR.
_CACHE = '/var/cache/xenlab'
_STATE = '/var/lib/xen44-devstack'

#: Lines after the sample's. A kernel without Open vSwitch will do; Tempest's
#: images have a repository, and PyPI does not have them.
_LOCALRC = '''
ERROR_ON_CLONE=True
NOVNC_FROM_PACKAGE=True
disable_service tempest
OVS_DATAPATH_TYPE=netdev
ENABLE_KSMTUNED=False
MYSQL_GATHER_PERFORMANCE=False
'''

_OPENSTACK = (f'/{container.HOME}/data/venv/bin/openstack', '--os-cloud')
#: Its demo project, which has a network.
_DEMO = 'devstack-admin-demo'

#: Where the kernel has no Open vSwitch, its daemon ends a tunnel at an address
#: of its own bridges. It then sees frames before a kernel has given them
#: checksums.
_SWITCH = f'''
ip netns exec {config.DEFAULT_NETNS} ethtool -K {config.NODE_PORT} tx off
read -r mac < /sys/class/net/{config.NODE_LINK}/address
ip address flush dev {config.NODE_LINK}
ovs-vsctl add-br br-node -- set bridge br-node datapath_type=netdev \\
    other-config:hwaddr="$mac" -- add-port br-node {config.NODE_LINK}
ip address add {config.NODE_IP}/{config.PREFIX} dev br-node
ip link set br-node up
'''

#: A line of stack.sh's summary.
_SUMMARY = re.compile(r'\d{4}-\d\d-\d\d [\d:.]+ \|')


def _commit(path):
    """Make all that is in a git repository its newest commit."""
    git = ['git', '-C', path, '-c', 'user.name=none', '-c', 'user.email=']
    packages.run(*git, 'add', '--all')
    packages.run(*git, 'commit', '--quiet', '--allow-empty', '--message=All')


def _make_repository(path):
    """Make a directory a git repository of one commit."""
    packages.run('git', 'init', '--quiet', '--initial-branch=master', path)
    _commit(path)


def _add_projects(root, log):
    """Put what devstack would clone where it would."""
    home, scratch = root / container.HOME, root / 'tmp/sdists'
    for name, sdist in PROJECTS.items():
        util.run([sys.executable, '-m', 'pip', 'download', '--quiet',
                  '--no-deps', f'--no-binary={sdist}', '--dest', scratch,
                  '--constraint', CONSTRAINTS, sdist], timeout=900, log=log)
        (archive,) = scratch.glob('*.tar.gz')
        packages.run('tar', '--extract', '--no-same-owner', '--file', archive,
                     '--directory', scratch)
        archive.unlink()
        (directory,) = scratch.iterdir()
        directory.rename(home / name)
        _make_repository(home / name)
    requirements = home / 'requirements'
    requirements.mkdir()
    for name, text in (
            ('edit_constraints.py', _EDIT_CONSTRAINTS),
            ('pyproject.toml', _PYPROJECT),
            ('global-requirements.txt', '\n'.join(_GLOBAL)),
            ('upper-constraints.txt', CONSTRAINTS.read_text())):
        (requirements / name).write_text(text)
    _make_repository(requirements)
    scratch.rmdir()
    packages.run('chown', '-R', '--reference', home, *home.iterdir())


def _disk():
    return container.make_disk(
        'devstack', '20G', _LOCALE, _add_projects, debs=['ethtool', 'locales'],
        parts=(CONSTRAINTS.read_text(), _EDIT_CONSTRAINTS, _PYPROJECT,
               *PROJECTS.values(), *_GLOBAL))


def _local_conf():
    """The sample, with the lines that its user changes."""
    sample = (packages.PROJECT / 'devstack/local.conf.nested').read_text()
    text, changed = re.subn(
        'enable_plugin xen44_driver .*',
        f'enable_plugin xen44_driver file:///{container.HOME}/xen44_driver',
        sample)
    assert changed == 1, sample
    return f'{text}{_LOCALRC}'


class Devstack(container.Container):
    """A container that reaches what this machine does, and runs a lab.

    :param source: a clone of devstack.
    """

    def __init__(self, source):
        config.CACHE.mkdir(parents=True, exist_ok=True)
        super().__init__(_disk(), [
            '--resolv-conf=off', '--bind=/dev/net/tun',
            f'--bind={config.CACHE}:{_CACHE}'])
        self._source = source

    def _setUp(self):
        super()._setUp()
        self._connect()
        # A proxy's may be among those of this machine.
        shutil.copy(_CERTIFICATES, self.root / str(_CERTIFICATES)[1:])
        (self.root / 'etc/pip.conf').write_text(
            f'[global]\ncert = {_CERTIFICATES}\n')
        # git follows the link that the container's root is.
        devstack = packages.directory() / 'devstack'
        packages.run('git', 'clone', '--quiet', self._source, devstack)
        plugin = packages.copy('xen44_driver')
        _commit(plugin)
        packages.run('cp', '-r', devstack, plugin, self.root / container.HOME)
        self.write('devstack/local.conf', _local_conf())

    def _connect(self):
        """Give it a network of its own, by which it reaches others."""
        slirp = subprocess.Popen(
            ['setpriv', '--pdeathsig', 'TERM', 'slirp4netns', '--configure',
             '--mtu=1500', '--disable-host-loopback', self.leader, 'up0'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.addCleanup(slirp.wait)
        self.addCleanup(slirp.terminate)
        util.wait_for('its way out', lambda: self.run('ip', 'route'), 60)
        (self.root / 'etc/resolv.conf').write_text('nameserver 10.0.2.3\n')

    def devstack(self, script, limit):
        """Run a script of devstack's; its summary is shown.

        :param limit: seconds.
        :raises util.LabError: it failed.
        """
        log = config.LOGS / f'devstack-{script}.log'
        log.parent.mkdir(parents=True, exist_ok=True)
        util.say(f'{script}: log {log}')
        # Not a pipe: what it leaves behind when it fails would hold that.
        with util.step(script), open(log, 'w') as file, open(log) as told:
            process = subprocess.Popen(
                self.service('timeout', str(limit),
                             f'/{container.HOME}/devstack/{script}'),
                stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT)
            status = None
            while status is None:
                time.sleep(1)
                status = process.poll()
                for line in told:
                    if _SUMMARY.match(line):
                        util.say(f'  {line.rstrip()}')
            if status:
                raise util.LabError(f'{script}: exit {status}', log)

    def keep_logs(self):
        """Copy what its services and the emulated host have logged."""
        kept = config.LOGS / 'devstack'
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        for log in self.root.glob(f'{_STATE}/lab/log/*'[1:]):
            shutil.copy(log, kept)
        (kept / 'journal.log').write_text(
            self.run('journalctl', '--boot', user='root'))
        util.say(f'logs: {kept}')

    def openstack(self, *command, cloud='devstack-admin'):
        """Run a command of the client; returns its JSON."""
        done = subprocess.run(
            self.service(*_OPENSTACK, cloud, *command, '--format=json'),
            check=False, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=900)
        if done.returncode:
            raise util.LabError(f'openstack {command}: {done.stderr}')
        return json.loads(done.stdout)

    def answers(self, address):
        """Whether a server answers in devstack's private network."""
        (router,) = re.findall(r'qrouter-\S+', self.run('ip', 'netns'))
        _, status = self.call('ip', 'netns', 'exec', router, 'ping', '-c1',
                              '-W2', address, user='root')
        return status == 0

    def domains(self):
        """What xl says of the domains of the emulated host."""
        return self.run(
            'sudo', f'XENLAB_STATE={_STATE}/lab',
            f'/{container.HOME}/xen44_driver/lab/xenlab', 'ssh', 'xl', 'list')


def boot_server(host):
    """Boot a server, look at it from all sides, and delete it."""
    (hypervisor,) = host.openstack('hypervisor', 'list')
    util.say('hypervisor {Hypervisor Hostname}: {State}'.format(**hypervisor))
    host.run('bash', '-euxc', _SWITCH, user='root')
    project = host.openstack('project', 'show', 'demo')['id']
    (group,) = host.openstack('security', 'group', 'list', '--project',
                              project)
    host.openstack('security', 'group', 'rule', 'create', '--protocol=icmp',
                   group['ID'])
    with util.step('server create'):
        server = host.openstack(
            'server', 'create', '--wait', '--image=xen44-small',
            '--flavor=cirros256', '--network=private', 'first', cloud=_DEMO)
    domain = server['OS-EXT-SRV-ATTR:instance_name']
    (address,) = (one for one in server['addresses']['private'] if '.' in one)
    with util.step(f'{address} answers'):
        util.wait_for(f'ping {address}', lambda: host.answers(address), 900)
    with util.step('its console has a login'):
        util.wait_for('login:', lambda: 'login:' in host.run(
            *_OPENSTACK, 'devstack-admin', 'console', 'log', 'show',
            server['id']), 300, interval=5)
    domains = host.domains()
    assert domain in domains, domains
    util.say(domains)
    with util.step('server delete'):
        host.run(*_OPENSTACK, 'devstack-admin', 'server', 'delete', '--wait',
                 server['id'])
    domains = host.domains()
    assert domain not in domains, domains


def look_for_traces(host):
    """See that clean.sh has left nothing of ours but what saves time."""
    found = host.run('find', '/etc', '/var', '/usr/local', '-path', _CACHE,
                     '-prune', '-o', '-name', '*xen44*', '-print', user='root')
    assert not found, found
    for command in (['ip', 'link'], ['ip', 'netns'], ['iptables', '-S']):
        said = host.run(*command, user='root')
        assert 'xenlab' not in said, said


def run_it(source):
    """Run a devstack from its first script to its last.

    :param source: a clone of devstack.
    :raises util.LabError: one failed.
    """
    with Devstack(source) as host:
        try:
            host.devstack('stack.sh', 10800)
            boot_server(host)
            host.devstack('unstack.sh', 1800)
            host.devstack('clean.sh', 1800)
            look_for_traces(host)
        except BaseException:
            host.keep_logs()
            raise


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('devstack', type=pathlib.Path,
                        help="a clone of devstack's repository")
    args = parser.parse_args()
    try:
        util.need_root()
        util.need_packages('git', 'slirp4netns')
        # It has to be one, and its owner's who clones it.
        util.run(['git', '-C', args.devstack, 'rev-parse', 'HEAD'])
        run_it(args.devstack)
    except util.LabError as error:
        return f'tests.stack: {error}'
    return 0


if __name__ == '__main__':
    sys.exit(main())
