"""The driver in pcscd with simulated readers on the machine's USB: a make that no bundle names, Abort, slots, ICCD."""
# needs: readers=0 cards=none usb=uhci bins=scard,libifdscard.so limit=240
import contextlib
import json

from lib import SOON, check, cli, load_vhci, pcscd, require, require_equal, wait_until
from lib.pcsc import asked, reader, start_transmit

NEVER = "00160000"
ECHO, ECHOED = "0010000002CAFE", "cafe9000"
load_vhci()


@contextlib.contextmanager
def in_pcscd(preset):
    """The simulated reader, once pcscd has it: the bundle names what is plugged in when it is installed."""
    with cli.SimulatedReader(preset) as device:
        cli.wait_for_readers(1 if preset != "three-slots" else 3)
        with pcscd("scard"):
            yield device
        device.require_no_violation()


with check("a reader never seen before is named when the bundle is installed"):
    with in_pcscd("default"):
        reader()
        entry, = asked("sessions", ECHO)
        require_equal(entry["answers"], [ECHOED], "answers")

with check("a command that hangs is aborted by the attribute"):
    with in_pcscd("default") as device:
        name = reader()
        device.obey("forget")
        with start_transmit(name, NEVER) as program:
            wait_until(lambda: any("XfrBlock" in line and "00 16" in line for line in device.obey("log")), "it hangs")
            asked("cancel", name)
            program.wait(within=SOON, status=0)
            require_equal(json.loads(program.lines[-1][1])[0], "80100016", "what the transmit ended with")
        require(any("Abort" in line for line in device.obey("log")), "no Abort")
        entry, = asked("sessions", ECHO)
        require_equal(entry["answers"], [ECHOED], "answers afterwards")

with check("three slots are three readers"):
    with in_pcscd("three-slots") as device:
        wait_until(lambda: len(asked("readers")) == 3, "three readers")
        names = asked("readers")
        asked("until", names[1], "present")
        entries = asked("sessions", "0012000202")
        require_equal([entry.get("answers") for entry in entries], [["00019000"], ["00019000"], None], "answers")
        device.insert(2)
        asked("until", names[2], "present")

with check("a chip with a plug of its own"):
    with in_pcscd("iccd-b"):
        reader()
        entry, = asked("sessions", ECHO)
        require_equal(entry["answers"], [ECHOED], "answers")
