"""PC/SC clients, of pcscd or of this project's library in its place: programs of their own, so that each starts from
nothing.
"""
import json
import pathlib

from . import CASES, Program, require_equal, run, wait_until

PYTHON = ["env", f"PYTHONPATH={CASES}", "python3", "-m"]
CLIENT = [*PYTHON, "lib.client"]
# When the last reader goes between two calls of pyscard's, it takes for names whatever is in its memory, and where that is
# no text, its thread dies: let it be nothing. (What a thread has kept for itself of freed memory comes back as it was.)
MONITOR = ["env", "GLIBC_TUNABLES=glibc.malloc.perturb=255:glibc.malloc.tcache_count=0", *PYTHON, "lib.monitor"]

# What a program is started with that is to use this project's library, once that is installed.
LIBRARY = ["env", "LD_LIBRARY_PATH=/usr/local/lib/scard"]

# Commands for QEMU's card. The last ask for answers of these lengths, none of which fills a packet of 64 bytes: after such
# a one libccid is one answer behind on xhci.
LENGTHS = [1, 2, 16, 51, 53, 54, 115, 117, 200, 254, 255, 256]
COMMANDS = ["0010000003C0FFEE", "00990000", "00A40000023F00", *(f"0012{n:04x}{n & 0xFF:02x}" for n in LENGTHS)]


def asked(*words, before=()):
    """What the client says of it, with these words before its own."""
    return json.loads(run(*before, *CLIENT, *words, within=120).text("out"))


def reader(before=()):
    """The one there is, once it is listed and its card is ready."""
    name, = wait_until(lambda: asked("readers", before=before), "the reader is listed")
    asked("until", name, "present", before=before)
    return name


def require_driver(daemon, ours=True):
    """The pcscd has loaded our driver, or has not: were ours refused, it would take libccid without a word."""
    maps = pathlib.Path(f"/proc/{daemon.process.pid}/maps").read_text()
    require_equal("libifdscard.so" in maps, ours, "this driver in pcscd")


def start_transmit(name, command):
    """A client that sends one command; says `begun`, and at last what came of it and when."""
    return Program(*CLIENT, "transmit", name, command)


class Obedient(Program):
    """A client, without pcscd, that does what it is told, and says what came of it."""

    def __init__(self):
        super().__init__(*LIBRARY, *CLIENT, "obey")
        self.answer()

    def answer(self):
        """What it says next."""
        return json.loads(self.expect("").string)

    def obey(self, line):
        self.say(line)
        return self.answer()
