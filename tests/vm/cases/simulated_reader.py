"""The simulated reader on the machine's USB: Abort as the specification has it, several slots, unplugging."""
# needs: readers=0 cards=none usb=uhci bins=scard limit=240
from lib import check, load_vhci, require, require_equal
from lib.cli import (INTERRUPTED, Watch, apdu, has_card, names, require_abort, require_error, simulated, start_apdu, status,
                     wait_for_readers)

NEVER = "00160000"
ECHO = "0010000002CAFE"
load_vhci()

with check("it is listed and its card answers"):
    with simulated("plain") as reader:
        wait_for_readers(1)
        require_equal(apdu(ECHO), "cafe9000", "answer")

with check("Ctrl-C aborts the running command, and the device sees the whole Abort"):
    with simulated("plain") as reader:
        wait_for_readers(1)
        with start_apdu(NEVER) as program:
            reader.wait_for_entry("XfrBlock")
            program.interrupt()
            program.wait(within=3, status=INTERRUPTED)
        require_abort(reader.log())
        require_equal(apdu(ECHO), "cafe9000", "answer afterwards")

with check("unplugged in the middle of a command"):
    with simulated("plain") as reader:
        wait_for_readers(1)
        with start_apdu(NEVER) as program:
            reader.wait_for_entry("XfrBlock")
            reader.unplug()
            program.wait(within=5)
            require_error(program, "removed|unplugged|gone|unavailable")
        wait_for_readers(0)
        reader.plug()
        wait_for_readers(1)
        require_equal(apdu(ECHO), "cafe9000", "answer afterwards")

with check("three slots, each with its own card and events"):
    with simulated("three-slots") as reader:
        slots = wait_for_readers(3)
        require_equal([has_card(entry) for entry in status()], [True] * 3, "cards")
        with Watch() as watch:
            for _ in slots:
                watch.card_inserted()
            for number, name in enumerate(slots):
                reader.remove(number)
                require_equal(watch.card_removed()["reader"], name, "slot")
                reader.insert(number)
                require_equal(watch.card_inserted()["reader"], name, "slot")

with check("a command on one slot is aborted and the others go on"):
    with simulated("three-slots") as reader:
        slots = wait_for_readers(3)
        with start_apdu(NEVER, reader=slots[1]) as program:
            reader.wait_for_entry("XfrBlock")
            require(program.process.poll() is None, "it has ended by itself")
            program.interrupt()
            program.wait(within=3, status=INTERRUPTED)
        require_abort(reader.log(), slot=1)
        for name in names():
            require_equal(apdu(ECHO, reader=name), "cafe9000", f"answer of {name}")
