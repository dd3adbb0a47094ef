# SPDX-License-Identifier: Apache-2.0
"""Tests on a real Xen host, through a real OpenStack.

``lab/xenlab gate`` runs them. Two workers run side by side, as
``workers.yaml`` says; what is in ``alone`` disturbs others and runs after
them, one test at a time.
"""
