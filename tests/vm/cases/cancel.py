"""A command that the card never answers is ended: by its limit, by Ctrl-C, by the card or the reader being taken out.

QEMU's reader knows no Abort: it stalls the request and refuses the message. All must end well nevertheless, and the next
command must receive its own answer.
"""
# needs: readers=1 cards=peer usb=uhci,xhci bins=scard limit=240
from lib import (SOON, card_insert, card_remove, check, reader_plug, reader_unplug, require, require_equal, times_given,
                 wait_for_command, wait_for_usb)
from lib.cli import INTERRUPTED, NOTHING, TIME_LIMIT, apdu, require_error, start_apdu, wait_for_readers

NEVER = "00160000"


class Hanging:
    """A `scard apdu` whose command has reached the card, and will not be answered."""

    def __init__(self, **kwargs):
        self.kwargs = kwargs

    def __enter__(self):
        before = times_given(NEVER)
        self.program = start_apdu(NEVER, **self.kwargs)
        try:
            wait_for_command(NEVER, before=before)
        except Exception:
            self.program.__exit__()
            raise
        return self.program

    def __exit__(self, *_):
        self.program.__exit__()


def require_next_works(number):
    require_equal(apdu(f"001000000301{number:02x}03"), f"01{number:02x}039000", "answer of the next command")


with check("Ctrl-C ends a command and the next one works"):
    for number in range(3):
        with Hanging() as program:
            program.interrupt()
            program.wait(within=SOON, status=INTERRUPTED)
        require_next_works(number)

with check("--timeout ends a command by the limit"):
    with Hanging(timeout=2) as program:
        program.wait(within=SOON)
        require_error(program, TIME_LIMIT, "time limit")
        require(program.seconds >= 2, f"it ended after {program.seconds:.1f} s")
    require_next_works(10)

with check("a card taken out ends its command at once"):
    with Hanging() as program:
        card_remove()
        program.wait(within=SOON)
        require_error(program, NOTHING, "card was removed")
    card_insert()
    require_next_works(20)

with check("a reader unplugged ends its command at once"):
    with Hanging() as program:
        reader_unplug()
        program.wait(within=SOON)
        require_error(program, NOTHING, "gone|removed")  # QEMU takes the card out of a reader that it unplugs
    reader_plug()
    card_insert()
    wait_for_usb(1)
    wait_for_readers(1)
    require_next_works(30)

with check("a process killed in the middle leaves a reader that works"):
    with Hanging() as program:
        program.process.kill()
        program.wait()
    require_next_works(40)
