"""QEMU's reader: enumeration, power-up, exchanges, card out and in, power-off; by each host."""
# needs: readers=1 cards=peer usb=uhci bins=scard,libifdscard.so,libscard_pcsclite.so limit=300
from lib import card_insert, check, reader_plug, reader_unplug, require_equal, wait_for_usb
from lib.conversation import AGAIN, COMMANDS
from lib.recording import HOSTS, converse, recorded

for host in HOSTS:
    with check(f"recorded with {host}"):
        reader_unplug()
        wait_for_usb(0)
        with recorded(f"qemu-{host}"):
            reader_plug()
            card_insert()
            wait_for_usb(1)
            answers = converse(host, "removable")
        require_equal(sorted(answers), sorted(COMMANDS + AGAIN), "commands")
        require_equal({answer[-4:] for answer in answers.values()}, {"9000", "6d00"}, "status words")
