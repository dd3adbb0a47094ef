# SPDX-License-Identifier: Apache-2.0
"""The lab's OpenStack APIs, spoken from outside its network namespace.

The lab itself runs before anything is installed and wants answers in
milliseconds: so the few calls it needs are made with the standard library.
Everything else should use openstacksdk inside the namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import ctypes
import functools
import http
import http.client
import json
import os
import socket
from typing import IO
from typing import Any
import urllib.parse

from labkit import config
from labkit import util
from labkit.cloud import settings

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)

#: Newest microversions that the lab's own calls rely on: Nova's, Cinder's.
_VERSIONS = 'compute 2.96, volume 3.70'


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f'setns: {os.strerror(code)}')


@contextlib.contextmanager
def lab_namespace() -> Iterator[None]:
    """Sockets this thread makes in the body belong to the lab's namespace."""
    with open('/proc/thread-self/ns/net') as home, \
            open(f'/run/netns/{config.NETNS}') as lab:
        _setns(lab.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def listening(address: str, port: int) -> bool:
    """Whether something in the lab accepts TCP connections there."""
    with lab_namespace(), contextlib.closing(socket.socket()) as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        with lab_namespace():
            super().connect()


def request(method: str, url: str, body: Any = None, *,
            headers: Mapping[str, str] | None = None,
            timeout: float = 60) -> tuple[int, http.client.HTTPMessage, Any]:
    """One request to a service of the lab.

    :param body: None, an open file, or what JSON can hold.
    :param timeout: seconds for the answer to begin.
    :returns: status, headers, and the JSON in the answer if that is what
        it holds.
    :raises OSError, http.client.HTTPException: no answer.
    """
    parts = urllib.parse.urlsplit(url)
    connection = _Connection(parts.hostname or '', parts.port,
                             timeout=timeout)
    sent = {'Accept': 'application/json', **(headers or {})}
    if body is not None and not hasattr(body, 'read'):
        body = json.dumps(body)
        sent.setdefault('Content-Type', 'application/json')
    path = parts.path + (f'?{parts.query}' if parts.query else '')
    with contextlib.closing(connection):
        connection.request(method, path or '/', body, sent)
        response = connection.getresponse()
        text = response.read()
    answer = None
    if text and 'json' in response.headers.get('Content-Type', ''):
        answer = json.loads(text)
    return response.status, response.headers, answer


class Client:
    """Calls to the APIs as the lab's admin.

    A new one is cheap; its token is fetched at the first call.
    """

    @functools.cached_property
    def _login(self) -> tuple[str, str]:
        """A token, and the id of the project it is for."""
        domain = {'name': 'Default'}
        password = {'user': {
            'name': 'admin', 'domain': domain,
            'password': settings.load_secrets()['admin']}}
        try:
            status, headers, body = request(
                'POST', settings.ENDPOINTS['identity'] + '/auth/tokens',
                {'auth': {
                    'identity': {'methods': ['password'],
                                 'password': password},
                    'scope': {'project': {'name': 'admin',
                                          'domain': domain}}}})
        except (OSError, http.client.HTTPException) as error:
            raise util.LabError(f'keystone does not answer: {error}',
                                _log('identity')) from error
        if status != http.HTTPStatus.CREATED:
            raise util.LabError(f'keystone refused the admin: {status}',
                                _log('identity'))
        return headers['X-Subject-Token'], body['token']['project']['id']

    @property
    def project(self) -> str:
        """Id of the admin's project."""
        return self._login[1]

    def call(self, method: str, service: str, path: str,
             body: Mapping[str, Any] | None = None) -> Any:
        """One call; returns the JSON of its answer.

        :param service: type in the catalogue, a key of
            :data:`settings.ENDPOINTS`.
        :raises util.LabError: the service did not like it.
        """
        return self._send(method, service, path, body, {}, 60)

    def upload(self, path: str, source: IO[bytes], size: int,
               timeout: float) -> None:
        """Send a file's bytes to the image service.

        :param size: bytes to send.
        :param timeout: seconds for the service to take each piece.
        """
        self._send('PUT', 'image', path, source, {
            'Content-Type': 'application/octet-stream',
            'Content-Length': str(size)}, timeout)

    def _send(self, method: str, service: str, path: str, body: Any,
              headers: Mapping[str, str], timeout: float) -> Any:
        try:
            status, _, answer = request(
                method, settings.ENDPOINTS[service] + path, body,
                headers={'X-Auth-Token': self._login[0],
                         'OpenStack-API-Version': _VERSIONS,
                         **headers}, timeout=timeout)
        except (OSError, http.client.HTTPException) as error:
            raise util.LabError(f'{method} {service} {path}: {error}',
                                _log(service)) from error
        if status >= 400:
            raise util.LabError(
                f'{method} {service} {path}: {status} {answer}',
                _log(service))
        return answer


def _log(service: str) -> os.PathLike[str]:
    name = settings.NAMES[service]
    return config.LOGS / (f'{name}-api.log' if service != 'identity'
                          else f'{name}.log')
