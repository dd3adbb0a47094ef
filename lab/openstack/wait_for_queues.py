# SPDX-License-Identifier: Apache-2.0
"""Wait until RabbitMQ queues exist, that is: until their servers listen.

A call sent to a service that does not listen yet is lost, and its caller
waits for the whole of its time limit. Runs in the services' virtual
environment: ``wait_for_queues.py SECONDS QUEUE...``, with RabbitMQ's URL in
the variable TRANSPORT_URL.
"""

import os
import sys
import time

import amqp.exceptions
import kombu


def exists(connection: kombu.Connection, queue: str) -> bool:
    """Whether there is a queue of that name."""
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except amqp.exceptions.NotFound:
        return False
    finally:
        channel.close()
    return True


def main() -> int | str:
    """Exit status: 0, or why not."""
    deadline = time.monotonic() + float(sys.argv[1])
    missing = sys.argv[2:]
    url = os.environ['TRANSPORT_URL'].replace('rabbit:', 'amqp:', 1)
    with kombu.Connection(url) as connection:
        while missing := [queue for queue in missing
                          if not exists(connection, queue)]:
            if time.monotonic() > deadline:
                return f'not listening: {", ".join(missing)}'
            time.sleep(0.2)
    return 0


if __name__ == '__main__':
    sys.exit(main())
