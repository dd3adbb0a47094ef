# SPDX-License-Identifier: Apache-2.0
"""Rows of the support matrix: a file of mixins for each operation."""
