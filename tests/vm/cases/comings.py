"""Cards and the reader come and go twenty times while programs run on pcscd with this project's driver.

pcsc_scan, pyscard's monitors, and a program that sends commands all the time. All see it, and go on; pcscd stays, with no
more threads and open files than at first.
"""
# needs: readers=1 cards=peer usb=xhci bins=scard,libifdscard.so limit=600
import contextlib
import os
import pathlib
import time

from lib import (Failed, Program, card_insert, card_remove, check, pcscd, reader_plug, reader_unplug, require, require_equal,
                 wait_until)
from lib.pcsc import CLIENT, MONITOR, asked, reader, require_driver

TIMES = 20
ATR = "3B 65 00 00 41 52 45 4E 41"
CARD_GONE, READER_CAME = "^card -", "^reader [+]"
ECHO, ECHOED = "0010000003C0FFEE", "c0ffee9000"


def held(daemon):
    """How many threads and open files the process has; of readers that are gone, how many are still open.

    In one unplugging of ten or twenty the device and its timer stay open here. By its source, nusb asks no more for ended
    transfers once the kernel has said that the device is gone, and one that has not ended by then keeps the device for
    ever. These do not count among the files.
    """
    process = pathlib.Path(f"/proc/{daemon.process.pid}")
    files = []
    for file in (process / "fd").iterdir():
        with contextlib.suppress(OSError):  # closed while we looked
            files.append(os.readlink(file))
    gone = sum(file.startswith("/dev/bus/usb") and file.endswith("(deleted)") for file in files)
    return len(list((process / "task").iterdir())), len(files) - 2 * gone, gone


def require_held(daemon, wanted, when):
    """Clients' threads end a little after the clients."""
    with contextlib.suppress(Failed):
        wait_until(lambda: held(daemon)[:2] == wanted[:2], when)
    *numbers, gone = held(daemon)
    require_equal(tuple(numbers), wanted[:2], f"threads and open files of pcscd {when}")
    require(gone - wanted[2] < TIMES // 2, f"{gone} readers that are gone are open in pcscd {when}")


class Programs:
    """Those that run all the time."""

    def __init__(self, name, within):
        self.scan = within.enter_context(Program("pcsc_scan", "-n"))
        self.monitor = within.enter_context(Program(*MONITOR))
        self.user = within.enter_context(Program(*CLIENT, "repeat", name, ECHO))

    def see_card(self, *with_it):
        self.scan.expect("Card inserted")
        self.scan.expect(ATR)
        self.monitor.expect_all(f"^card [+] {ATR}", *with_it)
        self.user.expect(f"^answers {ECHOED}$")

    def see_no_card(self):
        self.scan.expect("Card removed")
        self.monitor.expect(CARD_GONE)
        self.user.expect("^gone")

    def see_no_reader(self):
        # pyscard looks for cards and for readers by threads of their own, now and then: one that had not looked would know
        # nothing of a reader that is back already.
        self.scan.expect("first reader")
        self.monitor.expect_all("^reader -", CARD_GONE)
        self.user.expect("^gone")

    def require_well(self):
        for program in (self.scan, self.monitor, self.user):
            require(program.process.poll() is None, f"{program.argv} has ended: {program.text()}")


with pcscd("scard") as daemon:
    with check("programs see the card and the reader"), contextlib.ExitStack() as running:
        name = reader()
        require_driver(daemon)
        alone = held(daemon)
        programs = Programs(name, running)
        programs.see_card(READER_CAME)
        at_first = held(daemon)
        running = running.pop_all()

    with check(f"the card goes and comes {TIMES} times"):
        began = time.monotonic()
        for _ in range(TIMES):
            card_remove()
            programs.see_no_card()
            card_insert()
            programs.see_card()
        programs.require_well()
        print(f"# {time.monotonic() - began:.0f} s")

    with check(f"the reader goes and comes {TIMES} times"):
        began = time.monotonic()
        for _ in range(TIMES):
            reader_unplug()
            programs.see_no_reader()
            reader_plug()
            card_insert()
            programs.see_card(READER_CAME)
        programs.require_well()
        print(f"# {time.monotonic() - began:.0f} s")

    with check("pcscd has no more threads and open files than at first"):
        require_held(daemon, at_first, "with the programs")
        running.close()
        require_held(daemon, alone, "when they have ended")
        require_equal(reader(), name, "the reader")
        entry, = asked("sessions", ECHO)
        require_equal(entry["answers"], [ECHOED], "answers")
        print(f"# {at_first[0]} threads and {at_first[1]} open files, {alone[0]} and {alone[1]} without programs; "
              f"{held(daemon)[2]} readers still open that are gone")
