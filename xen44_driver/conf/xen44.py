# SPDX-License-Identifier: Apache-2.0
"""Options of ``[xen44]``."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup(
    'xen44', title='Xen',
    help='Options for the Xen host that nova-compute runs on.')

OPTS = [
    cfg.StrOpt(
        'connection_uri',
        default='xen:///system',
        help="""
libvirt's URI of the Xen host. It must be the local host: nova-compute runs in
dom0, where it makes the guests' disks and network ports and reads their
consoles."""),
    cfg.StrOpt(
        'disk_format',
        default='qcow2',
        choices=[
            ('qcow2', 'an overlay on the cached image: quickly made, and '
                      'guests share the image'),
            ('raw', 'a full copy of the cached image, sparse, or a reflink '
                    'if the file system supports it: faster to use'),
        ],
        help="""
Format of the root disks that a QEMU serves. A change applies to new guests
only. Disks that dom0's kernel serves (extra spec ``xen44:disk_class=kernel``,
and all on ARM) are always raw."""),
    cfg.StrOpt(
        'snapshot_image_format',
        default='qcow2',
        choices=[
            ('qcow2', 'compressed: small to store and to send'),
            ('raw', 'quickly made; takes the disk\'s whole size in Glance'),
        ],
        help="""
Format of the images that snapshots, backups and shelving make of a root disk.
It does not depend on ``disk_format``."""),
    cfg.BoolOpt(
        'allow_image_kernels',
        default=False,
        help="""
Whether images may name a kernel (property ``kernel_id``) that their guests
boot. Xen's toolstack unpacks the kernel as root in dom0, so anyone who may
upload images can attack it with a crafted file. Instances that were made while
this was allowed continue to boot their kernels."""),
    cfg.BoolOpt(
        'allow_host_power_actions',
        default=False,
        help="""
Whether administrators may reboot and shut down this host through Nova's API
(``os-hosts``, until microversion 2.42). It is refused as long as guests run or
the compute service is enabled. ``xen44-host reboot``, run on the host, needs
no such permission."""),
    cfg.BoolOpt(
        'default_config_drive',
        default=True,
        help="""
Whether a new instance gets a config drive even if the user does not request
one, unless its image has ``img_config_drive=optional``. cloud-init in stock
images recognises OpenStack by SMBIOS, which PV and PVH guests do not have;
without a config drive it disables itself. This needs the program in Nova's
option ``mkisofs_cmd``; if it is not installed, no default config drive is
made."""),
    cfg.StrOpt(
        'console_log_dir',
        default='/var/log/xen/console',
        help="""
Directory in which xenconsoled logs the guests' consoles, a file
``guest-NAME.log`` for each guest. xenconsoled does so only if it is started
with the right arguments: on Debian, set
``XENCONSOLED_ARGS="--log=guest --log-dir=/var/log/xen/console"`` in
``/etc/default/xen``. Without these logs, the console log of PV and PVH guests
is empty."""),
    cfg.IntOpt(
        'soft_reboot_timeout',
        default=120,
        min=1,
        help="""
Seconds that a guest has to shut down during a soft reboot. A guest that takes
longer is rebooted hard."""),
    cfg.IntOpt(
        'max_concurrent_starts',
        default=4,
        min=1,
        help="""
