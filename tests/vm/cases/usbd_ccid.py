"""A reader that others wrote, in software on the machine's USB: usbd-ccid, a firmware's CCID class, with Abort."""
# needs: readers=0 cards=none usb=uhci bins=scard,usbd-ccid-vhci limit=240
from lib import SOON, check, load_vhci, require_equal
from lib.cli import INTERRUPTED, NOTHING, UsbdCcid, apdu, apdus, require_error, start_apdu, wait_for_readers
from lib.usbmon import Wire, require_abort

NEVER = "00160000"
ECHO = "0010000002CAFE"


def usbd_ccid():
    reader = UsbdCcid()
    wait_for_readers(1)
    return reader


load_vhci()

with check("its card answers, long answers too"):
    with usbd_ccid():
        require_equal(apdu(ECHO), "cafe9000", "answer")
        for length, answer in zip((1, 54, 255, 256, 2000), apdus(
                [bytes([0, 0x12, n >> 8, n & 0xFF, 0, n >> 8, n & 0xFF]) for n in (1, 54, 255, 256, 2000)])):
            require_equal(answer, bytes(i & 0xFF for i in range(length)) + b"\x90\x00", f"answer of {length}")

with check("a card that takes five seconds, with time extensions"):
    with usbd_ccid():
        require_equal(apdu("00141388"), "9000", "answer")

with check("Ctrl-C aborts the running command, and the device sees the whole Abort"):
    with usbd_ccid() as reader:
        with Wire() as wire, start_apdu(NEVER) as program:
            wire.wait_for_command(NEVER)
            program.interrupt()
            program.wait(within=SOON, status=INTERRUPTED)
            require_abort(wire, NEVER)
        require_equal(apdu(ECHO), "cafe9000", "answer afterwards")

with check("unplugged in the middle of a command"):
    with usbd_ccid() as reader:
        with Wire() as wire, start_apdu(NEVER) as program:
            wire.wait_for_command(NEVER)
            reader.unplug()
            program.wait(within=SOON)
            require_error(program, NOTHING, "gone")
        wait_for_readers(0)
        reader.plug()
        wait_for_readers(1)
        require_equal(apdu(ECHO), "cafe9000", "answer afterwards")
