"""Recordings for fixtures/: the USB traffic of one conversation, as the kernel sees it (usbmon, by tcpdump)."""
import contextlib
import pathlib
import signal

from . import Program, card_insert, card_remove, pcscd
from .pcsc import PYTHON
from .stacks import library

FOLDER = pathlib.Path("/mnt/recorded")
ALL_BUSES = "usbmon0"

# Who drives the reader: pcscd with one of two drivers, or the program itself, by the library in libpcsclite's place.
HOSTS = ("libccid", "pcscd", "library")


@contextlib.contextmanager
def recorded(name):
    """What goes over the machine's USB while the block runs; a device's enumeration too, if it is plugged in there."""
    FOLDER.mkdir(exist_ok=True)
    with Program("tcpdump", "-i", ALL_BUSES, "-U", "-Z", "root", "-w", FOLDER / f"{name}.pcap") as tcpdump:
        tcpdump.expect("listening on", stream="err")
        yield
        tcpdump.interrupt(signal.SIGINT)
        tcpdump.wait(status=0)


def converse(host, kind):
    """Has the conversation of lib.conversation, by that host; its answers by command."""
    with contextlib.ExitStack() as stack:
        words = stack.enter_context(library()) if host == "library" else []
        program = stack.enter_context(Program(*words, *PYTHON, "lib.conversation", kind))
        program.expect("^ready")
        # Not earlier: pcscd powers a card off that nobody uses for five seconds.
        if host != "library":
            stack.enter_context(pcscd("scard" if host == "pcscd" else host))
        program.say("go")
        answers = {}
        while (words := program.expect("").string.split()) != ["end"]:
            match words:
                case ["remove"]:
                    card_remove()
                case ["insert"]:
                    card_insert()
                case [command, answer]:
                    answers[command] = answer
        program.wait(status=0)
    return answers
