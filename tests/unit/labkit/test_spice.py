# SPDX-License-Identifier: Apache-2.0
"""The beginning of a SPICE session, with a server made of its own bytes."""

import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric import rsa

from labkit import spice
from labkit import util
from tests.unit.labkit import base

#: What QEMU 10's server answers to a link: its capabilities, at 178.
CAPABILITIES = struct.pack('<IIIII', 1, 1, 178, 0x0b, 0x0f)
INIT = struct.pack('<HI8I', 103, 32, 0x9a2b5fb1, 1, 3, 2, 1, 10, 0, 0)


class Server:
    """What it says, and what it was told."""

    def __init__(self, *said):
        self.key = rsa.generate_private_key(65537, 1024)  # noqa: S505
        self.said = b''.join(said)
        self.told = b''

    @classmethod
    def well(cls, error=0, ticket=0, init=INIT):
        server = cls()
        public = server.key.public_key().public_bytes(
            serialization.Encoding.DER,
            serialization.PublicFormat.SubjectPublicKeyInfo)
        reply = struct.pack('<I', error) + public + CAPABILITIES
        server.said = (struct.pack('<4sIII', b'REDQ', 2, 2, len(reply))
                       + reply + struct.pack('<I', ticket) + init)
        return server

    def read(self, count):
        data, self.said = self.said[:count], self.said[count:]
        return data

    def write(self, data):
        self.told += data


class SessionTest(base.TestCase):

    def test_it_begins(self):
        server = Server.well()
        self.assertEqual(
            spice.Session(id=0x9a2b5fb1, displays=1, agent=True),
            spice.start_session(server))
        self.assertEqual(b'', server.said)
        # A header, the link of 22 bytes, and a ticket.
        self.assertEqual(16 + 22 + 4 + 128, len(server.told))
        self.assertEqual(struct.pack('<4sIII', b'REDQ', 2, 2, 22),
                         server.told[:16])
        self.assertEqual(b'\0', server.key.decrypt(
            server.told[-128:], padding.OAEP(
                mgf=padding.MGF1(hashes.SHA1()),  # noqa: S303
                algorithm=hashes.SHA1(), label=None)))  # noqa: S303

    def test_it_does_not(self):
        for server, said in (
                (Server(b'RFB 003.008\n', bytes(4)), 'not SPICE'),
                (Server(struct.pack('<4sIIII', b'REDQ', 2, 2, 4, 1)),
                 'in 4 bytes'),
                (Server.well(error=3), 'error 3'),
                (Server.well(ticket=7), 'wants a password: error 7'),
                (Server.well(init=bytes(6)), 'by message 0')):
            error = self.assertRaises(
                util.LabError, spice.start_session, server)
            self.assertIn(said, str(error))