The most guests that this host starts at the same time; further ones wait.
libxl gives a new guest's device model ten seconds to answer. If many guests
start at once in a dom0 with few CPUs, device models miss this limit, and the
starts fail ("Post DM startup configs failed" in libvirt's log of libxl)."""),
    cfg.IntOpt(
        'max_event_channels',
        min=1023,
        max=131071,
        sample_default=1023,
        help="""
The most event channels of a new guest. If this is not set, a guest has libxl's
default of 1023, or what its vCPUs and devices need if that is more: about
eight for each vCPU, one for each disk and two for each queue of a network
interface. The extra spec ``xen44:max_event_channels`` of a flavor takes
precedence. The maximum is that of the FIFO ABI. A guest never has less than
libxl's default."""),
    cfg.IntOpt(
        'max_grant_frames',
        min=4,
        max=65535,
        sample_default=64,
        help="""
The most grant table frames of a new guest, of 4 KiB each. Each disk and each
queue of a network interface needs about one. If this is not set, a guest has
the hypervisor's default (``gnttab_max_frames`` on its command line), or what
its vCPUs and devices need if that is more than 64. If the hypervisor's default
is larger than 64, set this to the same number, or guests with many vCPUs have
less. Xen before 4.18 gives no guest more than its default. The extra spec
``xen44:max_grant_frames`` of a flavor takes precedence."""),
    cfg.IntOpt(
        'console_log_max_bytes',
        default=1024 * 1024,
        min=128 * 1024,
        max=1024 ** 3,
        help="""
Size limit of a console log, in bytes. A longer log is cut while its guest
runs: the last half of this size is kept. An HVM guest has two logs, one of its
serial port and one of Xen's console; the limit applies to each.

Logs are checked every ``console_log_interval`` seconds and can exceed the
limit in between. xenconsoled limits Xen's console to 320 kB/s. QEMU writes the
serial port of an HVM guest byte by byte, about 1 MB/s at most. With the
defaults, a guest that writes all the time takes 5 MB in ``console_log_dir``,
and an HVM guest 11 MB more in ``instances_path``.

The log of a guest's QEMU, ``/var/log/xen/qemu-dm-NAME.log``, has the same
limit: a guest can make QEMU complain without end."""),
    cfg.IntOpt(
        'console_log_interval',
        default=10,
        min=1,
        max=3600,
        help="""
Seconds between two checks of the sizes of the guests' logs. A check costs one
or two system calls for each log."""),
    cfg.IntOpt(
        'boot_watch_time',
        default=300,
        min=0,
        max=3600,
        help="""
Seconds after each start of a guest in which the end of its console's log is
looked at, every five seconds, for signs that the guest does not boot: a prompt
of grub, a kernel's panic, an emergency shell. nova-compute's log then has a
warning with what to do. 0: never look."""),
    cfg.StrOpt(
        'vnc_port_range',
        default='6900:7900',
        regex=r'^\d{1,5}:\d{1,5}$',
        help="""
Ports of ``[vnc] server_listen`` on which nova-novncproxy reaches the guests'
screens, without the last one. A guest takes one when its screen is first shown
and keeps it until it leaves this host. The guests' VNC servers themselves
listen on ``127.0.0.1``, port 5900 and up."""),
    cfg.StrOpt(
        'spice_port_range',
        default='7900:8700',
        regex=r'^\d{1,5}:\d{1,5}$',
        help="""
Ports of ``[spice] server_listen`` on which nova-spicehtml5proxy reaches the
guests' screens, without the last one. A guest takes one when its screen is
first shown by SPICE and keeps it until it leaves this host."""),
    cfg.IntOpt(
        'disk_open_timeout',
        default=30,
        min=1,
        help="""
Seconds that a guest's QEMU has to open the guest's disks after the start.
libxl does not wait for this, and a guest without its disk never boots. If a
disk is not open in time, or QEMU reports that it cannot open one, the guest is
stopped and the start fails with QEMU's error message."""),
    cfg.BoolOpt(
        'volume_use_multipath',
        default=False,
        help="""
Whether volumes of iSCSI, Fibre Channel and NVMe-oF are connected through all
their paths, by multipathd or, for NVMe-oF, by the kernel. This needs the
package multipath-tools. A volume that is attached already keeps its one path
until its guest is started anew."""),
    cfg.BoolOpt(
        'volume_enforce_multipath',
        default=False,
        help="""
Whether attaching a volume fails if multipathd does not run, where
``volume_use_multipath`` is true. Otherwise the volume has one path then."""),
    cfg.IntOpt(
        'num_volume_scan_tries',
        default=5,
        min=1,
        help="""
How often this host looks for the device of a volume that it is connecting,
before it gives up."""),
    cfg.StrOpt(
        'nfs_mount_point_base',
        default='$state_path/mnt',
        help="""
Directory in which the shares of volumes on NFS are mounted, each in a
directory of its own. They stay mounted when no volume on them is attached any
more."""),
    cfg.StrOpt(
        'nfs_mount_options',
        help="""
Options with which such shares are mounted, as after ``mount -o``, besides
those that Cinder asks for."""),
    cfg.StrOpt(
        'crash_dump_directory',
        default='',
        help="""
Directory for crash dumps, which users request with ``openstack server dump
create``. A dump has the size of the guest's memory. It is not made if it does
not fit. Only root can read it. If this is empty, crash dumps are refused.
While a dump is written, libvirt starts, stops and changes no guest of the
host: libxl is locked. A PVH or HVM guest takes much longer than its memory
tells, as libxl looks at each page of 4 GiB."""),
    cfg.IntOpt(
        'crash_dumps_kept',
        default=1,
        min=1,
        help="""
The most crash dumps that are kept of an instance; a new one replaces the
oldest. When an instance is deleted, its crash dumps are deleted too."""),
]
