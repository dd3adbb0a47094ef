# SPDX-License-Identifier: Apache-2.0
"""See in dom0 when something has become of a guest, whoever did it.

So Nova, virsh and xl are measured by the same sign. The shell looks by itself
as long as it can: each process takes 70 ms of dom0, which what is measured
needs as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
import contextlib
import subprocess
import time

from labkit import util
from labkit.host import XenHost

#: The signs. Of a new domain: its first packet, which Linux sends when its
#: init has brought the network up; its network card connected.
BOOTED = 'booted'
CONNECTED = 'connected'
#: Xenstore knows the domain no more.
GONE = 'gone'
#: The guest's kernel has connected a disk; Xenstore knows that no more.
DISK = 'disk'
NO_DISK = 'no_disk'

#: Seconds that hardly ever pass under emulation.
LIMIT = 300

#: WHAT NAME DISK SECONDS [COMMAND...]: run the command, if there is one, then
#: wait for the sign, at most so many seconds. Prints "armed", later the
#: seconds since then.
_SCRIPT = r'''
what=$1 name=$2 disk=$3 limit=$4
shift 4
shopt -s nullglob
: "${devices:=/sys/bus/xen-backend/devices}"
cards=("$devices"/vif-*-0)
known=" ${cards[*]} "
id=$(xl domid "$name" 2>/dev/null)
case $what-$id in
gone- | *disk-)
    echo "there is no domain $name" >&2
    exit 1
    ;;
esac
domain=/local/domain/$id
exec {pause}<> <(:)

connected() {
    local state
    for vif in "$devices"/vif-*-0; do
        [[ $known == *" $vif "* ]] && continue
        read -r state < "$vif/state" && [ "$state" = Connected ] && return
    done
    return 1
}
booted() {
    local packets
    connected || return
    for file in "$vif"/net/*/statistics/rx_packets; do
        read -r packets < "$file" && [ "$packets" -gt 0 ] && return
    done
    return 1
}
has_backend() {
    local kind
    for kind in vbd qdisk; do
        [ -e "$devices/$kind-$id-$disk" ] && return
    done
    return 1
}
gone() { [ ! -e "$devices/vif-$id-0" ] && ! xenstore-exists "$domain/name"; }
disk() {
    has_backend && [ "$(xenstore-read "$domain/device/vbd/$disk/state")" = 4 ]
}
no_disk() { ! has_backend && ! xenstore-exists "$domain/device/vbd/$disk"; }

begin=${EPOCHREALTIME/[.,]/}
echo armed
if [ $# -gt 0 ]; then
    "$@" > /dev/null || exit 1
fi
until "$what" 2> /dev/null; do
    if [ $((${EPOCHREALTIME/[.,]/} - begin)) -gt $((limit * 1000000)) ]; then
        echo "$name is not $what in $limit s" >&2
        exit 1
    fi
    read -rt 0.1 -u "$pause"
done
took=$((${EPOCHREALTIME/[.,]/} - begin))
printf '%d.%06d\n' $((took / 1000000)) $((took % 1000000))
'''


def _command(what: str, name: str, disk: int,
             *argv: str) -> list[str]:
    return ['bash', '-c', _SCRIPT, 'bash', what, name, str(disk), str(LIMIT),
            *argv]


def seconds(host: XenHost, what: str, name: str, argv: Sequence[str],
            disk: int = 0) -> float:
    """Seconds from the begin of a command in dom0 until it is done.

    It is done when the command has ended, and the sign is there.

    :param what: the sign.
    :param name: of the domain; it need not be there yet.
    :param disk: Xen's number of the disk, if it is about one.
    :raises util.LabError: the command failed, or the sign did not come.
    """
    done = host.ssh(_command(what, name, disk, *argv), timeout=2 * LIMIT)
    return float(done.stdout.split()[-1])


@contextlib.contextmanager
def watching(host: XenHost, what: str, name: str,
             disk: int = 0) -> Iterator[futures.Future[float]]:
    """Watch for a sign from now on; parameters as of :func:`seconds`.

    :returns: when it came, on this machine's monotonic clock.
    """
    command = util.in_netns(host.ssh_command(_command(what, name, disk)))
    with futures.ThreadPoolExecutor(1) as pool, subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            text=True) as watcher:
        assert watcher.stdout is not None  # noqa: S101 asked for above
        try:
            if watcher.stdout.readline() != 'armed\n':
                raise util.LabError(f'{host.name} does not watch {name}')
            yield pool.submit(_wait, watcher, what)
        finally:
            watcher.terminate()


def _wait(watcher: subprocess.Popen[str], what: str) -> float:
    assert watcher.stdout is not None  # noqa: S101 as above
    line = watcher.stdout.readline()
    now = time.monotonic()
    if not line:
        raise util.LabError(f'nothing was {what} in {LIMIT} s')
    return now
