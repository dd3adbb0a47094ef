# SPDX-License-Identifier: Apache-2.0
"""Every action of the driver that needs root.

nova-compute usually runs as the user ``nova``. xenconsoled writes the
guests' consoles as root; reading and removing those logs is all the driver
needs root for. The functions take a domain's name, not a path, and read the
directory from the daemon's own configuration: a caller cannot name another
file.
"""

import os

from oslo_config import cfg
from oslo_privsep import capabilities
from oslo_privsep import priv_context

from xen44_driver import conf

CONF = cfg.CONF
conf.register_opts(CONF)

sys_admin_pctxt = priv_context.PrivContext(
    'xen44_driver',
    cfg_section='xen44_privileged',
    pypath=f'{__name__}.sys_admin_pctxt',
    capabilities=[
        capabilities.CAP_DAC_OVERRIDE,
        capabilities.CAP_DAC_READ_SEARCH,
    ],
)


def console_log_path(domain: str) -> str:
    """The log xenconsoled keeps of a guest's console.

    :param domain: the domain's name
    :returns: an absolute path directly inside ``[xen44] console_log_dir``
    :raises ValueError: the name holds a path separator or a NUL
    """
    name = f'guest-{domain}.log'
    if not domain or os.sep in name or '\0' in name:
        raise ValueError(f'not the name of a domain: {domain!r}')
    return os.path.join(CONF.xen44.console_log_dir, name)


@sys_admin_pctxt.entrypoint
def read_console_log(domain: str, max_bytes: int) -> bytes | None:
    """Read the end of a guest's console log.

    :param domain: the domain's name
    :param max_bytes: how many bytes at most, from the end
    :returns: the bytes, or None where there is no log
    """
    try:
        # A link put there by others is not followed.
        descriptor = os.open(
            console_log_path(domain), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with open(descriptor, 'rb') as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - max_bytes))
        return log.read(max_bytes)


@sys_admin_pctxt.entrypoint
def remove_console_log(domain: str) -> bool:
    """Remove a guest's console log.

    :param domain: the domain's name
    :returns: whether there was one
    """
    try:
        os.unlink(console_log_path(domain))
    except FileNotFoundError:
        return False
    return True


@sys_admin_pctxt.entrypoint
def console_log_dir_readable() -> bool:
    """Whether xenconsoled's log directory is there for us to read."""
    return os.path.isdir(CONF.xen44.console_log_dir) and os.access(
        CONF.xen44.console_log_dir, os.R_OK | os.X_OK)
