"""pcscd's clients: programs of their own, so that each starts from nothing."""
import json

from . import CASES, Program, run, wait_until

CLIENT = ["env", f"PYTHONPATH={CASES}", "python3", "-m", "lib.client"]


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
