# SPDX-License-Identifier: Apache-2.0
"""The front door for Apache CloudStack's Orchestrator extensions.

It runs in dom0, beside nova-compute or alone. Domains that it makes have its
own metadata; neither door sees the other's.
"""
