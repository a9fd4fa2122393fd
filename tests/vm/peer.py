"""A small card in software: the far end of QEMU's ccid-card-passthru, speaking libcacard's vscard protocol.

T=0. INS 10 echoes its data, 12 answers P1P2 bytes, 14 answers after P1P2 milliseconds, 16 never answers, A4 answers
9000, anything else 6D00.
"""
import collections
import fcntl
import struct
import termios
import threading
import time

ATR = bytes.fromhex("3B 65 00 00 41 52 45 4E 41")  # T=0, historical bytes "ARENA"
OK = b"\x90\x00"


def answer(command):
    """What the card says to a command, and after how many seconds; None: never."""
    if len(command) < 4:
        return b"\x67\x00", 0
    instruction, number = command[1], command[2] << 8 | command[3]
    if instruction == 0x10:
        return (command[5:5 + command[4]] if len(command) > 5 else b"") + OK, 0
    if instruction == 0x12:
        return bytes(i & 0xFF for i in range(number)) + OK, 0
    if instruction == 0x14:
        return OK, number / 1000
    if instruction == 0x16:
        return None
    return (OK if instruction == 0xA4 else b"\x6D\x00"), 0


class Peer(threading.Thread):
    """One card, with the socket that leads to its reader."""
    INIT, ERROR, READER_ADD, READER_REMOVE, ATR, CARD_REMOVE, APDU = range(1, 8)

    def __init__(self, connection):
        super().__init__(daemon=True)
        self.socket = connection
        self.lock = threading.Lock()
        self.taken_out = threading.Event()
        self.unplugged = False
        self.commands = collections.deque(maxlen=1000)  # the latest that have reached the card
        self.send(self.INIT, b"VSCD" + struct.pack(">II", 2, 0), reader=0xFFFFFFFF)
        self.send(self.READER_ADD)
        self.start()

    def send(self, kind, payload=b"", reader=0):
        with self.lock:
            if self.unplugged and kind == self.APDU:
                return
            self.socket.sendall(struct.pack(">III", kind, reader, len(payload)) + payload)

    def insert(self):
        self.taken_out.clear()
        self.unplugged = False
        self.send(self.ATR, ATR)

    def remove(self):
        self.taken_out.set()
        self.send(self.CARD_REMOVE)

    def prepare_to_be_unplugged(self):
        """Says nothing more until it is inserted again: QEMU dies of an answer to a reader that it has just freed."""
        with self.lock:
            self.unplugged = True
        while struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0]:
            time.sleep(0.001)  # QEMU has not taken it all yet, and does so without a word

    def run(self):
        try:
            stream = self.socket.makefile("rb")
            while len(header := stream.read(12)) == 12:
                kind, _, length = struct.unpack(">III", header)
                payload = stream.read(length)
                if kind == self.APDU:
                    self.commands.append(payload)
                    self.react(payload)
        except ConnectionError:
            return  # QEMU has ended

    def react(self, command):
        if (said := answer(command)) is not None:
            text, delay = said
            # A card that is taken out while it works says nothing any more.
            if not (delay and self.taken_out.wait(delay)):
                self.send(self.APDU, text)
