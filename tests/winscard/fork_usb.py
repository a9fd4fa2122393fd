"""A program that forks after it used USB: the child is told that it cannot, the parent goes on."""

import os

from smartcard.scard import *

NO_SERVICE = 0x8010001D

code, context = SCardEstablishContext(SCARD_SCOPE_USER)
assert code == SCARD_S_SUCCESS, code
child = os.fork()
if child == 0:
    code, _ = SCardEstablishContext(SCARD_SCOPE_USER)
    os._exit(0 if code & 0xFFFFFFFF == NO_SERVICE else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert SCardIsValidContext(context) == SCARD_S_SUCCESS
assert SCardReleaseContext(context) == SCARD_S_SUCCESS
print("ok")
