"""A C program on QEMU's reader: with this project's libpcsclite, and with pcscd, libpcsclite and libccid, by turns."""
# needs: readers=1 cards=peer usb=uhci,xhci bins=scard,libscard_pcsclite.so,pcsc-latency limit=900
import contextlib
import os
import pathlib
import re
import select
import socket
import subprocess
import tempfile

from lib import Program, check, pcscd, run
from lib.pcsc import reader

ROUNDS = 3
SAMPLES = 300
FIRST = 9
COMM = "/run/pcscd/pcscd.comm"
RANDOM_ADDRESSES = pathlib.Path("/proc/sys/kernel/randomize_va_space")


def rows(text):
    """{what is measured: microseconds or KiB}, from the program's lines."""
    found, length = {}, None
    for line in text.splitlines():
        what, figures = line[:44].strip(), re.findall(r"[\d.]+", line[44:])
        if what == "us" or not figures:
            continue
        if what.startswith("SCardTransmit"):
            length = what.partition(", ")[2]
        elif what.startswith("CPU"):
            found[f"CPU, {length}"] = found.get(f"CPU, {length}", 0) + float(figures[1])  # program and daemon
            continue
        found[what] = float(figures[1] if len(figures) > 1 else figures[0])
    return found


def usual(values):
    return sorted(values)[len(values) // 2]


def first(*program):
    """Microseconds from a program's start to its end, behind its first answer; the usual of some."""
    return rows(run(*program, "first", FIRST, within=120).text("out"))["program started to first answer"]


def library(folder):
    program = ["env", f"LD_LIBRARY_PATH={folder}", "pcsc-latency"]
    found = rows(run(*program, "-", "0", SAMPLES, within=300).text("out"))
    found["first answer"] = found["first answer, nothing running before"] = first(*program)
    return found


def resident(process):
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    return float(re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)[1])


def daemon():
    with pcscd() as running:
        reader()
        found = rows(run("pcsc-latency", "-", running.process.pid, SAMPLES, within=300).text("out"))
        found["resident memory of the program, KiB"] += resident(running.process.pid)
        found["first answer"] = first("pcsc-latency")
    found["first answer, nothing running before"] = usual([started_by_socket() for _ in range(FIRST // 2)])
    return found


def started_by_socket():
    """The same where the first program that connects is what pcscd is started for, as systemd does it."""
    take = 'exec 3<&"$1"; LISTEN_FDS=1 LISTEN_PID=$$ exec pcscd --foreground'
    pathlib.Path(COMM).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(COMM)
        listener.listen()
        with Program("pcsc-latency", "first", "1") as program:
            select.select([listener], [], [], 60)
            number = str(listener.fileno())
            daemon = subprocess.Popen(["sh", "-c", take, "sh", number], pass_fds=[listener.fileno()],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            try:
                program.wait(120, 0)
            finally:
                daemon.terminate()
                daemon.wait()
    pathlib.Path(COMM).unlink(missing_ok=True)
    return rows(program.text("out"))["program started to first answer"]


@contextlib.contextmanager
def fixed_addresses():
    """Emulated, code is translated once for each address it is at: most of the time of a program's start, where addresses
    are other ones each time. No processor has that to do.
    """
    usual_kind = RANDOM_ADDRESSES.read_text()
    RANDOM_ADDRESSES.write_text("0")
    try:
        yield
    finally:
        RANDOM_ADDRESSES.write_text(usual_kind)


with check("this library and the usual way"), fixed_addresses(), tempfile.TemporaryDirectory() as folder:
    seen = {"pcscd": [], "library": []}
    os.symlink("/usr/local/bin/libscard_pcsclite.so", f"{folder}/libpcsclite.so.1")
    for _ in range(ROUNDS):
        seen["pcscd"].append(daemon())
        seen["library"].append(library(folder))
    for row in seen["library"][0]:
        there, here = (usual([found[row] for found in seen[way]]) for way in ("pcscd", "library"))
        print(f"# {row}: pcscd {there:.0f}, library {here:.0f}, ratio {here / there:.3f}")
