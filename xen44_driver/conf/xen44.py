# SPDX-License-Identifier: Apache-2.0
"""Options of ``[xen44]``."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    'xen44', title='Xen',
    help='The Xen host this nova-compute runs on.')

OPTS = [
    cfg.StrOpt(
        'connection_uri',
        default='xen:///system',
        help="""
libvirt's URI of the local Xen host. nova-compute has to run in dom0: guests'
disks, consoles and network ports are made there."""),
    cfg.StrOpt(
        'disk_format',
        default='qcow2',
        help="""
How guests' root disks are stored.

* ``qcow2``: an overlay on the cached image. Made at once, and images are
  shared between guests.
* ``raw``: a full copy of the cached image, sparse, or a reflink where the
  file system can. The faster disk.

Further formats can be added as entry points of ``xen44_driver.storage``. A
change is for new guests; existing ones keep what they have."""),
    cfg.StrOpt(
        'console_log_dir',
        default='/var/log/xen/console',
        help="""
Where xenconsoled keeps the guests' consoles, one file ``guest-NAME.log`` for
each. xenconsoled must be told to keep them: on Debian
``XENCONSOLED_ARGS="--log=guest --log-dir=/var/log/xen/console"`` in
``/etc/default/xen``. The console log of PV and PVH guests comes from there,
and is empty without."""),
    cfg.IntOpt(
        'soft_reboot_timeout',
        default=120,
        min=1,
        help="""
Seconds a guest has to shut down when a soft reboot is asked for. After that
it is rebooted hard."""),
    cfg.IntOpt(
        'max_concurrent_starts',
        default=4,
        min=1,
        help="""
Guests that this host starts at once; more wait for their turn. libxl gives a
new guest's device model ten seconds to answer. Where many start at once on a
dom0 of few CPUs, they miss that, and the start fails ("Post DM startup configs
failed" in libvirt's log of libxl)."""),
    cfg.IntOpt(
        'max_event_channels',
        min=16,
        max=131072,
        sample_default=1023,
        help="""
Event channels a guest may use: about one for each vCPU, queue of a network
interface or disk, and timer. A guest with many vCPUs and disks needs more
than libxl's default of 1023. The most is what the FIFO ABI holds. Not set:
libxl's default."""),
    cfg.IntOpt(
        'max_grant_frames',
        min=4,
        max=65535,
        sample_default=64,
        help="""
Grant table frames a guest may use, 4 KiB each. Every disk and every queue of
a network interface needs some. Not set: the hypervisor's default (its command
line's ``gnttab_max_frames``)."""),
]
