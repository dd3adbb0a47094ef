# SPDX-License-Identifier: Apache-2.0
"""OpenStack Nova compute driver for Xen over libvirt's libxl driver."""
