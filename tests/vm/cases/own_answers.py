"""Every command receives its own answer, at the lengths where a message fills a USB packet exactly.

After a message of exactly one packet of 64 bytes, QEMU's reader on xHCI sends an empty transfer: a driver that takes it
for an answer is one answer behind from there on.
"""
# needs: readers=1 cards=peer usb=uhci,xhci bins=scard limit=300
from lib import check, require_equal, times_given
from lib.cli import apdu, apdus

HEADER, STATUS, PACKET = 10, 2, 64


def echo(number, length):
    """An echo of `length` bytes that no other `number` has."""
    return bytes([0, 0x10, 0, 0, length]) + bytes((number * 37 + i * 11) & 0xFF for i in range(length))


def require_own_answers(commands, within):
    for command, answer in zip(commands, apdus(commands, within=within)):
        require_equal(answer, command[5:] + b"\x90\x00", f"answer to an echo of {command[4]} bytes")


ONE_PACKET = PACKET - HEADER - STATUS  # data of an echo whose answer is one packet

with check("an answer of one packet, a hundred times in one session"):
    require_own_answers([echo(n, ONE_PACKET) for n in range(100)], within=120)

with check("answers around one packet, mixed"):
    lengths = [ONE_PACKET + step for step in (0, 1, -1, 0, 0, 2, -2)]
    require_own_answers([echo(n, lengths[n % len(lengths)]) for n in range(140)], within=120)

with check("answers around two, three and four packets"):
    lengths = [packets * PACKET - HEADER - STATUS + step for packets in (2, 3, 4) for step in (-1, 0, 1)]
    require_own_answers([echo(n, lengths[n % len(lengths)]) for n in range(90)], within=120)

with check("commands around one packet"):
    lengths = [PACKET - HEADER - 5 + step for step in (-1, 0, 1)]
    require_own_answers([echo(n, lengths[n % len(lengths)]) for n in range(90)], within=120)

with check("an answer of one packet as the last of a session"):
    for number in range(4):
        command = echo(number, ONE_PACKET)
        require_equal(apdu(command.hex()), command[5:].hex() + "9000", f"answer in session {number}")

with check("no command reached the card twice"):
    command = echo(200, 20)
    apdu(command.hex())
    require_equal(times_given(command.hex()), 1, "times it came")
