# SPDX-License-Identifier: Apache-2.0
"""The init of the guest of ``xen44-host probe-nested``: it runs a guest.

:mod:`xen44_driver.cmd.nestedguest` puts this file into that guest by itself,
beside Python: nothing but the standard library is there. It loads KVM, starts
a guest of a few instructions, prints how that went on the console, and
switches the machine off.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
import sys
import time

#: What it prints last if all went well.
PASSED = 'xen44: a guest of this guest ran to its end'
#: What it prints last if not, before the reason.
FAILED = 'xen44: no guest of this guest ran: '

#: Where modules are, in the order of their names.
MODULES = '/modules'

# Multiply 6 by 7, write the result to the serial port, halt:
# mov dx, 3f8h; mov al, 6; mov bl, 7; mul bl; out dx, al; hlt
_CODE = bytes.fromhex('baf803 b006 b307 f6e3 ee f4')
_RESULT = b'*'
# Where it is in the guest's memory, of which there is no more, and where KVM
# may put what Intel's CPUs may need (a TSS for real mode), outside of it.
_ADDRESS = 0x1000
_TSS = 0x7ff00000
# Exits that it can make, and many more.
_MOST_EXITS = 20

# Of linux/kvm.h; the structures are those of x86.
_GET_API_VERSION = 0xae00
_CREATE_VM = 0xae01
_GET_VCPU_MMAP_SIZE = 0xae04
_CREATE_VCPU = 0xae41
_SET_USER_MEMORY_REGION = 0x4020ae46
_SET_TSS_ADDR = 0xae47
_RUN = 0xae80
_SET_REGS = 0x4090ae82
_GET_SREGS = 0x8138ae83
_SET_SREGS = 0x4138ae84
_EXIT_IO = 2
_EXIT_HLT = 5
_API_VERSION = 12
# struct kvm_run: exit_reason; and of its io: size, count and data_offset.
_REASON = struct.Struct('8x I')
_IO = struct.Struct('33x B 2x I Q')
_SREGS_BYTES = 0x138
# struct kvm_sregs begins with the code segment: base, limit, selector.
_CS = struct.Struct('Q I H')
# struct kvm_regs: 16 registers, then rip and rflags, whose bit 1 is always
# set.
_REGS = struct.Struct('16Q Q Q')

# Of linux/reboot.h and asm/unistd_64.h.
_POWER_OFF = 0x4321fedc
_FINIT_MODULE = 313
# Seconds.
_PAUSE = 2.0


def _load(libc: ctypes.CDLL) -> None:
    """Load the modules; say which the kernel does not take, and go on."""
    for name in sorted(os.listdir(MODULES)):
        module = os.open(os.path.join(MODULES, name), os.O_RDONLY)
        if libc.syscall(_FINIT_MODULE, module, b'', 0):
            print(f'{name}: {os.strerror(ctypes.get_errno())}')
        os.close(module)


def run_guest() -> bytes:
    """Run the guest until it halts.

    :returns: what it writes to its serial port.
    :raises OSError: there is no KVM, or it cannot run a guest.
    :raises RuntimeError: the guest does something else than it should.
    """
    kvm = os.open('/dev/kvm', os.O_RDWR)
    version = fcntl.ioctl(kvm, _GET_API_VERSION)
    if version != _API_VERSION:
        raise RuntimeError(f'KVM has API {version}')
    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    fcntl.ioctl(machine, _SET_TSS_ADDR, _TSS)
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory.write(_CODE)
    # Slot, flags, address in the guest, size, address here.
    fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, struct.pack(
        'I I Q Q Q', 0, 0, _ADDRESS, mmap.PAGESIZE,
        ctypes.addressof(ctypes.c_char.from_buffer(memory))))
    vcpu = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    state = mmap.mmap(vcpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE))
    special = bytearray(_SREGS_BYTES)
    fcntl.ioctl(vcpu, _GET_SREGS, special)
    _, limit, _ = _CS.unpack_from(special)
    _CS.pack_into(special, 0, 0, limit, 0)
    fcntl.ioctl(vcpu, _SET_SREGS, special)
    fcntl.ioctl(vcpu, _SET_REGS, _REGS.pack(*[0] * 16, _ADDRESS, 2))
    written = b''
    for _ in range(_MOST_EXITS):
        fcntl.ioctl(vcpu, _RUN, 0)
        reason, = _REASON.unpack_from(state)
        if reason == _EXIT_HLT:
            return written
        if reason != _EXIT_IO:
            raise RuntimeError(f'it stops for reason {reason} of KVM')
        size, count, offset = _IO.unpack_from(state)
        written += state[offset:offset + size * count]
    raise RuntimeError(f'it does not halt, and writes {written!r}')


def main() -> None:
    """Run a guest, say how it went, and switch off."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount(b'devtmpfs', b'/dev', b'devtmpfs', 0, None)
    try:
        _load(libc)
        written = run_guest()
        if written != _RESULT:
            raise RuntimeError(f'it writes {written!r}')
        print(PASSED)
    except Exception as error:
        print(f'{FAILED}{error!r}')
    sys.stdout.flush()
    # Until the serial port has sent all.
    time.sleep(_PAUSE)
    libc.reboot(_POWER_OFF)


if __name__ == '__main__':
    main()
