# SPDX-License-Identifier: Apache-2.0
"""Options of each architecture: ``[xen44_x86_64]``, ``[xen44_aarch64]``."""

from oslo_config import cfg

_PRECEDENCE = """
Guest type of a guest whose image (property ``hw_vm_mode``) and flavor (extra
spec ``xen44:guest_type``) ask for none."""

X86_64_GROUP = cfg.OptGroup(
    'xen44_x86_64', title='Xen on x86-64',
    help='Guests of hosts with x86-64 CPUs.')

X86_64_OPTS = [
    cfg.StrOpt(
        'default_guest_type',
        default='hvm',
        choices=[
            ('hvm', 'a whole PC with BIOS: boots every image'),
            ('pvh', 'no emulated devices; Linux 4.11 or newer'),
            ('pv', 'paravirtual: runs on CPUs without VT-x or AMD-V'),
        ],
        help=_PRECEDENCE),
    cfg.StrOpt(
        'pv_loader',
        default='/usr/lib/grub-xen/grub-x86_64-xen.bin',
        help="""
What boots a PV guest from its own disk: grub built for Xen PV (on Debian
package ``grub-xen-bin``). It runs inside the guest. It loads kernels
compressed with gzip, xz or lzo, not zstd."""),
    cfg.StrOpt(
        'pvh_loader',
        default='/usr/lib/grub-xen/grub-i386-xen_pvh.bin',
        help="""
What boots a PVH guest from its own disk: grub built for Xen PVH (on Debian
package ``grub-xen-bin``). It runs inside the guest."""),
]

AARCH64_GROUP = cfg.OptGroup(
    'xen44_aarch64', title='Xen on ARM',
    help='Guests of hosts with 64-bit ARM CPUs.')

AARCH64_OPTS = [
    cfg.StrOpt(
        'default_guest_type',
        default='pvh',
        choices=[('pvh', 'the one guest type Xen has on ARM')],
        help=_PRECEDENCE),
    cfg.StrOpt(
        'pvh_loader',
        help="""
What boots a guest from its own disk: UEFI firmware built for Xen guests on
ARM (EDK2's ``ArmVirtXen``). Distributions ship none so far. Not set: only
images with their own kernel (``kernel_id``) boot."""),
]
