"""usbd-ccid on vhci-hcd: enumeration, power-up, exchanges, time extensions, power-off; by each host."""
# needs: readers=0 cards=none usb=uhci bins=scard,libifdscard.so,libscard_pcsclite.so,usbd-ccid-vhci limit=300
from lib import check, load_vhci, require_equal, run, teach_libccid, usb_devices, wait_until
from lib.cli import UsbdCcid
from lib.conversation import COMMANDS, EXTENDED
from lib.recording import HOSTS, converse, recorded

load_vhci()
teach_libccid("1209", "0001", "usbd-ccid")
for host in HOSTS:
    with check(f"recorded with {host}"):
        with recorded(f"usbd-ccid-{host}"), UsbdCcid():
            wait_until(lambda: usb_devices("1209", "0001"), "it is on the USB")
            run("udevadm", "settle")
            answers = converse(host, "fixed")
        require_equal(sorted(answers), sorted(COMMANDS + EXTENDED), "commands")
        require_equal({answer[-4:] for answer in answers.values()}, {"9000", "6d00"}, "status words")
