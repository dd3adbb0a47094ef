# SPDX-License-Identifier: Apache-2.0
"""Attach network interfaces to instances, and detach them.

An interface is in three places: its port is plugged in dom0, libvirt's
definition of the domain has it, so that a guest that reboots keeps it, and a
running guest has it. xenstore tells whether the running guest has it:
libvirt's own list is wrong after libxl has failed.

An operation that was interrupted can be repeated. A hard reboot makes the
interfaces from Nova's list of ports, whatever was left.
"""

from __future__ import annotations

import dataclasses

from nova import context as nova_context
from nova import exception
from nova import objects
from nova.network import model
from oslo_log import log as logging

from xen44_driver import faultpoints
from xen44_driver import privsep
from xen44_driver.compute import machine as machine_lib
from xen44_driver.compute import node as compute_node
from xen44_driver.compute import ports
from xen44_driver.compute import spec
from xen44_driver.compute import tags
from xen44_driver.core import backends
from xen44_driver.core import evidence
from xen44_driver.core import undo as undo_lib
from xen44_driver.network import vif as vif_lib
from xen44_driver.xen import domain
from xen44_driver.xen import errors as xen_errors
from xen44_driver.xen import guest as xen_guest
from xen44_driver.xen import xenstore
from xen44_driver.xen.events import DomainState

LOG = logging.getLogger(__name__)

#: Seconds that a running guest has to use a new interface. Nova's API waits
#: for the whole operation, 60 s by default.
CONNECT_TIMEOUT = 10

#: Seconds until a detached interface must be gone, after libxl's own 20.
GONE_TIMEOUT = 10


def attach(
    node: compute_node.Node, context: nova_context.RequestContext,
    instance: objects.Instance, vif: model.VIF,
) -> None:
    """Attach an interface to an instance, which may run or be off.

    A running guest gets a PV interface, even if its other interfaces also have
    emulated cards: Xen adds none to a running guest. From the next start on,
    it has the model of the others.

    A guest that does not use the interface in time, such as one that still
    boots or has no driver, is no failure: it finds the interface later.

    :param vif: the port.
    :raises nova.exception.InterfaceAttachFailed: the interface did not appear;
        it has been removed.
    :raises nova.exception.NovaException: the port is not supported, or it
        cannot be plugged; nothing is left.
    :raises xen44_driver.xen.errors.XenError: libvirt or libxl failed; nothing
        is left.
    """
    vif_lib.check(vif)
    guest = node.host.guest(instance.uuid)
    interface = _describe(instance, vif)
    _check_mac(instance, guest, interface)
    with undo_lib.Undo(instance) as undo:
        undo.add(ports.unplug, instance, [vif])
        ports.plug(instance, [vif])
        faultpoints.reached('attach: port plugged')
        undo.add(_undefine, guest, interface)
        _define(guest, interface)
        faultpoints.reached('attach: interface defined')
        if not guest.state().is_off:
            undo.add(_detach_live, instance, guest, interface)
            _attach_live(instance, guest, interface)
            faultpoints.reached('attach: interface attached')
        tags.record_interfaces(context, instance)


def detach(
    node: compute_node.Node, instance: objects.Instance, vif: model.VIF,
) -> None:
    """Detach an interface from an instance, which may run or be off.

    It is no failure if the instance does not have the interface.

    :param vif: the port, which Neutron may have deleted already.
    :raises nova.exception.InterfaceDetachFailed: the running guest still has
        the interface, or libvirt cannot tell it from another.
    :raises xen44_driver.xen.errors.XenError: libvirt failed.
    """
    interface = _describe(instance, vif)
    try:
        _detach(instance, node.host.guest(instance.uuid), interface)
    except xen_errors.DomainNotFound:
        LOG.warning('There is no domain to detach an interface from',
                    instance=instance)
    ports.unplug(instance, [vif])
    faultpoints.reached('detach: port unplugged')
    tags.forget_interface(instance, interface.mac)


def _describe(
    instance: objects.Instance, vif: model.VIF,
) -> domain.Interface:
    machine = machine_lib.recall(instance)
    vif_model = (machine.vif_model if machine
                 else instance.image_meta.properties.get('hw_vif_model'))
    return spec.interface(vif, vif_model, instance.flavor)


def _listed(
    guest: xen_guest.Guest, interface: domain.Interface, *, live: bool,
) -> list[domain.Interface]:
    """Return what libvirt lists with an interface's MAC address."""
    return [listed for listed in guest.interfaces(live=live)
            if listed.mac == interface.mac]


def _define(guest: xen_guest.Guest, interface: domain.Interface) -> None:
    """Put an interface into a domain's definition, if it is not there."""
    if not _listed(guest, interface, live=False):
        guest.attach_device(domain.device_xml(interface), live=False)


def _undefine(guest: xen_guest.Guest, interface: domain.Interface) -> None:
    """Take an interface out of a domain's definition, if it is there."""
    if _listed(guest, interface, live=False):
        guest.detach_device(domain.device_xml(interface), live=False)


def _check_mac(
    instance: objects.Instance, guest: xen_guest.Guest,
    interface: domain.Interface,
) -> None:
    """Refuse an interface whose MAC address another port's interface has.

    Networks may share MAC addresses, but libvirt and libxl know an interface
    by its address alone.
    """
    if any(other.bridge != interface.bridge
           for other in _listed(guest, interface, live=False)):
        raise exception.InterfaceAttachFailed(
            f'cannot attach an interface with the MAC address '
            f'{interface.mac}: the instance has another interface with it',
            instance_uuid=instance.uuid)


