# SPDX-License-Identifier: Apache-2.0
"""What tests of all tiers have of CloudStack: a double, and payloads.

``payloads`` has one payload for each action, with made-up values and the
structure of CloudStack 4.22.
"""
