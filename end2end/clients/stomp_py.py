"""PyPI `stomp.py` over its WebSocket transport: everything that it can do, against a server.

Usage: stomp_py.py HOST PORT ROOM_ID. Says each step as a line on standard output, reads a line from
standard input where the server is to be restarted, and exits with 0 when all of it held.
"""

import json
import queue
import sys
import time

import stomp

SOON = 30


class Ears(stomp.ConnectionListener):
    """Puts all that comes into queues, and keeps the connection up as the documentation shows."""

    def __init__(self):
        self.messages = queue.Queue()
        self.receipts = queue.Queue()
        self.connected = queue.Queue()
        self.lost = queue.Queue()
        self.errors = []
        self.beats = 0

    def on_connected(self, frame):
        self.connected.put(frame.headers)

    def on_message(self, frame):
        self.messages.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame):
        self.errors.append((frame.headers, frame.body))

    def on_heartbeat(self):
        self.beats += 1

    def on_disconnected(self):
        self.lost.put(True)


def hears(ears, count):
    return [ears.messages.get(timeout=SOON) for _ in range(count)]


def hears_nothing(ears):
    time.sleep(0.3)
    assert ears.messages.empty(), ears.messages.get()


def talk(text):
    return json.dumps({"type": "TALK", "sender": "stomp.py", "message": text})


def texts(frames):
    return [json.loads(frame.body)["message"] for frame in frames]


def step(words):
    print(words, flush=True)


def main(host, port, room):
    ears = Ears()
    connection = stomp.WSStompConnection(
        [(host, int(port))], ws_path="/ws/chat", heartbeats=(4000, 4000)
    )
    connection.set_listener("", ears)
    connection.connect(wait=True)
    assert ears.connected.get(timeout=SOON)["version"] == "1.2"
    destination = f"/topic/chat/room/{room}"

    step("talks, with receipts")
    connection.subscribe(destination, id="room")
    connection.send(destination, talk("하나"), receipt="r1")
    assert ears.receipts.get(timeout=SOON) == "r1"
    assert texts(hears(ears, 1)) == ["하나"]

    step("acknowledges and gives back")
    connection.subscribe("/queue/work", id="work", ack="client-individual")
    for text in ["one", "two"]:
        connection.send("/queue/work", text)
    one, two = hears(ears, 2)
    connection.ack(one.headers["ack"], receipt="ack")
    assert ears.receipts.get(timeout=SOON) == "ack"
    connection.nack(two.headers["ack"])
    (again,) = hears(ears, 1)
    assert again.body == "two"
    connection.ack(again.headers["ack"])
    connection.unsubscribe("work")

    step("uses transactions")
    dropped = connection.begin()
    connection.send(destination, talk("아니"), transaction=dropped)
    connection.abort(dropped)
    kept = connection.begin()
    for text in ["둘", "셋"]:
        connection.send(destination, talk(text), transaction=kept)
    hears_nothing(ears)
    connection.commit(kept, receipt="c")
    assert texts(hears(ears, 2)) == ["둘", "셋"]
    assert ears.receipts.get(timeout=SOON) == "c"

    step("keeps alive")
    until = time.monotonic() + SOON
    while ears.beats == 0:
        assert time.monotonic() < until, "no heart-beat came"
        time.sleep(0.1)

    step("restart the server")
    sys.stdin.readline()
    ears.lost.get(timeout=SOON)
    connection.connect(wait=True)
    connection.subscribe(destination, id="room", headers={"x-stream-offset": "offset=2"})
    connection.send(destination, talk("넷"))
    assert texts(hears(ears, 3)) == ["둘", "셋", "넷"]
    connection.disconnect(receipt="bye")
    assert ears.receipts.get(timeout=SOON) == "bye"
    assert not ears.errors, ears.errors
    step("done")


main(*sys.argv[1:])
