# SPDX-License-Identifier: Apache-2.0
"""Set the administrator's password of a running instance."""

from __future__ import annotations

from nova import crypto
from nova import exception
from nova import objects
from nova.api.metadata import password as metadata_password
from oslo_log import log as logging
from oslo_serialization import base64

from xen44_driver.compute import guest_agent
from xen44_driver.xen import errors

LOG = logging.getLogger(__name__)


def set_admin(instance: objects.Instance, password: str) -> None:
    """Set the administrator's password through the guest agent.

    The user is the image's ``os_admin_user``, otherwise ``Administrator`` in
    Windows and ``root`` in other systems. If the instance was made with an RSA
    key, the password is also kept, encrypted with it, for the API (``nova
    get-password``).

    :param password: the new password; never logged.
    :raises nova.exception.InstanceAgentNotEnabled: the instance has no channel
        to a guest agent, or no agent answers.
    :raises nova.exception.InstancePasswordSetFailed: the agent refuses.
    """
    guest_agent.check(instance)
    try:
        with guest_agent.session(instance.uuid) as agent:
            agent.set_password(_user(instance), password)
    except errors.AgentSilent as error:
        raise exception.InstanceAgentNotEnabled(
            f'The guest agent of the instance does not answer: {error}'
        ) from error
    except errors.AgentRefused as error:
        raise exception.InstancePasswordSetFailed(
            instance=instance.uuid,
            reason=f'the guest agent refuses: {error}') from error
    _keep_encrypted(instance, password)


def _user(instance: objects.Instance) -> str:
    asked: str | None = instance.image_meta.properties.get('os_admin_user')
    if asked:
        return asked
    return 'Administrator' if instance.os_type == 'windows' else 'root'


def _keep_encrypted(instance: objects.Instance, password: str) -> None:
    key = instance.key_data if 'key_data' in instance else None
    if not key or not key.startswith('ssh-rsa'):
        return
    try:
        encrypted = crypto.ssh_encrypt_text(key, password)
    except exception.EncryptionFailure:
        # Its text is not logged: it may quote the password.
        LOG.warning('The password was set, but is not kept for the API: it '
                    'cannot be encrypted with the key', instance=instance)
        return
    instance.system_metadata.update(metadata_password.convert_password(
        None, base64.encode_as_text(encrypted)))
    instance.save()
