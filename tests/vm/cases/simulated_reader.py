"""The simulated reader on the machine's USB: Abort as the specification has it, several slots, unplugging."""
# needs: readers=0 cards=none usb=uhci bins=scard limit=240
from lib import SOON, check, load_vhci, require, require_equal
from lib.cli import (INTERRUPTED, NOTHING, SimulatedReader, Watch, apdu, has_card, require_error, start_apdu, status,
                     wait_for_readers)
from lib.usbmon import Wire, require_abort

NEVER = "00160000"
ECHO = "0010000002CAFE"
load_vhci()

with check("it is listed and its card answers"):
    with SimulatedReader("default") as reader:
        wait_for_readers(1)
        require_equal(apdu(ECHO), "cafe9000", "answer")
        reader.require_no_violation()

with check("Ctrl-C aborts the running command, and the device sees the whole Abort"):
    with SimulatedReader("default") as reader:
        wait_for_readers(1)
        with Wire() as wire, start_apdu(NEVER) as program:
            wire.wait_for_command(NEVER)
            program.interrupt()
            program.wait(within=SOON, status=INTERRUPTED)
            require_abort(wire, NEVER)
        require_equal(apdu(ECHO), "cafe9000", "answer afterwards")
        reader.require_no_violation()

with check("unplugged in the middle of a command"):
    with SimulatedReader("default") as reader:
        wait_for_readers(1)
        with Wire() as wire, start_apdu(NEVER) as program:
            wire.wait_for_command(NEVER)
            reader.unplug()
            program.wait(within=SOON)
            require_error(program, NOTHING, "gone")
        wait_for_readers(0)
        reader.plug()
        wait_for_readers(1)
        require_equal(apdu(ECHO), "cafe9000", "answer afterwards")
        reader.require_no_violation()

with check("three slots, each with its own card and events"):
    with SimulatedReader("three-slots") as reader:
        slots = wait_for_readers(3)
        require_equal([has_card(entry) for entry in status()], [True, True, False], "cards")
        with Watch() as watch:
            for _ in range(2):
                watch.card_inserted()
            reader.insert(2)
            require_equal(watch.card_inserted()["reader"], slots[2], "slot")
            for number, name in enumerate(slots):
                reader.remove(number)
                require_equal(watch.card_removed()["reader"], name, "slot")
                reader.insert(number)
                require_equal(watch.card_inserted()["reader"], name, "slot")
        reader.require_no_violation()

with check("a command on one slot is aborted and the others go on"):
    with SimulatedReader("three-slots") as reader:
        slots = wait_for_readers(3)
        with Wire() as wire, start_apdu(NEVER, reader=slots[1]) as program:
            wire.wait_for_command(NEVER)
            require(program.process.poll() is None, "it has ended by itself")
            program.interrupt()
            program.wait(within=SOON, status=INTERRUPTED)
            require_abort(wire, NEVER, slot=1)
        for name in slots[:2]:
            require_equal(apdu(ECHO, reader=name), "cafe9000", f"answer of {name}")
        reader.require_no_violation()
