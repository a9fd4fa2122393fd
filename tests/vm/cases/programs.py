"""Programs on this project's library in libpcsclite's place, on a real reader and without pcscd: as they are on pcscd."""
# needs: readers=1 cards=peer usb=xhci bins=scard,libifdscard.so,libscard_pcsclite.so,pcsc_crate,java limit=500
from lib import (Program, card_insert, card_remove, check, reader_plug, reader_unplug, require, require_equal)
from lib.pcsc import COMMANDS, LENGTHS, MONITOR
from lib.stacks import DRIVER, LIBCCID, LIBRARY, stack

ATR = "3B 65 00 00 41 52 45 4E 41"
JAVA_ATR = ATR.replace(" ", "").lower()
JAVA = ["/usr/local/bin/java/bin/java", "-cp", "/usr/local/bin/java", "Session"]
# What a reader is called, and what its driver is, is each stack's own.
OWN = {"reader", "attributes", "features"}


def java(on):
    """What Java says on it."""
    program = on.run(*JAVA, *COMMANDS, within=240)
    print(f"# Java took {program.seconds:.1f} s", flush=True)
    name, protocol, atr, *answers = program.text("out").splitlines()
    require_equal((name, protocol, atr), (on.name, "T=0", JAVA_ATR), "reader and card")
    return answers


def transcript(on):
    """What programs say on it."""
    said = [on.plain(on.run("opensc-tool", *words).text("out")) for words in (
        ["--list-readers"], ["--atr"], ["--send-apdu", COMMANDS[0], "--send-apdu", COMMANDS[1]])]
    said.append(on.run("scriptor", feed="\n".join(COMMANDS[:5])).text("out"))
    session, = on.asked("sessions", *COMMANDS)
    require_equal([len(answer) // 2 - 2 for answer in session["answers"][3:]], LENGTHS, "lengths of the answers")
    require_equal(java(on), session["answers"], "answers in Java")
    said.append({key: value for key, value in session.items() if key not in OWN})
    with Program(*on.words, "pcsc_scan", "-n") as scan:
        said.append(scan.expect("ATR: .*")[0])
    require(ATR in said[-1], said[-1])
    return said


said = {}
for which in (LIBCCID, DRIVER, LIBRARY):
    with check(f"scriptor, opensc-tool, pcsc_scan, pyscard, Java on {which}"):
        with stack(which) as on:
            said[which] = transcript(on)

with check("they say the same on all"):
    for which in (DRIVER, LIBRARY):
        for seen, wanted in zip(said[which], said[LIBCCID], strict=True):
            require_equal(seen, wanted, f"on {which}")

with check("a program with the pcsc crate"):
    with stack(LIBRARY) as on:
        require("1 passed" in on.run("pcsc_crate", "--exact", "session", "--ignored").text("out"), "no session")

with check("pyscard's monitors see the card and the reader come and go"):
    with stack(LIBRARY) as on, Program(*on.words, *MONITOR) as monitor:
        # pyscard looks for cards and for readers by threads of their own: either may be the first to see a change.
        came = "^reader [+] QEMU", f"^card [+] {ATR}"
        monitor.expect_all(*came)
        for _ in range(3):
            card_remove()
            monitor.expect("^card -")
            card_insert()
            monitor.expect(came[1])
        for _ in range(3):
            reader_unplug()
            monitor.expect_all("^reader -", "^card -")
            reader_plug()
            card_insert()
            monitor.expect_all(*came)
        monitor.wait(status=0)

for which in (DRIVER, LIBRARY):
    with check(f"Java sees the card come and go on {which}"):
        words = ["absent", "present", COMMANDS[0]]
        with stack(which) as on, Program(*on.words, *JAVA, *words, *words) as program:
            program.expect(JAVA_ATR, within=120)
            for _ in range(2):
                card_remove()
                program.expect("^absent")
                card_insert()
                program.expect("^c0ffee9000")
            program.wait(status=0)

with check("pcsc_scan sees the card and the reader come and go"):
    with stack(LIBRARY) as on, Program(*on.words, "pcsc_scan", "-n") as scan:
        scan.expect("Card inserted")
        card_remove()
        scan.expect("Card removed")
        card_insert()
        scan.expect("Card inserted")
        reader_unplug()
        scan.expect("first reader")
        reader_plug()
        card_insert()
        scan.expect("Card inserted")
        scan.expect(ATR)
