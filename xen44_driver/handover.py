# SPDX-License-Identifier: Apache-2.0
"""Hand an open file from the privsep daemon over to nova-compute.

privsep passes values, not file descriptors. The kernel passes these over a
Unix socket (``SCM_RIGHTS``). So the daemon needs root only to open a file, and
nova-compute, where a thread may wait for a guest, does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
import os
import socket
import tempfile


def send(descriptor: int, address: str) -> None:
    """Send a file to the process that called :func:`receive`.

    :param descriptor: the file; the caller closes its own.
    :param address: what ``receive`` passed on.
    :raises OSError: that process has ended.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        sender.setblocking(False)
        socket.send_fds(sender, [b'\0'], [descriptor])


def receive(open_and_send: Callable[[str], bool]) -> int | None:
    """Let another process open a file; return it.

    :param open_and_send: calls :func:`send` in that process with the address
        that it gets; returns whether there is such a file.
    :returns: a file descriptor, which is the caller's to close; None if there
        is no such file.
    """
    # Only this user and root can reach a socket in this directory.
    with tempfile.TemporaryDirectory(prefix='xen44-') as directory:
        address = os.path.join(directory, 'file')
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(address)
            # What has been sent is there when the call returns.
            receiver.setblocking(False)
            if not open_and_send(address):
                return None
            _, (descriptor,), _, _ = socket.recv_fds(receiver, 1, 1)
            os.set_inheritable(descriptor, False)
            return descriptor
