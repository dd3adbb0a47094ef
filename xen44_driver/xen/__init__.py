# SPDX-License-Identifier: Apache-2.0
"""What Xen is, as libvirt's libxl driver shows it.

Nothing here knows of Nova. libvirt is imported here and nowhere else, and
none of its exceptions leaves this package: see :mod:`xen44_driver.xen.errors`.
"""
