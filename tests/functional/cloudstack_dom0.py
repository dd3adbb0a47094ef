# SPDX-License-Identifier: Apache-2.0
"""The dom0 of the tests of CloudStack: the real program on doubles.

``python cloudstack_dom0.py DIRECTORY`` listens on the socket ``dom0`` there.
For each client it runs ``xen44-cloudstack serve`` in a process of its own,
with the client's input, outputs and environment, and ends it with its exit
status; so its imports are made once. The domains of the double of libvirt are
in a file in DIRECTORY from one run to the next, as libvirtd would have them.

With more arguments, it runs the program once with these.
"""

import contextlib
import importlib.util
import itertools
import json
import os
import pathlib
import socket
import sys

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.cloudstack import program
from xen44_driver.cloudstack import vms
from xen44_driver.core import loopdevices
from xen44_driver.xen import connection
from xen44_driver.xen import loops
from xen44_driver.xen import sockets

HERE = pathlib.Path(__file__).parent


def load(name):
    """Import a double without the package that it is in, which needs Nova."""
    spec = importlib.util.spec_from_file_location(name, HERE / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fakelibvirt = load('fakelibvirt')
fakexenstore = load('fakexenstore')


class LastingHost(fakelibvirt.XenHost):
    """A host whose domains outlive this process."""

    def __init__(self, path):
        super().__init__()
        self._path = path
        with contextlib.suppress(FileNotFoundError):
            self._load(json.loads(path.read_text()))

    def _load(self, stored):
        self.up = stored.get('up', True)
        self.guests_obey = stored.get('guests_obey', True)
        self.failures = stored.get('failures', {})
        self.ids = itertools.count(stored.get('next', 1))
        for values in stored.get('domains', ()):
            domain = fakelibvirt.Domain(self, values['xml'])
            domain.id, domain.running = values['id'], values['running']
            domain.reason = values['reason']
            self.domains[domain.UUIDString()] = domain

    def tell(self, domain, event, detail=0):
        """Queue an event: a domain has changed."""
        self.save()
        super().tell(domain, event, detail)

    def save(self):
        part = self._path.with_suffix('.part')
        part.write_text(json.dumps({
            'up': self.up, 'guests_obey': self.guests_obey,
            'failures': self.failures,
            'next': max((domain.id for domain in self.domains.values()),
                        default=0) + 1,
            'domains': [
                {'xml': domain.xml, 'id': domain.id,
                 'running': domain.running, 'reason': domain.reason}
                for domain in self.domains.values()]}))
        part.rename(self._path)


def run(place, *argv):
    """Run the program."""
    host = LastingHost(place / 'libvirt.json')
    fakelibvirt._LIBVIRT.host = host
    connection.libvirt = fakelibvirt._LIBVIRT
    xenstore = fakexenstore.FakeXenstoreFixture(host)
    xenstore.setUp()
    xenstore.deaf = (place / 'deaf').exists()
    privsep.sys_admin_pctxt.set_client_mode(False)
    if (place / 'hurried').exists():
        program.GRACE = loopdevices.PATIENCE = 0
    sockets.DIRECTORY = privsep.MONITOR_DIR = str(place / 'run')
    vms.NETWORK_DEVICES = str(place / 'net')
    loops.SYSFS = str(place / 'block')
    assert not [name for name in sys.modules if name == 'nova']
    return program.main([
        '--config-file', str(place / 'xen44.conf'), *argv])


def serve(place):
    """Run the program for each client, for ever."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place / 'dom0'))
        server.listen()
        while True:
            client, _ = server.accept()
            with client:
                if not os.fork():
                    os._exit(attend(place, client))
            # Those that have ended.
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def attend(place, client):
    """Run the program for a client, and tell it the exit status."""
    environment, descriptors, _, _ = socket.recv_fds(client, 65536, 3)
    pid = os.fork()
    if pid:
        for descriptor in descriptors:
            os.close(descriptor)
        # As sshd tells of a killed program; nobody may listen any more.
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256
        with contextlib.suppress(BrokenPipeError):
            client.sendall(str(status).encode())
        return 0
    client.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(json.loads(environment))
    faultpoints._action = faultpoints._from_environment()
    sys.stdin = open(0)
    try:
        return run(place, 'serve')
    finally:
        sys.stdout.flush()


if __name__ == '__main__':
    if len(sys.argv) > 2:
        sys.exit(run(pathlib.Path(sys.argv[1]), *sys.argv[2:]))
    serve(pathlib.Path(sys.argv[1]))
