"""What goes over the USB of the machine, as the kernel sees it (usbmon's text interface): nobody under test writes it."""
import itertools
import os
import pathlib
import re

from . import Failed, Program, require, require_equal, wait_until

ALL_BUSES = "/sys/kernel/debug/usb/usbmon/0u"
ABORT_MESSAGE, XFR_BLOCK = 0x72, 0x6F  # bMessageType of PC_to_RDR_Abort and PC_to_RDR_XfrBlock
HEADER = 10


class Wire(Program):
    """A recording that runs. `S` lines are submissions, `C` lines completions; see usbmon's documentation."""

    def __init__(self):
        super().__init__("cat", ALL_BUSES)

    def __enter__(self):
        wait_until(self.is_open, "usbmon is open")
        return self

    def is_open(self):
        try:
            return any(os.readlink(link) == ALL_BUSES for link in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir())
        except OSError:
            return False  # one was closed while we looked

    def messages(self, kind):
        """(line number, bytes) of the messages of that bMessageType sent so far; the first 32 bytes of each are known."""
        found = []
        for number, line in enumerate(self.text("out").splitlines()):
            match = re.search(r" S Bo:\S+ \S+ \d+ = ([0-9a-f ]+)", line)
            if match and (data := bytes.fromhex(match[1]))[0] == kind:
                found.append((number, data))
        return found

    def milliseconds_from(self, pattern, moment):
        """From the first line that matches to a moment of time.monotonic(), whoever had it."""
        wait_until(lambda: re.search(pattern, self.text("out"), re.MULTILINE), f"{pattern} on the USB")
        line = next(line for line in self.text("out").splitlines() if re.search(pattern, line))
        # usbmon tells microseconds, up to 4096 seconds.
        told = int(line.split()[1]) / 1e6
        passed = moment - told
        return ((passed + 2048) % 4096 - 2048) * 1000

    def wait_for_command(self, command):
        """Waits until the host has sent this APDU (hexadecimal, short) in a PC_to_RDR_XfrBlock, in whatever wrapping."""
        wanted = bytes.fromhex(command)
        wait_until(lambda: any(wanted in data[HEADER:] for _, data in self.messages(XFR_BLOCK)), f"{command} is sent")

    def abort_requests(self):
        """(line number, bSlot, bSeq) of the ABORT requests so far."""
        found = []
        for number, line in enumerate(self.text("out").splitlines()):
            match = re.search(r" S Co:\S+ s 21 01 ([0-9a-f]{2})([0-9a-f]{2}) ", line)
            if match:
                found.append((number, int(match[2], 16), int(match[1], 16)))
        return found


def require_abort(wire, command, slot=0):
    """The command (hexadecimal) was aborted: by a request and then a message of the same slot and fresh sequence number.

    There may be more Aborts later, of the driver's own exchanges to bring the reader back in step; each is whole.
    """
    try:
        # What is seen comes through a pipe.
        wait_until(lambda: 0 < len(wire.abort_requests()) <= len(wire.messages(ABORT_MESSAGE)), "whole Aborts on the USB")
        commands, requests, messages = wire.messages(XFR_BLOCK), wire.abort_requests(), wire.messages(ABORT_MESSAGE)
        wanted = bytes.fromhex(command)
        sent_at, aborted = next((at, data) for at, data in commands if data[5] == slot and wanted in data[HEADER:])
        for (request_at, *request), (message_at, message) in itertools.zip_longest(requests, messages, fillvalue=(0, None)):
            require(message, f"an ABORT request without its message: {request}")
            require_equal(request, list(message[5:7]), "slot and sequence number of request, and of message")
            require_equal(request[0], slot, "slot of the Abort")
            require(request_at < message_at, "the message was sent before the request")
        (first_at, _, first_sequence), *_ = requests
        require(sent_at < first_at, "the Abort was sent before the command")
        require(first_sequence != aborted[6], f"the Abort has the sequence number of the aborted command, {aborted[6]}")
    except Failed as e:
        shown = [line for line in wire.text("out").splitlines() if re.search(" [SC] (Co|B[io]):", line)]
        raise Failed("\n".join([str(e), *shown])) from None
