"""A program that cancels while it transmits, and has said that this is not to matter: SCARD_CANCEL=waits."""

import threading

from smartcard.scard import *

_, context = SCardEstablishContext(SCARD_SCOPE_USER)
_, readers = SCardListReaders(context, [])
_, card, protocol = SCardConnect(
    context, readers[0], SCARD_SHARE_SHARED, SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1)
known = SCARD_STATE_PRESENT | SCARD_STATE_INUSE


def cancelled(call):
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    while thread.is_alive():
        assert SCardCancel(context) == SCARD_S_SUCCESS
        thread.join(0.001)
    return results[0]


# The card takes 200 ms for it.
code, response = cancelled(lambda: SCardTransmit(card, protocol, [0x00, 0x14, 0x00, 0xC8]))
assert (code, response) == (SCARD_S_SUCCESS, [0x90, 0x00]), (code, response)
code, _ = cancelled(lambda: SCardGetStatusChange(context, 0xFFFFFFFF, [(readers[0], known)]))
assert code & 0xFFFFFFFF == SCARD_E_CANCELLED & 0xFFFFFFFF, code
print("ok")
