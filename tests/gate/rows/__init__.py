# SPDX-License-Identifier: Apache-2.0
"""Tests of operations, a file each: mixins for classes with a guest."""
