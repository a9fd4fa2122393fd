"""A program with pyscard: readers, a connection, exchanges, features, a wait. Its arguments are the readers' names."""

import sys

from smartcard.CardConnection import CardConnection
from smartcard.scard import (
    SCARD_SCOPE_USER, SCARD_STATE_PRESENT, SCARD_STATE_UNAWARE, SCardEstablishContext,
    SCardGetStatusChange)
from smartcard.System import readers
from smartcard.util import toBytes

names = [str(reader) for reader in readers()]
assert names == sys.argv[1:], names

connection = readers()[0].createConnection()
connection.connect(CardConnection.T1_protocol)
assert connection.getATR() == toBytes("3B 97 95 81 31 FE 45 80 31 80 73 F4 21 40 DE")
assert connection.transmit([0x00, 0x10, 0, 0, 2, 0xAB, 0xCD]) == ([0xAB, 0xCD], 0x90, 0x00)
data, sw1, sw2 = connection.transmit([0x00, 0x12, 0x03, 0xE8, 0, 0, 0])
assert (len(data), sw1, sw2) == (1000, 0x90, 0x00), (len(data), sw1, sw2)
connection.disconnect()

pad = readers()[1].createConnection()
pad.connect()
features = dict(pad.getFeatures()) if hasattr(pad, "getFeatures") else None
if features is None:
    from smartcard.pcsc.PCSCPart10 import FEATURE_VERIFY_PIN_DIRECT, getFeatureRequest, hasFeature
    assert hasFeature(getFeatureRequest(pad), FEATURE_VERIFY_PIN_DIRECT)

result, context = SCardEstablishContext(SCARD_SCOPE_USER)
result, states = SCardGetStatusChange(context, 0, [(names[0], SCARD_STATE_UNAWARE)])
assert states[0][1] & SCARD_STATE_PRESENT, states
print("ok")
