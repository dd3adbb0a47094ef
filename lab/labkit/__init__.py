# SPDX-License-Identifier: Apache-2.0
"""The lab: a real Xen host in QEMU and a small real OpenStack beside it."""
