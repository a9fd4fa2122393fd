"""QEMU's reader with one card: what there is to see of it, and commands with short and long answers."""
# needs: readers=1 cards=peer usb=uhci,xhci bins=scard
from lib import card_insert, card_remove, check, require, require_equal, wait_until
from lib.cli import (NOTHING, PEER_ATR, QEMU_PRODUCT, USAGE, apdu, apdus, atr, has_card, listed, require_error, scard, selected, status)

with check("list names the reader"):
    entry, = listed()
    require(QEMU_PRODUCT in entry["name"], f"name {entry['name']!r}")
    require(QEMU_PRODUCT in scard("list").text("out"), "the list for people lacks it")

with check("status tells whether there is a card"):
    require(has_card(status()[0]), f"card there: {status()}")
    card_remove()
    wait_until(lambda: not has_card(status()[0]), "status without card")
    card_insert()
    wait_until(lambda: has_card(status()[0]), "status with card")

with check("descriptor"):
    text = scard("descriptor").text("out")
    for field in ("bMaxSlotIndex", "dwFeatures", "dwMaxCCIDMessageLength"):
        require(field in text, f"no {field} in {text!r}")
    require("000104FE" in text.upper(), f"wrong dwFeatures in {text!r}")

with check("ATR"):
    require_equal(atr(), PEER_ATR, "ATR")

with check("a reader by index and by part of its name"):
    require_equal(atr("0"), PEER_ATR, "ATR of 0")
    require_equal(atr(QEMU_PRODUCT), PEER_ATR, "ATR by name")

with check("a reader that is not there"):
    require_error(scard("atr", *selected("no such reader"), status=None), NOTHING, "no such reader")

with check("echo"):
    require_equal(apdu("0010000003C0FFEE"), "c0ffee9000", "answer")

with check("a command unknown to the card is no failure"):
    require_equal(apdu("00990000"), "6d00", "answer")

with check("answers of every length up to 256 bytes"):
    lengths = [*range(1, 257, 5), 255, 256]
    commands = [bytes([0, 0x12, n >> 8, n & 0xFF, n & 0xFF]) for n in lengths]
    for length, answer in zip(lengths, apdus(commands, within=180)):
        require_equal(answer, bytes(i & 0xFF for i in range(length)) + b"\x90\x00", f"answer of {length}")

with check("a card that takes three seconds"):
    require_equal(apdu("00140BB8"), "9000", "answer")

with check("what is no hexadecimal is refused"):
    require_error(scard("apdu", "00 1x", status=None), USAGE, "hex")

with check("no card is an error that says so"):
    card_remove()
    require_error(scard("apdu", "00A40000", status=None), NOTHING, "no card")
    card_insert()
    require_equal(apdu("00A40000"), "9000", "answer when it is back")
