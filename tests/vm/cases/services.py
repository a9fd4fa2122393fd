"""pcscd as Debian starts it, by its socket: a reader of a make never seen before is plugged in, and used.

The udev rule of the bundle has the make named in it and pcscd started anew, all as services of systemd.
"""
# needs: readers=0 cards=none usb=uhci init=systemd bins=scard,libifdscard.so limit=300
import contextlib
import pathlib

from lib import Program, bundle, check, load_vhci, require, require_equal, run, wait_until
from lib.cli import SimulatedReader
from lib.pcsc import asked, reader

ECHO, ECHOED = "0010000003C0FFEE", "c0ffee9000"


def main_process():
    """pcscd's, if it runs: it ends when it has had no program for a minute."""
    return run("systemctl", "show", "--property", "MainPID", "--value", "pcscd.service").text("out").strip()


def require_answers():
    """Programs reach the reader's card, by this driver."""
    name = reader()
    entry, = asked("sessions", ECHO)
    require_equal((entry["reader"], entry["answers"]), (name, [ECHOED]), "reader and answers")
    maps = pathlib.Path(f"/proc/{main_process()}/maps").read_text()
    require("libifdscard.so" in maps, "pcscd has no driver of ours")


load_vhci()
with contextlib.ExitStack() as until_the_end:
    with check("a make never seen before is named, and pcscd started anew, when it is plugged in"):
        until_the_end.enter_context(bundle())
        scan = until_the_end.enter_context(Program("pcsc_scan", "-n"))
        scan.expect("first reader")
        before = main_process()
        require(before != "0", "pcscd does not run")
        device = until_the_end.enter_context(SimulatedReader("default"))
        wait_until(lambda: main_process() not in (before, "0"), "pcscd is started anew")
        require_answers()

    with check("plugged in again, it is there at once"):
        before = main_process()
        device.unplug()
        wait_until(lambda: not asked("readers"), "the reader is gone")
        device.plug()
        require_answers()
        require_equal(main_process(), before, "pcscd's process")
        device.require_no_violation()
