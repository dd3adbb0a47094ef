# SPDX-License-Identifier: Apache-2.0
"""Options of each architecture: ``[xen44_x86_64]``, ``[xen44_aarch64]``."""

from __future__ import annotations

from oslo_config import cfg

_PRECEDENCE = """
The guest type if neither the image (property ``hw_vm_mode``) nor the flavor
(extra spec ``xen44:guest_type``) asks for one."""

#: The UEFI firmware of Debian's package ovmf, with which Debian builds Xen.
UEFI_FIRMWARE = '/usr/share/ovmf/OVMF.fd'

X86_64_GROUP = cfg.OptGroup(
    'xen44_x86_64', title='Xen on x86-64',
    help='Options for guests on hosts with x86-64 CPUs.')

X86_64_OPTS = [
    cfg.StrOpt(
        'default_guest_type',
        default='hvm',
        choices=[
            ('hvm', 'an emulated PC with BIOS, which boots any image'),
            ('pvh', 'no emulated devices; needs Linux 4.11 or newer'),
            ('pv', 'paravirtual; also runs on CPUs without VT-x or AMD-V'),
        ],
        help=_PRECEDENCE),
    cfg.StrOpt(
        'pv_loader',
        sample_default='/usr/lib/grub-xen/grub-x86_64-xen.bin',
        help="""
Path of the loader that boots a PV guest from its own disk: grub built for Xen
PV. It runs inside the guest. It loads kernels that are compressed with gzip,
xz or lzo, but not with zstd. If this is not set, it is ``grub-x86_64-xen.bin``
in ``loader_directory`` if that exists, otherwise that in ``/usr/lib/grub-xen``
(Debian: package ``grub-xen-host``). New guests have the loader of the day, and
existing ones keep theirs."""),
    cfg.StrOpt(
        'pvh_loader',
        sample_default='/usr/lib/grub-xen/grub-i386-xen_pvh.bin',
        help="""
Path of the loader that boots a PVH guest from its own disk: grub built for Xen
PVH. If this is not set, it is ``grub-i386-xen_pvh.bin`` where ``pv_loader`` is
looked for."""),
    cfg.StrOpt(
        'uefi_firmware',
        default=UEFI_FIRMWARE,
        help="""
Path of the UEFI firmware of HVM guests whose image has
``hw_firmware_type=uefi`` (Debian: package ``ovmf``; that of Debian 13 starts
under Xen, that of Debian 12 is reported not to). Its variables are not kept
when a guest stops. If this is empty or there is no such file, these images are
refused. libvirt before 9.2 starts the firmware that Xen was built with,
whatever this says: on Debian 12 that is this default, and these images are
refused if this names another."""),
    cfg.BoolOpt(
        'nested_hvm',
        default=False,
        help="""
Whether HVM guests whose flavor has ``xen44:nested_hvm=true`` can run guests of
their own: they see the CPU's AMD-V (``svm``) or VT-x (``vmx``). Xen calls this
experimental and gives no security support for it: such a guest may crash the
host, or break out of it. It is reported to be broken in Xen 4.17. This option
alone does not offer it: ``xen44-host probe-nested`` has to have seen it work,
with this Xen on this CPU."""),
    cfg.StrOpt(
        'loader_directory',
        default='/var/lib/xen44/loaders',
        help="""
Directory in which ``xen44-host build-loaders`` puts loaders for PV and PVH
guests. They find the configurations of more distributions than Debian's
do."""),
]

AARCH64_GROUP = cfg.OptGroup(
    'xen44_aarch64', title='Xen on ARM',
    help='Options for guests on hosts with 64-bit ARM CPUs.')

AARCH64_OPTS = [
    cfg.StrOpt(
        'default_guest_type',
        default='pvh',
        choices=[('pvh', 'the only guest type that Xen has on ARM')],
        help=_PRECEDENCE),
    cfg.StrOpt(
        'pvh_loader',
        help="""
Path of the firmware that boots a guest from its own disk: UEFI built for Xen
guests on ARM (EDK2's ``ArmVirtXen``). Distributions do not package it yet. If
this is not set, only images with a kernel (``kernel_id``) boot."""),
]
