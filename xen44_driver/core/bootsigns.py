# SPDX-License-Identifier: Apache-2.0
"""Signs on a guest's console that it does not boot.

The guest wrote the text: it is only searched, and nothing of it is repeated.
"""

from __future__ import annotations

import dataclasses
import re

#: Bytes of a console's end that are searched: a panic and its call trace.
MAX_BYTES = 16 * 1024

#: What begins a line elsewhere on the screen (ECMA-48: CUP, ED, HVP).
_JUMP = re.compile(rb'\x1b\[[0-9;]*[HJf]')
#: Colours and the like, and carriage returns.
_CONTROL = re.compile(rb'\x1b(?:\[[0-9;?]*[@-~]|[()][0-9A-Z]|[=>78])|[\r\0]')


@dataclasses.dataclass(frozen=True)
class _Sign:
    """A sign.

    :ivar pattern: matches what the console shows. A tenant chooses the text:
        no part of it may be matched in more than one way.
    :ivar problem: what it means, and what to do.
    :ivar in_grub: whether it counts only while grub waits for a key. grub
        also complains of things that it can do without.
    """

    pattern: re.Pattern[bytes]
    problem: str
    in_grub: bool = False


def _sign(pattern: bytes, problem: str, *, in_grub: bool = False) -> _Sign:
    return _Sign(re.compile(pattern, re.MULTILINE), problem, in_grub)


_GRUB_PROMPT = re.compile(
    rb'^(?:grub(?: rescue)?>|Press any key to continue\.\.\.)\Z', re.MULTILINE)
_GRUB_MENU = b'Press enter to boot the selected OS'
#: What grub says when it does not wait in its menu, or no longer.
_GRUB_GOES_ON = re.compile(rb'executed automatically|^ *Booting ',
                           re.MULTILINE)

#: The first that matches is the most specific.
#: Sources of the texts: grub (normal/menu.c, normal/menu_text.c), Linux
#: (init/do_mounts.c, init/main.c, kernel/panic.c), initramfs-tools
#: (scripts/local), dracut, systemd (emergency.service), EDK2 (BdsDxe, Shell).
_SIGNS = (
    _sign(rb'Kernel panic - not syncing: VFS: Unable to mount root fs'
          rb'|VFS: Cannot open root device',
          'its kernel does not find its root file system. See that root= of '
          'its command line names it, and that the kernel or its initrd has '
          'xen-blkfront and the driver of the file system'),
    _sign(rb'Kernel panic - not syncing: (?:No working init|Requested init|'
          rb'Attempted to kill init)',
          'its kernel has no init to run. See that root= of its command line '
          'names a whole system, for a processor of this kind'),
    _sign(rb'Kernel panic - not syncing',
          'its kernel panicked. Its console log says why'),
    _sign(rb'^ALERT! .* does not exist|^\(initramfs\)\Z',
          'its initrd does not find the root file system. See that root= of '
          'its command line names it, and that the initrd has xen-blkfront '
          '(initramfs-tools: MODULES=most)'),
    _sign(rb'You are in emergency mode|Entering emergency mode'
          rb'|Generating "/run/initramfs/rdsosreport.txt"',
          'its system stopped in emergency mode, often for a disk that '
          '/etc/fstab names and it does not have. Its console log says which'),
    _sign(rb'not xen image|incompatible architecture',
          "its kernel cannot be started by grub's PV build: it is packed with "
          'zstd, or not built for Xen. Make the image PVH or HVM (its '
          'property hw_vm_mode)', in_grub=True),
    _sign(rb'^xen44: no boot configuration was found',
          'its loader finds no configuration on its disk that it can read. '
          'See that the image is of a whole disk with grub on it, or make it '
          'HVM (its property hw_vm_mode)'),
    _sign(rb'^grub rescue>\Z',
          "grub on its disk does not find grub's own files", in_grub=True),
    _sign(rb'^xen44: the configuration of the root disk|^error: ',
          'grub cannot load what its configuration names. Its console log '
          'says what is missing', in_grub=True),
    _sign(rb'^grub>\Z',
          'it stays at the prompt of grub, which has no configuration or an '
          'error in it. Its console log says which; without a word there it '
          "is Debian's loader, and `xen44-host build-loaders` makes one that "
          'looks further', in_grub=True),
    _sign(re.escape(_GRUB_MENU),
          'it waits in the menu of grub, for a key. Its configuration has no '
          'time-out, or the entry that it chose failed', in_grub=True),
    # Its shell may run a script that boots: only its prompt counts.
    _sign(rb'^BdsDxe: No bootable option|^Shell>\Z|^FS\d+:.*>\Z',
          'its UEFI firmware finds nothing to boot from. It looks for '
          '/EFI/BOOT/BOOTX64.EFI only (on ARM BOOTAA64.EFI), as its variables '
          'are not kept'),
)


def problem(console: bytes) -> str | None:
    """Return why a guest does not boot.

    :param console: what it has written since it started, or the end of that.
    :returns: half a sentence without a full stop, of this module's own words;
        None if the console shows no sign.
    """
    text = _JUMP.sub(b'\n', console[-MAX_BYTES:])
    text = _CONTROL.sub(b'', text).rstrip()
    in_grub = _grub_waits(text)
    for sign in _SIGNS:
        if (in_grub or not sign.in_grub) and sign.pattern.search(text):
            return sign.problem
    return None


def _grub_waits(text: bytes) -> bool:
    """Return whether grub waits for a key, without an end."""
    if _GRUB_PROMPT.search(text):
        return True
    _, menu, after = text.rpartition(_GRUB_MENU)
    return bool(menu) and not _GRUB_GOES_ON.search(after)
