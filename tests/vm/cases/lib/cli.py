"""The `scard` command: how it is called and what its output means. All that the cases know of it stands here."""
import json
import re

from . import SECONDS, Failed, Program, require, require_equal, run, vhci_devices, wait_until

# Exit statuses.
USAGE, NOTHING, TIME_LIMIT, INTERRUPTED = 2, 3, 124, 130
QEMU_PRODUCT = "QEMU USB CCID"  # in the name of QEMU's readers
PEER_ATR = "3B6500004152454E41"


def scard(*words, **kwargs):
    """Runs `scard` to its end."""
    return run("scard", *words, **kwargs)


def selected(reader):
    return [] if reader is None else ["--reader", str(reader)]


def listed():
    """What `scard list --json` says of each reader."""
    return json.loads(scard("list", "--json").text("out"))


def wait_for_readers(count):
    """Until as many readers are listed, and can be used; their names."""
    entries = []

    def are_there():
        entries[:] = listed()
        return len(entries) == count and all(entry["usable"] for entry in entries)

    try:
        wait_until(are_there, f"{count} readers that can be used")
    except Failed as e:
        raise Failed(f"{e}; listed: {entries}") from None
    return [entry["name"] for entry in entries]


def status():
    """What `scard status --json` says of each reader."""
    return json.loads(scard("status", "--json").text("out"))


def has_card(entry):
    return "present" in entry["state"]


def atr(reader=None):
    """The ATR in hexadecimal."""
    return json.loads(scard("atr", "--json", *selected(reader)).text("out"))["atr"]


# ---- exchanges -------------------------------------------------------------------------------------------------------

def answers(text):
    """The answers in the output of `scard apdu`: a line of hexadecimal each, all other lines being marked."""
    return [bytes.fromhex(line) for line in text.splitlines() if line[:1] not in ("", " ", ">")]


def apdus(commands, *words, reader=None, within=SECONDS):
    """Sends the commands in one session, through standard input; the answers."""
    feed = "\n".join(command.hex() for command in commands)
    found = answers(scard("apdu", *words, *selected(reader), "-", feed=feed, within=within).text("out"))
    require_equal(len(found), len(commands), "number of answers")
    return found


def apdu(command, reader=None):
    """Sends one command (hexadecimal), in a process of its own; the answer in hexadecimal."""
    found = answers(scard("apdu", *selected(reader), command).text("out"))
    require_equal(len(found), 1, "number of answers")
    return found[0].hex()


def start_apdu(*commands, reader=None, timeout=None):
    """A `scard apdu` that runs."""
    limit = [] if timeout is None else ["--timeout", str(timeout)]
    return Program("scard", "apdu", *selected(reader), *limit, *commands)


def require_error(program, status, pattern):
    """The program has failed with that exit status, and says the reason on standard error."""
    said = program.text("err")
    require_equal(program.process.returncode, status, f"exit status, with {said!r}")
    require(re.search(pattern, said, re.IGNORECASE), f"{said!r} says nothing like {pattern!r}")


# ---- events ----------------------------------------------------------------------------------------------------------

class Watch(Program):
    """A `scard watch --json` that runs. Its first lines tell what is there already."""

    def __init__(self, *words):
        super().__init__("scard", "watch", "--json", *words)

    def event(self, kind, reader="", within=SECONDS):
        """Waits for an event of that kind of a reader whose name has `reader` in it; the event."""
        while True:
            line = self.expect(r"^\{.*\}$", within)[0]
            entry = json.loads(line)
            if entry["event"] == kind and reader in entry["reader"]:
                return entry

    def reader_added(self, **kwargs):
        return self.event("reader-added", **kwargs)

    def reader_removed(self, **kwargs):
        return self.event("reader-removed", **kwargs)

    def card_inserted(self, **kwargs):
        return self.event("card-inserted", **kwargs)

    def card_removed(self, **kwargs):
        return self.event("card-removed", **kwargs)


# ---- readers in software ---------------------------------------------------------------------------------------------

class Attached(Program):
    """A program that keeps a device on the machine's USB for as long as it runs."""

    def __init__(self, *argv):
        super().__init__(*argv)
        try:
            self.expect(r"^ready")
        except Failed:
            self.__exit__()
            raise

    def __exit__(self, *_):
        super().__exit__()
        wait_until(lambda: not vhci_devices(), "the device is gone with its program")


class SimulatedReader(Attached):
    """A reader of `scard sim`. It takes commands on its standard input, and ends each answer by `ok` or `error: ...`."""

    def __init__(self, preset):
        super().__init__("scard", "sim", "--vhci", preset)

    def obey(self, command):
        """Has it do something; the lines it says about it."""
        self.say(command)
        lines = []
        while not re.match("ok$|error: ", line := self.expect("").string):
            lines.append(line)
        require_equal(line, "ok", f"answer to {command!r}")
        return lines

    def insert(self, slot=0):
        self.obey(f"insert {slot}")

    def remove(self, slot=0):
        self.obey(f"remove {slot}")

    def unplug(self):
        self.obey("unplug")

    def plug(self):
        self.obey("plug")

    def require_no_violation(self):
        """The host has broken no rule of the specification so far."""
        require_equal(self.obey("violations"), [], "rules that the host has broken")


class UsbdCcid(Attached):
    """usbd-ccid's reader."""

    def __init__(self, *options):
        super().__init__("usbd-ccid-vhci", *options)

    def unplug(self):
        self.say("unplug 1")
        self.expect("^ok")

    def plug(self):
        self.say("plug 1")
        self.expect("^ok")
