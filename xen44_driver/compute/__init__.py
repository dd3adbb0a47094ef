# SPDX-License-Identifier: Apache-2.0
"""The operations that Nova asks of a compute node, one per module.

Each operation is a function that takes the :class:`~.node.Node` it works on.
"""
