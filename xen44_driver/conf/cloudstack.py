# SPDX-License-Identifier: Apache-2.0
"""Options of ``[xen44_cloudstack]``."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup(
    'xen44_cloudstack', title='CloudStack',
    help="""
Options of the program ``xen44-cloudstack``, which makes guests for Apache
CloudStack. It reads them from ``/etc/xen44/xen44.conf``, with those of
``[xen44]`` and of the architecture that are not about Nova.""")

OPTS = [
    cfg.StrOpt(
        'storage_path',
        default='/var/lib/xen44/cloudstack',
        help="""
Directory of the guests' disks, one directory for each VM, and of the images
that the disks are made from. Only its owner needs to read it."""),
    cfg.StrOpt(
        'images_directory',
        default='/var/lib/xen44/images',
        help="""
Directory with the images, kernels and ISO images that templates name by the
details ``image``, ``kernel`` and ``ramdisk``. Users who may pass external
details when they deploy a VM can name each file in it."""),
    cfg.StrOpt(
        'network_mode',
        default='ovs',
        choices=[
            ('ovs', 'the bridge is one of Open vSwitch; the port of a guest '
                    'gets the tag of the VLAN'),
            ('bridge', 'a Linux bridge for guests without a VLAN, and for '
                       'each VLAN one with the name BRIDGE-VLAN, which the '
                       'operator makes'),
        ],
        help="""
How guests are connected to VLANs."""),
    cfg.StrOpt(
        'network_bridge',
        help="""
Bridge of the guests if the host in CloudStack has no detail
``network_bridge``."""),
    cfg.StrOpt(
        'vnc_listen',
        default='127.0.0.1',
        help="""
Address of this host on which the guests' screens are for CloudStack's console
proxy, which has to reach it. They ask for a password, but do not encrypt, so
this should be an address of the management network. The guests' VNC servers
themselves listen on ``127.0.0.1``, port 5900 and up."""),
    cfg.StrOpt(
        'vnc_port_range',
        default='6700:6900',
        regex=r'^\d{1,5}:\d{1,5}$',
        help="""
Ports of ``vnc_listen`` for the guests' screens, without the last one. A guest
takes one when its screen is shown, until nobody has looked at it for ten
minutes. The default is below that of ``[xen44] vnc_port_range``, which is for
Nova's instances."""),
    cfg.StrOpt(
        'console_host',
        help="""
Address or name of this host for CloudStack's console proxy, if the host in
CloudStack has no detail ``console_host``. If neither is set, guests have no
console in CloudStack."""),
    cfg.BoolOpt(
        'config_drive',
        default=True,
        help="""
Whether a guest gets a config drive (NoCloud) with its name, its addresses and
the SSH keys that CloudStack passes, unless the detail ``config_drive`` says
otherwise."""),
    cfg.StrOpt(
        'mkisofs_cmd',
        default='genisoimage',
        help="""
Program that writes ISO 9660 images, for config drives. It is called as
``genisoimage`` is."""),
    cfg.IntOpt(
        'stop_timeout',
        default=60,
        min=0,
        max=3600,
        help="""
Seconds that a guest has to shut down when it is stopped or rebooted; then its
power is taken away. The detail ``stop_timeout`` takes precedence. It is never
longer than CloudStack waits."""),
    cfg.IntOpt(
        'lock_timeout',
        default=120,
        min=0,
        help="""
Seconds that an action waits for another one on the same VM to end."""),
]