def _attach_live(
    instance: objects.Instance, guest: xen_guest.Guest,
    interface: domain.Interface,
) -> None:
    """Attach an interface to a running guest and look until it is there."""
    hotplug = dataclasses.replace(interface, model='netfront')
    try:
        with evidence.explained(guest.name):
            guest.attach_device(domain.device_xml(hotplug), live=True)
    except xen_errors.OperationFailed as error:
        # The guest may have ended, or rebooted with its new definition.
        seen = _seen(guest, interface)
        if not guest.state().is_off and (seen is None or not seen.is_plugged):
            raise
        LOG.info('The guest ended or rebooted meanwhile: %s', error,
                 instance=instance)
        return
    _wait_until_used(instance, guest, interface)


def _wait_until_used(
    instance: objects.Instance, guest: xen_guest.Guest,
    interface: domain.Interface,
) -> None:
    """Look until a running guest uses a new interface, or time is over.

    :raises nova.exception.InterfaceAttachFailed: the interface will not work,
        or it is not there.
    """
    # A paused guest does nothing.
    running = guest.state() is DomainState.RUNNING
    seen = None
    for _ in backends.pauses(CONNECT_TIMEOUT if running else 0):
        seen = _seen(guest, interface)
        if guest.id is None:
            LOG.info('The guest ended before it used the new interface',
                     instance=instance)
            return
        if seen is not None and (seen.is_connected or seen.has_failed):
            break
    if seen is None or seen.has_failed:
        reason = (seen.error or f'its backend is {seen.state.name}'
                  if seen else 'Xen has no backend for it')
        raise exception.InterfaceAttachFailed(
            f'cannot attach the interface {interface.mac}: {reason}',
            instance_uuid=instance.uuid)
    if not seen.is_connected:
        LOG.warning('The guest does not use its new interface %s yet. Does '
                    'it still boot, or is it without a driver?',
                    interface.mac, instance=instance)


def _detach(
    instance: objects.Instance, guest: xen_guest.Guest,
    interface: domain.Interface,
) -> None:
    """Take an interface out of a domain's definition and a running guest.

    :raises nova.exception.InterfaceDetachFailed: it is still there, or libvirt
        cannot tell it from another.
    """
    defined = _listed(guest, interface, live=False)
    if len(defined) > 1:
        raise exception.InterfaceDetachFailed(
            f'cannot detach the interface {interface.mac}: the instance has '
            f'{len(defined)} interfaces with this MAC address',
            instance_uuid=instance.uuid)
    if any(other.bridge != interface.bridge for other in defined):
        LOG.info('The interface %s is that of another port', interface.mac,
                 instance=instance)
        return
    with undo_lib.Undo(instance) as undo:
        # First the definition: a guest that reboots meanwhile comes back
        # without the interface.
        for mine in defined:
            undo.add(_define, guest, mine)
            _undefine(guest, mine)
        faultpoints.reached('detach: interface undefined')
        if not guest.state().is_off:
            _detach_live(instance, guest, interface)
            faultpoints.reached('detach: interface detached')


def _detach_live(
    instance: objects.Instance, guest: xen_guest.Guest,
    interface: domain.Interface,
) -> None:
    """Detach an interface from a running guest and look until it is gone.

    :raises nova.exception.InterfaceDetachFailed: it is still there.
    """
    # If Xen does not have it, libvirt would fail without a reason.
    if _seen(guest, interface) is None:
        LOG.info('The guest does not have the interface %s', interface.mac,
                 instance=instance)
        return
    problem = ''
    if _listed(guest, interface, live=True):
        try:
            with evidence.explained(guest.name):
                guest.detach_device(domain.device_xml(interface), live=True)
        except xen_errors.OperationFailed as error:
            problem = str(error)
    else:
        problem = 'libvirt does not list it'
    if problem:
        LOG.warning('libvirt cannot detach the interface %(mac)s: %(why)s',
                    {'mac': interface.mac, 'why': problem},
                    instance=instance)
        problem = _take_away(guest, interface) or problem
    for _ in backends.pauses(GONE_TIMEOUT):
        if _seen(guest, interface) is None:
            return
    raise exception.InterfaceDetachFailed(
        f'cannot detach the interface {interface.mac}: the guest still has '
        f'it {GONE_TIMEOUT} s later' + (f' ({problem})' if problem else ''),
        instance_uuid=instance.uuid)


def _take_away(
    guest: xen_guest.Guest, interface: domain.Interface,
) -> str | None:
    """Detach an interface without libvirt, if the guest has it.

    :returns: why that failed, or None.
    """
    seen, domid = _seen(guest, interface), guest.id
    if seen is not None and domid is not None:
        try:
            privsep.detach_interface(domid, seen.devid)
        except OSError as error:
            return str(error)
    return None


def _seen(
    guest: xen_guest.Guest, interface: domain.Interface,
) -> xenstore.Vif | None:
    """Return what xenstore shows of an interface of a running guest.

    :returns: None if the guest does not have it or is off.
    """
    domid = guest.id
    if domid is None:
        return None
    found = xenstore.vifs(
        privsep.read_backends(domid, xenstore.BackendKind.VIF))
    for vif in found:
        if vif.mac == interface.mac:
            return vif
    return None
