# SPDX-License-Identifier: Apache-2.0
"""CloudStack's standard actions, and what they answer."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from xen44_driver.cloudstack import customactions
from xen44_driver.cloudstack import dom0host
from xen44_driver.cloudstack import payload as payload_lib
from xen44_driver.cloudstack import screens
from xen44_driver.cloudstack import vms
from xen44_driver.core import consolelog
from xen44_driver.core import undo
from xen44_driver.xen import events
from xen44_driver.xen.events import DomainState

CONF = cfg.CONF
LOG = logging.getLogger(__name__)

#: What an action answers; None for nothing.
Answer = Mapping[str, Any] | None
Action = Callable[[dom0host.Dom0Host, payload_lib.Payload], Answer]

ON, OFF = 'poweron', 'poweroff'


def prepare(
    dom0: dom0host.Dom0Host, payload: payload_lib.Payload,
) -> Answer:
    """Check that this host can have a VM; change nothing."""
    _, planned = vms.wanted(dom0, payload)
    vms.check_memory(dom0, planned)
    # The size of the image is not known before it is inspected.
    vms.require_space(dom0, planned.record.root, planned.record.root.size)
    vms.guest_of(dom0, planned.vm)
    return None


def create(dom0: dom0host.Dom0Host, payload: payload_lib.Payload) -> Answer:
    """Make a VM and start it."""
    with dom0.locked(payload.vm()):
        vms.create(dom0, payload)
    return _done('Instance created')


def start(dom0: dom0host.Dom0Host, payload: payload_lib.Payload) -> Answer:
    """Start a VM."""
    with dom0.locked(payload.vm()):
        vms.start(dom0, payload)
    return _done('Instance started')


def stop(dom0: dom0host.Dom0Host, payload: payload_lib.Payload) -> Answer:
    """Stop a VM; remove it if it is left of a create that failed.

    CloudStack may make it on another host next, and never come back to this
    one. Then this host would report for ever that the VM is off.
    """
    vm = payload.vm()
    with dom0.locked(vm):
        if payload.is_new():
            vms.remove(dom0, vm)
        else:
            vms.stop(dom0, vm)
            undo.attempt(vm, screens.end, vm.uuid)
    return _done('Instance stopped')


def reboot(dom0: dom0host.Dom0Host, payload: payload_lib.Payload) -> Answer:
    """Reboot a VM."""
    with dom0.locked(payload.vm()):
        vms.reboot(dom0, payload)
    return _done('Instance rebooted')


def delete(dom0: dom0host.Dom0Host, payload: payload_lib.Payload) -> Answer:
    """Remove a VM and its disks."""
    vm = payload.vm()
    with dom0.locked(vm):
        vms.remove(dom0, vm)
    return _done('Instance deleted')


def status(dom0: dom0host.Dom0Host, payload: payload_lib.Payload) -> Answer:
    """Tell whether a VM is on; no other action is waited for."""
    vm = payload.vm()
    guest = vms.guest_of(dom0, vm)
    if guest is not None:
        _shorten_logs(dom0, {vm.uuid: guest.name})
    state = DomainState.SHUTDOWN if guest is None else guest.state()
    return {'status': 'success',
            'power_state': _power(dom0, vm.uuid, vm.name, state)}


def statuses(
    dom0: dom0host.Dom0Host, payload: payload_lib.Payload,
) -> Answer:
    """Tell of all VMs whether they are on."""
    _shorten_logs(dom0, {uuid: record.name for uuid, record
                         in dom0.host.records().items()})
    return {'status': 'success', 'power_state': {
        record.name: _power(dom0, uuid, record.name, record.state)
        for uuid, record in dom0.host.records().items()}}


def _shorten_logs(dom0: dom0host.Dom0Host, names: Mapping[str, str]) -> None:
    """Keep guests from filling this host's disk by what they print.

    CloudStack asks for states each minute, and no other program of ours runs
    all the time.

    :param names: the names of domains, by UUID.
    """
    for problem in consolelog.trim(
            {name: dom0.files(uuid).serial_log
             for uuid, name in names.items()},
            CONF.xen44.console_log_max_bytes):
        LOG.warning('A guest may fill this host\'s disk: %s', problem)


def _power(
    dom0: dom0host.Dom0Host, uuid: str, name: str, state: DomainState,
) -> str:
    vms.require_state(name, state)
    if state in events.OFF and not vms.is_rebooting(dom0, uuid):
        return OFF
    return ON


def getconsole(
    dom0: dom0host.Dom0Host, payload: payload_lib.Payload,
) -> Answer:
    """Tell where a VM's screen is, and its password."""
    vm = payload.vm()
    host = (payload.host.text(
        'console_host', r'[A-Za-z0-9][A-Za-z0-9.:-]{0,254}',
        'an address or a host name') or CONF.xen44_cloudstack.console_host)
    if host is None:
        raise vms.Refused(
            'neither the detail console_host of the host nor '
            '[xen44_cloudstack] console_host is set')
    with dom0.locked(vm):
        guest = vms.guest_of(dom0, vm)
        if guest is None or guest.state().is_off:
            raise vms.Refused('the VM is off')
        if guest.vnc_address() is None:
            raise vms.Refused(
                'the VM has no screen: see the action ConsoleLog for its text '
                'console')
        screen = screens.offer(vm.uuid)
    return {**_done('Console retrieved'), 'console': {
        'host': host, 'port': screen.port, 'password': screen.password,
        'passwordonetimeuseonly': False, 'protocol': 'vnc'}}


def _done(message: str) -> dict[str, Any]:
    return {'status': 'success', 'message': message}


#: Every action by its name in lower case.
ACTIONS: Mapping[str, Action] = {
    **{action.__name__: action for action in (
        prepare, create, start, stop, reboot, delete, status, statuses,
        getconsole)},
    **customactions.ACTIONS,
}
