# SPDX-License-Identifier: Apache-2.0
"""nova-compute does not start on nonsense, and says why."""

from __future__ import annotations

import shlex

from tests.gate import base

#: Seconds for three of them at once; their imports are most of it.
TIMEOUT = 360

#: What is wrong: (configuration, what the log must say in one line).
WRONG = {
    'no-such-disk-format': (
        '[xen44]\ndisk_format = qcow3\n', ('qcow3', 'qcow2', 'raw')),
    'value-out-of-range': (
        '[xen44]\nmax_event_channels = 7\n',
        ('max_event_channels', '1023')),
    'no-libvirtd': (
        '[xen44]\nconnection_uri = xen+unix:///system?socket=/run/no-libvirtd\n',
        ('/run/no-libvirtd',)),
}

#: Each beside the host's own nova-compute, with a name and a directory of
#: its own, so that the cloud never takes it for that one.
_SCRIPT = r'''
directory=$(mktemp -d) || exit
trap 'rm -rf "$directory"' EXIT
for name in $names; do
    {
        printf '[DEFAULT]\nhost = %s\nstate_path = %s\n' \
            "$name" "$directory/$name"
        printf 'instances_path = %s\n' "$directory/$name/instances"
        key=${name//-/_}
        printf '%s' "${!key}"
    } > "$directory/$name.conf"
    mkdir -p "$directory/$name/instances"
    (
        timeout -k 10 "$limit" /opt/stack/venv/bin/nova-compute \
            --config-file /etc/nova/nova.conf \
            --config-file "$directory/$name.conf" \
            > "$directory/$name.log" 2>&1 < /dev/null
        echo "exit status: $?" >> "$directory/$name.log"
    ) &
done
wait
for name in $names; do
    echo "=== $name"
    cat "$directory/$name.log"
done
'''


class Startup(base.GateCase):
    """A second nova-compute in dom0, wrongly configured."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.forget_services)

    def forget_services(self) -> None:
        """One that did start has told Nova of itself."""
        for service in self.cloud.compute.services(binary='nova-compute'):
            if service.host in WRONG:
                self.cloud.compute.delete_service(service)

    @base.slow
    def test_wrong_configuration(self) -> None:
        values = {'names': ' '.join(WRONG), 'limit': str(TIMEOUT)}
        values |= {name.replace('-', '_'): text
                   for name, (text, _) in WRONG.items()}
        script = ''.join(f'{key}={shlex.quote(value)}\n'
                         for key, value in values.items()) + _SCRIPT
        said = self.host.ssh(['bash', '-s'], input=script,
                             timeout=TIMEOUT + 60).stdout
        logs = dict(part.split('\n', 1)
                    for part in said.split('=== ')[1:])
        for name, (_, fragments) in WRONG.items():
            lines = logs[name].splitlines()
            told = [line for line in lines
                    if all(fragment in line for fragment in fragments)]
            end = '\n'.join([name, *lines[-20:]])
            self.assertTrue(told, end)
            self.assertIn(lines[-1], {'exit status: 1', 'exit status: 2'},
                          end)
