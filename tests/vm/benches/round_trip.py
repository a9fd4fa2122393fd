"""An APDU through pcscd on QEMU's reader, with libccid and with this driver by turns: round trip and CPU time."""
# needs: readers=1 cards=peer usb=uhci,xhci bins=scard,libifdscard.so,pcsc-latency limit=900
import re

from lib import check, pcscd, run
from lib.pcsc import reader

ROUNDS = 3
SAMPLES = 500
LENGTHS = ("5 bytes", "255 bytes")


def measured(driver):
    """{(row, length): microseconds}"""
    with pcscd(driver) as daemon:
        reader()
        text = run("pcsc-latency", "-", daemon.process.pid, SAMPLES, within=300).text("out")
    times = re.findall(r"^SCardTransmit, (\S+ bytes) +\d+ +([\d.]+)", text, re.MULTILINE)
    cpu = re.findall(r"^ +CPU of the daemon +\d+ +([\d.]+)", text, re.MULTILINE)
    found = {("round trip, median", length): float(time) for length, time in times}
    found |= {("CPU of pcscd", length): float(time) for (length, _), time in zip(times, cpu)}
    return found


with check("round trips"):
    seen = {"libccid": [], "scard": []}
    for _ in range(ROUNDS):
        for driver, results in seen.items():
            results.append(measured(driver))
    for row in ("round trip, median", "CPU of pcscd"):
        for length in LENGTHS:
            usual = {driver: sorted(result[row, length] for result in results)[ROUNDS // 2]
                     for driver, results in seen.items()}
            print(f"# {row}, {length}: libccid {usual['libccid']:.0f} us, scard {usual['scard']:.0f} us, "
                  f"ratio {usual['scard'] / usual['libccid']:.2f}")
