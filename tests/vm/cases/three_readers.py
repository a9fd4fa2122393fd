"""Three readers at once: each with its own name, its own card and its own troubles."""
# needs: readers=3 cards=peer usb=uhci,xhci bins=scard limit=240
from lib import (SOON, card_insert, card_remove, check, parallel, reader_plug, reader_unplug, require, require_equal,
                 times_given, wait_for_command)
from lib.cli import INTERRUPTED, Watch, apdu, apdus, has_card, start_apdu, status, wait_for_readers

NEVER = "00160000"


def serial(name):
    """A reader's name without the two numbers at its end: how many there were before it is nothing that lasts."""
    return name.rsplit(" ", 2)[0]


with check("three names, each its own"):
    readers = wait_for_readers(3)
    require_equal(len(set(readers)), 3, f"names in {readers}")

with check("each name leads to its own card"):
    reached = {}
    for number, name in enumerate(readers):
        command = f"0010000002A{number:X}55"
        require_equal(apdu(command, reader=name), f"a{number:x}559000", name)
        reached[name] = [n for n in range(3) if times_given(command, n)]
    require_equal(sorted(sum(reached.values(), [])), [0, 1, 2], f"cards reached: {reached}")

with check("exchanges on all three at the same time"):
    def exchange(number):
        commands = [bytes([0, 0x10, number, n, 4, number, n, 0x55, 0xAA]) for n in range(40)]
        for command, answer in zip(commands, apdus(commands, reader=readers[number], within=120)):
            require_equal(answer, command[5:] + b"\x90\x00", f"answer on {readers[number]}")
    parallel(*[lambda number=number: exchange(number) for number in range(3)])

with check("a card out of one leaves the others"):
    empty = next(name for name, cards in reached.items() if cards == [1])
    card_remove(1)
    for entry in status():
        require_equal(has_card(entry), entry["name"] != empty, f"a card in {entry['name']}")
    with Watch() as watch:
        for _ in range(2):  # what there is already
            require(watch.card_inserted()["reader"] != empty, "a card where there is none")
        card_insert(1)
        require_equal(watch.card_inserted()["reader"], empty, "reader with the new card")

with check("a reader that hangs does not hold up the others"):
    victim, = reached[readers[0]]
    with start_apdu(NEVER, reader=readers[0]) as program:
        wait_for_command(NEVER, victim)
        require_equal(apdu("0010000001EE", reader=readers[1]), "ee9000", "answer of the second")
        require_equal(apdu("0010000001EF", reader=readers[2]), "ef9000", "answer of the third")
        require(program.process.poll() is None, "the first has ended by itself")
        program.interrupt()
        program.wait(within=SOON, status=INTERRUPTED)
    require_equal(apdu("0010000001ED", reader=readers[0]), "ed9000", "answer of the first, afterwards")

with check("a reader unplugged leaves the others, and comes back under its name"):
    gone, = reached[readers[1]]
    with Watch() as watch:
        for _ in readers:
            watch.card_inserted()
        reader_unplug(gone)
        require_equal(watch.reader_removed()["reader"], readers[1], "reader removed")
        reader_plug(gone)
        card_insert(gone)
        require_equal(watch.reader_added()["reader"], readers[1], "reader added")
        require_equal(watch.card_inserted()["reader"], readers[1], "reader with the card")
        reader_unplug(gone)
        watch.reader_removed()
    require_equal({serial(name) for name in wait_for_readers(2)}, {serial(readers[0]), serial(readers[2])}, "readers left")
    require_equal(apdu("0010000001EA", reader=serial(readers[2])), "ea9000", "answer of another")
