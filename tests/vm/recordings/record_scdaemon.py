"""What GnuPG's scdaemon logs of a reader that it drives itself: a simulated one, T=1 by the host."""
# needs: readers=0 cards=none usb=uhci bins=scard limit=120
import tempfile

from lib import check, load_vhci, require, run, usb_devices, wait_until
from lib.cli import SimulatedReader
from lib.recording import FOLDER

load_vhci()
with check("scdaemon's log"), SimulatedReader("t1-tpdu"), tempfile.TemporaryDirectory() as home:
    wait_until(lambda: usb_devices("1209", "5ca0"), "it is on the USB")
    run("udevadm", "settle")
    FOLDER.mkdir(exist_ok=True)
    log = FOLDER / "scdaemon-t1-tpdu.log"
    run("/usr/lib/gnupg/scdaemon", "--homedir", home, "--server", "--debug-ccid-driver", "--log-file", log,
        feed="SERIALNO\nBYE\n")
    require("RDR_to_PC_DataBlock" in log.read_text(), "no message is in the log")
