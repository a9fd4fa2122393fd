"""Recordings for fixtures/: the USB traffic of one conversation, as the kernel sees it (usbmon, by tcpdump)."""
import contextlib
import pathlib
import signal

from . import CASES, Program, card_insert, card_remove, pcscd, run

FOLDER = pathlib.Path("/mnt/recorded")
ALL_BUSES = "usbmon0"

# Who drives the reader: pcscd with one of two drivers, or the program itself, by the library in libpcsclite's place.
HOSTS = ("libccid", "pcscd", "library")
LIBRARY = "/usr/local/lib/scard/libpcsclite.so.1"


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
    environment = [f"PYTHONPATH={CASES}"]
    if host == "library":
        run("scard", "install", "library", "--library", "/usr/local/bin/libscard_pcsclite.so")
        environment.append(f"LD_PRELOAD={LIBRARY}")
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(Program("env", *environment, "python3", "-m", "lib.conversation", kind))
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
