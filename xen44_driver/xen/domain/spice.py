# SPDX-License-Identifier: Apache-2.0
"""The SPICE server of a screen, written as QEMU arguments.

libvirt's ``<graphics type='spice'>`` does not do for libxl (libvirt 11.3, Xen
4.20): it takes the place of VNC, it always listens on a TCP port, and QEMU
since 8.0 refuses the password that libxl passes. Here QEMU listens on a socket
that only root in dom0 can reach, beside VNC or without it.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import itertools
import re

from xen44_driver.xen.domain import check

_ID = 'xen44-vdagent'
#: The name by which SPICE's agent finds its channel.
_PORT = (f'virtserialport,bus={_ID}-bus.0,chardev={_ID},'
         'name=com.redhat.spice.0')
_AGENT = ('-device', f'virtio-serial-pci,id={_ID}-bus',
          '-chardev', f'spicevmc,id={_ID},name=vdagent', '-device', _PORT)

_SERVER = re.compile(
    r'unix=on,addr=(?P<socket>[^,]+),disable-ticketing=on(?P<options>.*)')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spice:
    """A SPICE server, without a password.

    :ivar socket: path of the socket on which QEMU listens.
    :ivar agent: whether the guest has a channel to SPICE's agent, which
        shares the clipboard and fits the screen to the viewer's window.
    :ivar options: further options of QEMU's ``-spice``, such as
        ``image-compression=off``.
    """

    socket: str
    agent: bool = False
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # A comma would end the path in QEMU's option.
        check.path('spice.socket', self.socket, without=',')
        for option in self.options:
            check.match('spice.options', option, r'[a-z-]+=[a-z_]+',
                        'such as image-compression=off')


def arguments(spice: Spice | None) -> tuple[str, ...]:
    """Return QEMU's arguments for the server.

    QEMU removes an old socket of that path, and does not wait for a client.

    :param spice: None for no SPICE.
    """
    if spice is None:
        return ()
    server = ','.join(('unix=on', f'addr={spice.socket}',
                       'disable-ticketing=on', *spice.options))
    return ('-spice', server, *(_AGENT if spice.agent else ()))


def from_xml(qemu: Sequence[str]) -> Spice | None:
    """Read the server.

    :param qemu: all arguments for QEMU.
    :returns: None for no SPICE.
    """
    for name, value in itertools.pairwise(qemu):
        if name == '-spice' and (found := _SERVER.fullmatch(value)):
            return Spice(socket=found['socket'], agent=_PORT in qemu,
                         options=tuple(found['options'].split(',')[1:]))
    return None
