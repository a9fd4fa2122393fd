"""Programs that use one reader by turns, without pcscd: the command, and programs with libpcsclite's stand-in."""
# needs: readers=1 cards=peer usb=uhci,xhci bins=scard,libscard_pcsclite.so limit=400
import time

from lib import SOON, Program, card_insert, card_remove, check, require, require_equal, run, wait_for_command
from lib.cli import INTERRUPTED, NOTHING, QEMU_PRODUCT, Watch, apdu, atr, listed, require_error, scard, start_apdu
from lib.pcsc import LIBRARY, Obedient

ECHO, ECHOED = "0010000003C0FFEE", "c0ffee9000"
SLOW = "00141770"  # six seconds
DONE, IN_USE = "00000000", "8010000B"

run("scard", "install", "library")


def require_holder(pid, name):
    """The reader is listed as in use, by that process."""
    entry, = listed()
    require(QEMU_PRODUCT in entry["name"] and not entry["usable"], f"it can be used: {entry}")
    require_equal((entry["kind"], entry["holders"]), ("busy", [{"pid": pid, "name": name}]), "who has it")
    refused = scard("apdu", ECHO, status=None)
    require_error(refused, NOTHING, rf"{QEMU_PRODUCT}.* cannot be used: in use by {name} \(process {pid}\)")


with check("a reader in use is listed, with who has it, and a command is refused with that"):
    with start_apdu(SLOW) as program:
        wait_for_command(SLOW)
        require_holder(program.process.pid, "scard")
        program.wait(status=0)
    require_equal(apdu(ECHO), ECHOED, "answer afterwards")

with check("a program that keeps its context lets the reader go between two connections"):
    with Obedient() as client:
        for _ in range(5):
            require_equal([client.obey(word) for word in ("connect", ECHO, "disconnect")], [DONE, ECHOED, DONE], "client")
            started = time.monotonic()
            require_equal(apdu(ECHO), ECHOED, "answer to the command")
            print(f"# {1000 * (time.monotonic() - started):.0f} ms for the command that wanted it, its start included")

with check("a program with a connection holds the reader, and says so until it disconnects"):
    with Obedient() as client, Obedient() as other:
        require_equal(client.obey("connect"), DONE, "connect")
        require_holder(client.process.pid, "python3")
        require_equal(other.obey("connect"), IN_USE, "connect of another")
        require_equal(client.obey(ECHO), ECHOED, "answer")
        require_equal(client.obey("disconnect"), DONE, "disconnect")
        require_equal([other.obey(word) for word in ("connect", ECHO, "disconnect")], [DONE, ECHOED, DONE], "the other")

with check("watching waits until the reader is free, and sees its card"):
    with Obedient() as client:
        require_equal(client.obey("connect"), DONE, "connect")
        with Watch() as watch:
            watch.reader_added(reader=QEMU_PRODUCT)
            entry = watch.event("reader-unusable")
            require_equal(entry["holders"][0]["pid"], client.process.pid, "who has it")
            require_equal(client.obey("disconnect"), DONE, "disconnect")
            watch.event("reader-free", reader=QEMU_PRODUCT)
            watch.card_inserted(reader=QEMU_PRODUCT)
            # Now it is the one that holds it.
            require_equal(client.obey("connect"), IN_USE, "connect while it is watched")
            card_remove()
            watch.card_removed()
            card_insert()
            watch.card_inserted()
            watch.interrupt()
            watch.wait(within=SOON, status=INTERRUPTED)
        require_equal([client.obey(word) for word in ("connect", ECHO)], [DONE, ECHOED], "client afterwards")

with check("pcsc_scan shows that the state is not available, then the card"):
    with Obedient() as client:
        require_equal(client.obey("connect"), DONE, "connect")
        with Program(*LIBRARY, "pcsc_scan", "-n") as scan:
            scan.expect("Status unavailable")
            require_equal(client.obey("disconnect"), DONE, "disconnect")
            scan.expect("ATR: 3B 65 00 00 41 52 45 4E 41")

with check("a program that is killed frees the reader at once"):
    with Watch() as watch:
        watch.card_inserted()
        watch.process.kill()
        watch.process.wait()
        require_equal(apdu(ECHO), ECHOED, "answer after a watching program")
    with Obedient() as client:
        require_equal([client.obey(word) for word in ("connect", ECHO)], [DONE, ECHOED], "client")
        client.process.kill()
        client.process.wait()
        require_equal(atr(), "3B6500004152454E41", "ATR after a connected program")
    with Watch() as watch, Obedient() as client:
        watch.card_inserted()
        require_equal(client.obey("connect"), IN_USE, "connect while it is watched")
        client.say("present")
        watch.process.kill()
        require_equal(client.answer(), [["present"], "3b6500004152454e41"], "state that was waited for")

run("scard", "uninstall", "library")
