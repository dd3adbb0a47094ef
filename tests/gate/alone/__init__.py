# SPDX-License-Identifier: Apache-2.0
"""Tests that stop what every other test needs: they run alone."""
