# SPDX-License-Identifier: Apache-2.0
"""What both front doors, Nova's and CloudStack's, do with a guest.

It stands on ``storage``, ``privsep`` and ``xen``, and knows neither of the
doors.
"""
