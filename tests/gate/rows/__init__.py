# SPDX-License-Identifier: Apache-2.0
"""Rows of the support matrix: what classes of guests are tested for."""
