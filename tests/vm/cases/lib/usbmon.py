"""What goes over the USB of the machine, as the kernel sees it (usbmon's text interface): nobody under test writes it."""
import os
import pathlib
import re

from . import Failed, Program, require, require_equal, wait_until

ALL_BUSES = "/sys/kernel/debug/usb/usbmon/0u"
ABORT_MESSAGE, XFR_BLOCK = 0x72, 0x6F  # bMessageType of PC_to_RDR_Abort and PC_to_RDR_XfrBlock
HEADER = 10


class Wire(Program):
    """A recording that runs. `S` lines are submissions, `C` lines completions; see usbmon's documentation."""

    def __enter__(self):
        folder = pathlib.Path(f"/proc/{self.process.pid}/fd")

        def is_open():
            return any(os.readlink(link) == ALL_BUSES for link in folder.iterdir() if link.is_symlink())
        wait_until(is_open, "usbmon is open")
        return self

    def __init__(self):
        super().__init__("cat", ALL_BUSES)

    def messages(self, kind):
        """(line number, bytes) of the messages of that bMessageType sent so far; the first 32 bytes of each are known."""
        found = []
        for number, line in enumerate(self.text("out").splitlines()):
            match = re.search(r" S Bo:\S+ \S+ \d+ = ([0-9a-f ]+)", line)
            if match and (data := bytes.fromhex(match[1]))[0] == kind:
                found.append((number, data))
        return found

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


def require_abort(wire, slot=0):
    """One Abort sequence has been sent: request, then message, same slot, same fresh sequence number."""
    def both():
        return wire.abort_requests() and wire.messages(ABORT_MESSAGE)
    try:
        wait_until(both, "a whole Abort on the USB", within=5)  # what is recorded comes through a pipe
        requests, messages = wire.abort_requests(), wire.messages(ABORT_MESSAGE)
        require_equal((len(requests), len(messages)), (1, 1), "number of ABORT requests and PC_to_RDR_Abort messages")
        (request_at, *request), (message_at, message) = requests[0], messages[0]
        require_equal(request, list(message[5:7]), "slot and sequence number of request, and of message")
        require_equal(request[0], slot, "slot of the Abort")
        require(request_at < message_at, "the message was sent before the request")
        aborted = [data[6] for at, data in wire.messages(XFR_BLOCK) if at < request_at and data[5] == slot][-1]
        require(request[1] != aborted, f"the Abort has the sequence number of the aborted command, {aborted}")
    except Failed as e:
        shown = [line for line in wire.text("out").splitlines() if re.search(" [SC] (Co|B[io]):", line)]
        raise Failed("\n".join([str(e), *shown])) from None
