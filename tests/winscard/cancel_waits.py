"""A program that cancels while it transmits, and has said that this is not to matter: SCARD_CANCEL=waits."""

import socket
import sys
import threading

from smartcard.scard import *

_, context = SCardEstablishContext(SCARD_SCOPE_USER)
_, readers = SCardListReaders(context, [])
_, card, protocol = SCardConnect(
    context, readers[0], SCARD_SHARE_SHARED, SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1)
known = SCARD_STATE_PRESENT | SCARD_STATE_INUSE


hands = socket.socket(socket.AF_UNIX)
hands.connect(sys.argv[1])


def hand(line):
    hands.sendall(line.encode() + b"\n")
    said = b""
    while not said.endswith(b"ok\n"):
        said += hands.recv(4096)
    return said


def cancelled(call, begun=lambda: True):
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    while not begun():
        pass
    while thread.is_alive():
        assert SCardCancel(context) == SCARD_S_SUCCESS
        thread.join(0.001)
    return results[0]


# The card takes a second for it. A call that the reader is not at yet is cancelled.
hand("forget")
code, response = cancelled(
    lambda: SCardTransmit(card, protocol, [0x00, 0x14, 0x03, 0xE8]), lambda: b"XfrBlock" in hand("log"))
assert (code, response) == (SCARD_S_SUCCESS, [0x90, 0x00]), (code, response)
code, _ = cancelled(lambda: SCardGetStatusChange(context, 0xFFFFFFFF, [(readers[0], known)]))
assert code & 0xFFFFFFFF == SCARD_E_CANCELLED & 0xFFFFFFFF, code
print("ok")
