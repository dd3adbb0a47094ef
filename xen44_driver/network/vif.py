# SPDX-License-Identifier: Apache-2.0
"""Check, plug and unplug Neutron ports, through os-vif."""

from __future__ import annotations

import contextlib
import copy

from nova import exception
from nova import objects
from nova.network import model
from nova.network import os_vif_util
import os_vif
from os_vif import exception as os_vif_exception
from os_vif.objects import vif as os_vif_objects
from oslo_concurrency import lockutils
from oslo_log import log as logging

LOG = logging.getLogger(__name__)

#: Supported kinds of port: Neutron's ``binding:vif_type`` and
#: ``binding:vnic_type``.
VIF_TYPES = (model.VIF_TYPE_OVS,)
VNIC_TYPES = (model.VNIC_TYPE_NORMAL,)

# nova.network.model has a constant for it, but only since Nova 34.
_OVS_CREATE_TAP = 'ovs_create_tap'

# The vif_type of a port that Neutron could not bind to this host.
_UNBOUND = (model.VIF_TYPE_BINDING_FAILED, model.VIF_TYPE_UNBOUND)


def check(vif: model.VIF) -> None:
    """Refuse a port that cannot be given to a guest.

    :param vif: the port as Nova describes it.
    :raises nova.exception.InvalidInput: the port is not supported; the
        message names the port, its kind and what is allowed.
    """
    if vif['type'] in _UNBOUND:
        raise exception.InvalidInput(
            reason=f'port {vif["id"]} is not bound to this host '
                   f'({vif["type"]}): see the log of neutron-server and '
                   'whether this host runs an agent for its network')
    if vif['type'] not in VIF_TYPES:
        raise exception.InvalidInput(
            reason=f'port {vif["id"]} has vif_type {vif["type"]!r}; '
                   f'allowed: {", ".join(VIF_TYPES)}')
    if vif.get('vnic_type', model.VNIC_TYPE_NORMAL) not in VNIC_TYPES:
        raise exception.InvalidInput(
            reason=f'port {vif["id"]} has vnic_type {vif["vnic_type"]!r}; '
                   f'allowed: {", ".join(VNIC_TYPES)}')
    if (vif.get('details') or {}).get(model.VIF_DETAILS_OVS_HYBRID_PLUG):
        raise exception.InvalidInput(
            reason=f'port {vif["id"]} is on a host whose Open vSwitch agent '
                   'has the firewall driver iptables_hybrid (the port says '
                   f'{model.VIF_DETAILS_OVS_HYBRID_PLUG}). Its rules are for '
                   'tap devices, and Xen\'s are vifD.N: the port\'s security '
                   'groups would let everything through. Allowed: '
                   '[securitygroup] firewall_driver = openvswitch in that '
                   'agent\'s configuration')


def convert(vif: model.VIF) -> os_vif_objects.VIFBridge:
    """Return a port as an os-vif object that is plugged the hybrid way.

    :param vif: a port that :func:`check` accepts.
    """
    hybrid = copy.deepcopy(vif)
    hybrid['details'] = {
        **(hybrid.get('details') or {}),
        model.VIF_DETAILS_OVS_HYBRID_PLUG: True,
        # By default Neutron asks for a tap device, which only QEMU uses.
        _OVS_CREATE_TAP: False,
    }
    return os_vif_util.nova_to_osvif_vif(hybrid)


def bridge(vif: model.VIF) -> str:
    """Return the name of the Linux bridge for a guest's interface.

    It depends on the port's id alone: the port may be unbound since the guest
    got its interface.
    """
    plugged = copy.deepcopy(vif)
    plugged['type'] = model.VIF_TYPE_OVS
    name: str = convert(plugged).bridge_name
    return name


def _alone(vif: model.VIF) -> contextlib.AbstractContextManager[object]:
    """Let one thread at a time change a port.

    os-vif looks whether a bridge exists and then makes it. When nova-compute
    starts, Nova plugs the ports of every instance, maybe while an interrupted
    operation of one is mended.
    """
    alone: contextlib.AbstractContextManager[object] = lockutils.lock(
        f'xen44-port-{vif["id"]}')
    return alone


def plug(instance: objects.Instance, vif: model.VIF) -> None:
    """Make a port's Linux bridge and its port on br-int; safe to repeat.

    :param vif: the port.
    :raises nova.exception.VirtualInterfacePlugException: :func:`check`
        refuses the port, or os-vif failed.
    """
    try:
        check(vif)
        with _alone(vif):
            os_vif.plug(
                convert(vif), os_vif_util.nova_to_osvif_instance(instance))
    except (exception.InvalidInput,
            os_vif_exception.ExceptionBase) as error:
        raise exception.VirtualInterfacePlugException(
            f'cannot plug port {vif["id"]}: {error}') from error


def unplug(instance: objects.Instance, vif: model.VIF) -> None:
    """Remove what :func:`plug` made; safe to repeat.

    :param vif: the port.
    :raises nova.exception.VirtualInterfaceUnplugException: os-vif failed.
    """
    if vif['type'] not in VIF_TYPES:
        # plug() never accepted it: it was refused, or bound elsewhere.
        LOG.debug('Nothing to unplug of port %(port)s (%(type)s)',
                  {'port': vif['id'], 'type': vif['type']},
                  instance=instance)
        return
    try:
        with _alone(vif):
            os_vif.unplug(
                convert(vif), os_vif_util.nova_to_osvif_instance(instance))
    except os_vif_exception.ExceptionBase as error:
        raise exception.VirtualInterfaceUnplugException(
            reason=f'port {vif["id"]}: {error}') from error
