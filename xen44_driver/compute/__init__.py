# SPDX-License-Identifier: Apache-2.0
"""What Nova asks of a compute node, an operation a file.

Each operation is a function that takes the :class:`~.node.Node` it works on.
"""
