"""An APDU through pcscd on QEMU's reader, with libccid and with this driver by turns: round trip, CPU time, USB time."""
# needs: readers=1 cards=peer usb=uhci,xhci bins=scard,libifdscard.so,pcsc-latency limit=900
import pathlib
import re
import signal
import struct
import tempfile

from lib import Program, check, pcscd
from lib.pcsc import reader

ROUNDS = 11  # short ones: how fast an emulated machine is changes from one second to the next
SAMPLES = 150
LENGTHS = {"5 bytes": 20, "255 bytes": 270}  # and those of the messages on bulk-OUT
BULK = 3  # usbmon's number for such a transfer


def usual(values):
    return sorted(values)[len(values) // 2]


def exchanged(daemon):
    """What the program says of its exchanges."""
    with Program("pcsc-latency", "-", daemon.process.pid, SAMPLES) as program:
        for _ in LENGTHS:
            program.expect("CPU of the daemon")
        return program.text("out")


def measured(driver):
    """{(row, length): microseconds}"""
    with pcscd(driver) as daemon:
        reader()
        text = exchanged(daemon)
        on_the_wire = watched(daemon)
    times = re.findall(r"^SCardTransmit, (\S+ bytes) +\d+ +([\d.]+)", text, re.MULTILINE)
    cpu = re.findall(r"^ +CPU of the daemon +\d+ +([\d.]+)", text, re.MULTILINE)
    found = {("round trip, median", length): float(time) for length, time in times}
    found |= {("CPU of pcscd", length): float(time) for (length, _), time in zip(times, cpu)}
    return found | on_the_wire


def watched(daemon):
    """The same once more while the USB is watched, which takes time of its own: how long answers take there."""
    with tempfile.NamedTemporaryFile() as file:
        with Program("tcpdump", "-i", "usbmon0", "-s", "64", "-w", file.name) as tcpdump:
            tcpdump.expect("listening on", stream="err")
            exchanged(daemon)
            tcpdump.interrupt(signal.SIGINT)
            tcpdump.wait(status=0)
        content = pathlib.Path(file.name).read_bytes()
    answers = {length: [] for length in LENGTHS.values()}
    command = None
    for kind, is_in, length, time in bulk_transfers(content):
        if not is_in and kind == "S":
            command = length, time
        elif is_in and kind == "C" and length and command:
            if command[0] in answers:
                answers[command[0]].append(time - command[1])
            command = None
    return {("on the USB, median", name): usual(answers[length]) for name, length in LENGTHS.items()}


def bulk_transfers(content):
    """(S for submitted or C for completed, whether it is to the host, bytes, microseconds) of each, from tcpdump's file."""
    at = 24
    while at < len(content):
        captured, = struct.unpack_from("<I", content, at + 8)
        kind, transfer, endpoint = struct.unpack_from("<8xcBB", content, at + 16)
        seconds, microseconds, _, length = struct.unpack_from("<16xqiiI", content, at + 16)
        if transfer == BULK:
            yield kind.decode(), bool(endpoint & 0x80), length, seconds * 1000000 + microseconds
        at += 16 + captured


with check("round trips"):
    rounds = [(measured("libccid"), measured("scard")) for _ in range(ROUNDS)]
    for row in ("round trip, median", "on the USB, median", "CPU of pcscd"):
        for length in LENGTHS:
            pairs = [(theirs[row, length], ours[row, length]) for theirs, ours in rounds]
            theirs, ours = map(usual, zip(*pairs))
            ratios = sorted(our / their for their, our in pairs)
            print(f"# {row}, {length}: libccid {theirs:.0f} us, scard {ours:.0f} us, "
                  f"ratio in one round {usual(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
