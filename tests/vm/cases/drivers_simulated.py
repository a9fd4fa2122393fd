"""pcscd on simulated readers on the machine's USB, once with libccid and once with this driver: what QEMU's reader has not.

Every exchange level, several slots, a PIN pad. What programs see is the same but for what stands in DIFFERENT.
"""
# needs: readers=0 cards=none usb=uhci bins=scard,libifdscard.so limit=600
import json
import pathlib
import re

from lib import (Program, bundle, check, load_vhci, pcscd, pcscd_alone, require, require_equal, teach_libccid,
                 wait_until)
from lib.cli import SimulatedReader
from lib.pcsc import CLIENT, asked

NAME = "Simulated Reader"
DRIVERS = ("libccid", "scard")
ECHO = "0010000003C0FFEE"
SHORT = [ECHO, "00990000", "00A40000023F00", "0012001000", "001200FF00"]
EXTENDED = [ECHO, "001203E80003E8", "0010000000012C" + "a5" * 300]
SESSIONS = {"default": SHORT + EXTENDED, "short": SHORT, "extended": SHORT + EXTENDED, "t0-tpdu": [ECHO, "0012001010"],
            "t1-tpdu": SHORT, "t1-tpdu-crc": SHORT, "t1-tpdu-short": SHORT, "pps": SHORT, "t1-character": SHORT,
            "no-interrupt": SHORT, "three-slots": SHORT, "pinpad-idle": SHORT}

INFO = pathlib.Path("/usr/lib/pcsc/drivers/scard.bundle/Contents/Info.plist")
MAKE = "<string>0x5CA0</string>"  # its idProduct

# {preset: {what: why it differs}}
DIFFERENT = {}

VERIFY_PIN_DIRECT, MODIFY_PIN_DIRECT = "06", "07"


def readers(count):
    return wait_until(lambda: len(found := asked("readers")) == count and found, f"{count} readers")


def sessions(preset, commands):
    """With libccid, then with this driver; on the same device, as its address is one of the attributes."""
    seen = []
    with SimulatedReader(preset) as reader:
        for driver in DRIVERS:
            reader.obey("forget")
            with pcscd(driver):
                found = readers(3 if preset == "three-slots" else 1)
                asked("until", found[0], "present")
                seen.append([flat(entry) for entry in asked("sessions", *commands)])
        reader.require_no_violation()
    return seen


def flat(entry):
    """Each attribute by itself."""
    return {**entry, **{f"attribute {name}": value for name, value in entry.pop("attributes", {}).items()}}


def pin(driver):
    """A PIN verified at the keys, one given up there, one not entered in time: what the programs are told."""
    answers = []
    with SimulatedReader("pinpad-idle") as reader, pcscd(driver):
        name, = readers(1)
        asked("until", name, "present")
        for keys in ("123456", "654321", "cancel", None):
            with Program(*CLIENT, "verify", name, VERIFY_PIN_DIRECT, "5" if keys is None else "30") as program:
                program.expect("^begun")
                wait_until(lambda: any("Secure" in line for line in reader.obey("log")), "the pad waits for the PIN")
                if keys is not None:
                    reader.obey(f"key {keys}")
                    if keys != "cancel":
                        reader.obey("key enter")
                program.wait(status=0)
                answers.append(json.loads(program.lines[-1][1]))
            reader.obey("forget")
    return answers


load_vhci()

with check("a reader of a make never seen before is named when it is plugged in"):
    with bundle():
        require(MAKE not in INFO.read_text(), "it was named before")
        with SimulatedReader("default"):
            wait_until(lambda: MAKE in INFO.read_text(), "udev has the reader named in the bundle")
            with pcscd_alone():
                name, = readers(1)
                asked("until", name, "present")

teach_libccid("1209", "5CA0", NAME)

for preset, commands in SESSIONS.items():
    with check(f"sessions with {preset} are the same"):
        theirs, ours = sessions(preset, commands)
        require_equal(len(ours), len(theirs), "readers")
        for mine, other in zip(ours, theirs):
            found = {key for key in mine | other if mine.get(key) != other.get(key)}
            unknown = found - DIFFERENT.get(preset, {}).keys()
            require(not unknown, "\n".join(f"{key}: {mine.get(key)}, with libccid {other.get(key)}" for key in unknown))

with check("a PIN at the keys ends the same"):
    theirs, ours = (pin(driver) for driver in DRIVERS)
    require_equal(ours, theirs, "answers")
    require_equal(ours[0], "9000", "the right PIN")
