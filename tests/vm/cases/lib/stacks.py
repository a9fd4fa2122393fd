"""What programs written for PC/SC can run on: pcscd with libccid, pcscd with our driver, our library without pcscd."""
import contextlib
import pathlib
import re

from . import pcscd, require, run
from .pcsc import LIBRARY as WORDS
from .pcsc import asked, reader, require_driver

LIBCCID, DRIVER, LIBRARY = "pcscd with libccid", "pcscd with this driver", "this library"
FOLDER = "/usr/local/lib/scard"  # where `scard install library` puts it


class Stack:
    """One that is there. `name` is what it calls the reader, whose card is ready; `words` come before a program's."""

    def __init__(self, words):
        self.words = words
        self.name = reader(words)

    def run(self, *argv, **kwargs):
        """Runs a program on it, to its end; returns it."""
        return run(*self.words, *argv, **kwargs)

    def asked(self, *words):
        """What the client says of it."""
        return asked(*words, before=self.words)

    def plain(self, text):
        """What a program has said, without what may differ: the reader's name, also cut short, and addresses."""
        text = re.sub(r"^(Slot \d+ \(0x\d+\)): .*$", r"\1: READER", text.replace(self.name, "READER"), flags=re.MULTILINE)
        return re.sub(r"^((?:Data|Profile) object) \d+", r"\1", text, flags=re.MULTILINE)


@contextlib.contextmanager
def stack(which):
    """That one, for as long as the block runs."""
    if which == LIBRARY:
        with library() as words:
            yield Stack(words)
    else:
        with pcscd({LIBCCID: "libccid", DRIVER: "scard"}[which]) as daemon:
            on = Stack([])
            require_driver(daemon, ours=which == DRIVER)
            yield on


@contextlib.contextmanager
def library():
    """Our library for as long as the block runs; the words before those of a program that is to use it."""
    require(not pathlib.Path("/run/pcscd/pcscd.comm").exists(), "pcscd is there")
    run("scard", "install", "library")
    try:
        yield WORDS
    finally:
        run("scard", "uninstall", "library")
