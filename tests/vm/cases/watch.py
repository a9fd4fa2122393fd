"""`scard watch` sees cards and the whole reader come and go, and ends when it is told to."""
# needs: readers=1 cards=peer usb=uhci,xhci bins=scard
from lib import SOON, card_insert, card_remove, check, reader_plug, reader_unplug, require_equal
from lib.cli import INTERRUPTED, PEER_ATR, QEMU_PRODUCT, Watch, atr, wait_for_readers

with check("a card goes and comes, five times"):
    with Watch() as watch:
        watch.card_inserted(reader=QEMU_PRODUCT)
        for _ in range(5):
            card_remove()
            watch.card_removed(reader=QEMU_PRODUCT)
            card_insert()
            watch.card_inserted(reader=QEMU_PRODUCT)

with check("the reader goes and comes, with its card"):
    with Watch() as watch:
        watch.card_inserted()
        for _ in range(3):
            reader_unplug()
            watch.reader_removed(reader=QEMU_PRODUCT)
            reader_plug()
            watch.reader_added(reader=QEMU_PRODUCT)
            card_insert()
            watch.card_inserted(reader=QEMU_PRODUCT)
    require_equal(atr(), PEER_ATR, "ATR afterwards")

with check("it starts without any reader"):
    reader_unplug()
    wait_for_readers(0)
    with Watch() as watch:
        reader_plug()
        watch.reader_added(reader=QEMU_PRODUCT)
        card_insert()
        watch.card_inserted(reader=QEMU_PRODUCT)

with check("Ctrl-C ends it"):
    with Watch() as watch:
        watch.card_inserted()
        watch.interrupt()
        watch.wait(within=SOON, status=INTERRUPTED)

with check("Ctrl-C ends it without any reader, too"):
    reader_unplug()
    wait_for_readers(0)
    with Watch() as watch:
        reader_plug()  # a line of output shows that it is watching
        watch.reader_added()
        reader_unplug()
        watch.reader_removed()
        watch.interrupt()
        watch.wait(within=SOON, status=INTERRUPTED)
