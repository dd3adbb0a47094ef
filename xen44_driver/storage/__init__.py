# SPDX-License-Identifier: Apache-2.0
"""Guests' disks on the host's file system.

* ``header``: recognise the format of a file by its beginning.
* ``layout``: the paths of an instance's files.
* ``images``: the store of images, which inspects them at each use.
* ``kinds``: the kinds of disk that a guest can have, one module each.
* ``kernel``: kernels and initial ramdisks that are images.
* ``disksnapshots``: snapshots inside a disk.
* ``usage``: how much space all that takes.
"""
