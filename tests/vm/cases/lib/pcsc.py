"""PC/SC clients, of pcscd or of this project's library in its place: programs of their own, so that each starts from
nothing.
"""
import json

from . import CASES, Program, run, wait_until

CLIENT = ["env", f"PYTHONPATH={CASES}", "python3", "-m", "lib.client"]

# What a program is started with that is to use this project's library, once that is installed.
LIBRARY = ["env", "LD_LIBRARY_PATH=/usr/local/lib/scard"]


def asked(*words):
    """What the client says of it."""
    return json.loads(run(*CLIENT, *words, within=120).text("out"))


def reader():
    """The one there is, once pcscd has it and its card is ready."""
    name, = wait_until(lambda: asked("readers"), "pcscd lists the reader")
    asked("until", name, "present")
    return name


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
