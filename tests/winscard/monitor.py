"""A program with pyscard's monitors: cards put in and taken out, readers plugged in and unplugged."""

import ctypes
import queue
import socket
import sys
import threading

from smartcard.CardMonitoring import CardMonitor, CardObserver
from smartcard.ReaderMonitoring import ReaderMonitor, ReaderObserver
from smartcard.System import readers

seen = queue.Queue()
hands = socket.socket(socket.AF_UNIX)


def hand(line):
    hands.sendall(line.encode() + b"\n")
    assert hands.recv(100) == b"ok\n", line


def expect(what, added, removed):
    # What there was before the monitor began is told more than once, or not at all.
    while seen.get(timeout=60) != (what, added, removed):
        pass


def card_again():
    hand("remove")
    hand("insert")


def expect_first(what):
    try:
        while seen.get(timeout=5) != (what, 1, 0):
            pass
    except queue.Empty:
        # pyscard 2.2 tells only what comes after it has begun.
        card_again()
        expect(what, 1, 0)


def stop(monitor, observer):
    # From pyscard 2.1 on it ends with the next event, or in a minute.
    ending = threading.Thread(target=monitor.deleteObserver, args=(observer,))
    ending.start()
    while ending.is_alive():
        card_again()
        ending.join(0.1)


def expect_no_names():
    """What pyscard takes for names if the last reader goes after it has asked for the length."""
    library = ctypes.CDLL("libpcsclite.so.1")
    context, length, names = ctypes.c_long(), ctypes.c_ulong(50), ctypes.create_string_buffer(b"x" * 49)
    assert library.SCardEstablishContext(0, None, None, ctypes.byref(context)) == 0
    code = library.SCardListReaders(context, None, names, ctypes.byref(length))
    assert code & 0xFFFFFFFF == 0x8010002E, hex(code)
    assert (length.value, names.raw[:2]) == (1, b"\0x"), (length, names.raw)
    assert library.SCardReleaseContext(context) == 0


class Cards(CardObserver):
    def update(self, observable, actions):
        seen.put(("cards", len(actions[0]), len(actions[1])))


class Readers(ReaderObserver):
    def update(self, observable, actions):
        seen.put(("readers", len(actions[0]), len(actions[1])))


before = [str(reader) for reader in readers()]
assert len(before) == 1, before
hands.connect(sys.argv[1])

monitor, cards = CardMonitor(), Cards()
monitor.addObserver(cards)
expect_first("cards")
hand("remove")
expect("cards", 0, 1)
hand("insert")
expect("cards", 1, 0)
stop(monitor, cards)

monitor, watched = ReaderMonitor(period=0.05), Readers()
monitor.addObserver(watched)
expect("readers", 1, 0)
hand("unplug")
expect("readers", 0, 1)
expect_no_names()
hand("plug")
expect("readers", 1, 0)
monitor.deleteObserver(watched)
assert [str(reader) for reader in readers()] == before, readers()
print("ok")
