# SPDX-License-Identifier: Apache-2.0
"""Guests' disks on the host's file system.

* ``header``: what a file says of itself.
* ``layout``: where an instance's files are.
* ``imagecache``: Glance's images, each downloaded once.
* ``backend``, ``qcow2``, ``raw``: how a root disk is made of an image.
* ``blank``: swap and ephemeral disks.
* ``kernel``: kernels and initial ramdisks that come as images.
* ``configdrive``: the config drive.
* ``usage``: how much room all that takes.
"""
