"""The virtual machine itself, without anything of ours: where this fails, look here first.

Another stack (pcscd with libccid) finds the readers and the cards in them, and cards and readers come and go on demand.
"""
# needs: readers=3 cards=peer usb=uhci,xhci
from lib import (Program, arenactl, card_insert, card_remove, check, pcscd, reader_plug, reader_unplug, require,
                 require_equal, run, usb_devices, wait_for_usb)

with check("three readers on the USB"):
    require_equal(len(usb_devices("08e6", "4433")), 3, "readers")

with check("a reader unplugged is gone, and back when plugged in"):
    reader_unplug(1)
    wait_for_usb(2)
    reader_plug(1)
    card_insert(1)
    wait_for_usb(3)

with check("libccid reads the card in each reader"):
    with pcscd():
        listed = run("opensc-tool", "--list-readers", status=None)
        while listed.text("out").count("433-Swap") < 3:  # pcscd looks for readers in the background
            require(listed.seconds < 60, listed.text())
            listed = run("opensc-tool", "--list-readers", status=None)
        for number in range(3):
            answer = run("opensc-tool", "--reader", str(number), "--atr")
            require_equal(answer.text("out").strip(), "3b:65:00:00:41:52:45:4e:41", "ATR")

with check("a card out and in again"):
    with pcscd(), Program("pcsc_scan", "-n") as scan:
        scan.expect("Card inserted")
        card_remove(0)
        scan.expect("Card removed")
        card_insert(0)
        scan.expect("Card inserted")

with check("the monitor of QEMU answers"):
    require("running" in arenactl("qmp", '{"execute": "query-status"}'), "not running")
