"""Where no udev runs, as in a container, readers are still seen to come and go: the list is looked at once a second."""
# needs: readers=1 cards=peer usb=uhci,xhci bins=scard
import os

from lib import card_insert, check, reader_plug, reader_unplug, require_equal, run, wait_until
from lib.cli import PEER_ATR, QEMU_PRODUCT, Watch, atr

CONTROL = "/run/udev/control"

run("udevadm", "control", "--exit")
wait_until(lambda: run("pgrep", "-x", "systemd-udevd", status=None).process.returncode == 1, "udev has ended")
os.unlink(CONTROL)  # it leaves its socket behind
try:
    with check("the reader goes and comes without udev"):
        with Watch() as watch:
            watch.card_inserted(reader=QEMU_PRODUCT)
            for _ in range(2):
                reader_unplug()
                watch.reader_removed(reader=QEMU_PRODUCT)
                reader_plug()
                watch.reader_added(reader=QEMU_PRODUCT)
                card_insert()
                watch.card_inserted(reader=QEMU_PRODUCT)
        require_equal(atr(), PEER_ATR, "ATR afterwards")
finally:
    run("/lib/systemd/systemd-udevd", "--daemon")
