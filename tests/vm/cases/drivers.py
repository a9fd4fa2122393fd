"""pcscd on QEMU's reader, once with libccid and once with this project's driver: what programs see is the same."""
# needs: readers=1 cards=peer usb=uhci,xhci bins=scard,libifdscard.so limit=500
import json

from lib import (SOON, card_insert, card_remove, check, pcscd, Program, reader_plug, reader_unplug, require, require_equal, run,
                 times_given, wait_for_command, wait_for_usb, wait_until)
from lib.pcsc import COMMANDS, LENGTHS, asked, reader, require_driver, start_transmit
from lib.usbmon import Wire

NEVER = "00160000"
DRIVERS = ("libccid", "scard")


def seen_with(driver):
    with pcscd(driver):
        reader()
        entry, = asked("sessions", *COMMANDS)
        return entry


with check("the bundle is taken, and its driver is ours"):
    with pcscd("scard") as daemon:
        reader()
        require_driver(daemon)

with check("sessions are the same"):
    seen = {driver: seen_with(driver) for driver in DRIVERS}
    for key in seen["libccid"]:
        require_equal(seen["scard"][key], seen["libccid"][key], key)
    require_equal([len(answer) // 2 - 2 for answer in seen["scard"]["answers"][3:]], LENGTHS, "lengths of the answers")

with check("answers that fill a packet are right, a hundred times"):
    with pcscd("scard"):
        reader()
        echoes = [f"0010000034{n:02x}" + "5a" * 51 for n in range(100)]
        entry, = asked("sessions", *echoes)
        require_equal(entry["answers"], [echo[10:] + "9000" for echo in echoes], "answers")

with check("a card out and in is seen"):
    with pcscd("scard"):
        name = reader()
        for _ in range(3):
            card_remove()
            words, atr = asked("until", name, "empty")
            require_equal((words, atr), (["empty"], ""), "state without card")
            card_insert()
            words, atr = asked("until", name, "present")
            require_equal((words, atr), (["present"], "3b6500004152454e41"), "state with card")

with check("a card taken out ends its command at once"):
    with pcscd("scard"):
        name = reader()
        with Wire() as wire, start_transmit(name, NEVER) as program:
            program.expect("^begun")
            wait_for_command(NEVER)
            card_remove()
            program.wait(within=SOON, status=0)
            answer, ended = json.loads(program.lines[-1][1])
            require_equal(answer, "8010000C", "what the transmit ended with")
            # RDR_to_PC_NotifySlotChange: slot 0 is empty, and that has changed.
            took = wire.milliseconds_from(r" C Ii:\S+ 0\S* 2 = 5002", ended)
            print(f"# {took:.0f} ms from the reader's word that the card is out to the command's end")
        card_insert()

with check("a reader unplugged ends its command at once, and comes back"):
    with pcscd("scard"):
        name = reader()
        with Wire() as wire, start_transmit(name, NEVER) as program:
            program.expect("^begun")
            wait_for_command(NEVER)
            reader_unplug()
            program.wait(within=SOON, status=0)
            answer, ended = json.loads(program.lines[-1][1])
            require_equal(answer, "8010000C", "what the transmit ended with")
            took = wire.milliseconds_from(r" C [IB]i:\S+ -\d+", ended)
            print(f"# {took:.0f} ms from the first transfer that fails to the end of the command")
        wait_until(lambda: not asked("readers"), "pcscd has let go of the reader")
        reader_plug()
        card_insert()
        wait_for_usb(1)
        require_equal(reader(), name, "name afterwards")

with check("a command that hangs is cancelled by the attribute"):
    with pcscd("scard"):
        name = reader()
        before = times_given(NEVER)
        with start_transmit(name, NEVER) as program:
            wait_for_command(NEVER, before=before)
            asked("cancel", name)
            program.wait(within=20, status=0)
            require_equal(json.loads(program.lines[-1][1])[0], "80100016", "what the transmit ended with")
    # QEMU's reader knows no Abort, and keeps the command among those to be answered until it is reset.
    reader_unplug()
    wait_for_usb(0)
    reader_plug()
    card_insert()
    wait_for_usb(1)

with check("pcsc_scan and opensc-tool see what they see with libccid"):
    seen = []
    for driver in DRIVERS:
        with pcscd(driver):
            name = reader()
            listing = run("opensc-tool", "--list-readers").text("out")
            answer = run("opensc-tool", "--send-apdu", "0010000003C0FFEE", "--send-apdu", "0012000300").text("out")
            with Program("pcsc_scan", "-n") as scan:
                scan.expect("ATR: 3B 65 00 00 41 52 45 4E 41")
            seen.append((name, listing, answer))
    require_equal(seen[1], seen[0], "with this driver")
