# SPDX-License-Identifier: Apache-2.0
"""Tests on a real Xen host, through a real OpenStack.

``lab/xenlab gate`` runs them, one at a time; what is in ``alone`` disturbs
the guests of others, and runs after them.
"""
