"""A program with pyscard that cancels, from one thread, what another is doing."""

import threading

from smartcard.scard import *

EVER = 0xFFFFFFFF
ANY = SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1


def ok(result):
    assert result[0] == SCARD_S_SUCCESS, SCardGetErrorMessage(result[0])
    return result[1:]


context, = ok(SCardEstablishContext(SCARD_SCOPE_USER))
holders, = ok(SCardEstablishContext(SCARD_SCOPE_USER))
reader = ok(SCardListReaders(context, []))[0][0]
card, protocol = ok(SCardConnect(context, reader, SCARD_SHARE_SHARED, ANY))
holding, _ = ok(SCardConnect(holders, reader, SCARD_SHARE_SHARED, ANY))
known = SCARD_STATE_PRESENT | SCARD_STATE_INUSE

# What blocks, and whether another's transaction is what makes it so.
CALLS = [
    ("status change", False, lambda: SCardGetStatusChange(context, EVER, [(reader, known)])[0]),
    ("transmit", False, lambda: SCardTransmit(card, protocol, [0x00, 0x16, 0x00, 0x00])[0]),
    ("connect", True, lambda: SCardConnect(context, reader, SCARD_SHARE_SHARED, ANY)[0]),
    ("begin", True, lambda: SCardBeginTransaction(card)),
    ("status", True, lambda: SCardStatus(card)[0]),
    ("reconnect", True, lambda: SCardReconnect(card, SCARD_SHARE_SHARED, ANY, SCARD_RESET_CARD)[0]),
]

for name, held, call in CALLS:
    if held:
        assert SCardBeginTransaction(holding) == SCARD_S_SUCCESS
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    while thread.is_alive():
        # One that has not begun yet is not cancelled.
        assert SCardCancel(context) == SCARD_S_SUCCESS
        thread.join(0.001)
    assert [code & 0xFFFFFFFF for code in results] == [SCARD_E_CANCELLED & 0xFFFFFFFF], (name, results)
    if held:
        assert SCardEndTransaction(holding, SCARD_LEAVE_CARD) == SCARD_S_SUCCESS
    # An aborted command may have cost the card a reset.
    ok(SCardReconnect(card, SCARD_SHARE_SHARED, ANY, SCARD_LEAVE_CARD))
    ok(SCardReconnect(holding, SCARD_SHARE_SHARED, ANY, SCARD_LEAVE_CARD))
    response, = ok(SCardTransmit(card, protocol, [0x00, 0x10, 0x00, 0x00, 0x01, 0xAB]))
    assert response == [0xAB, 0x90, 0x00], response

assert SCardReleaseContext(context) == SCARD_S_SUCCESS
print("ok")
