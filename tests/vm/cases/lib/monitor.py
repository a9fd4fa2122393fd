"""pyscard's monitors: a line for each card and each reader that comes (+) and goes (-). `python3 -m lib.monitor`.

Says `begun` first, then what is there, and ends with its standard input.
"""
import os
import sys

from smartcard.CardMonitoring import CardMonitor, CardObserver
from smartcard.ReaderMonitoring import ReaderMonitor, ReaderObserver
from smartcard.util import toHexString


def tell(kind, changes, text):
    for sign, things in zip("+-", changes):
        for thing in things:
            # No print: pyscard's threads run on when Python ends, which dies if one of them is just within sys.stdout.
            os.write(sys.stdout.fileno(), f"{kind} {sign} {text(thing)}\n".encode())


class Cards(CardObserver):
    def update(self, _, changes):
        tell("card", changes, lambda card: toHexString(card.atr))


class Readers(ReaderObserver):
    def update(self, _, changes):
        tell("reader", changes, str)


print("begun", flush=True)
readers = ReaderMonitor(period=0.2)
readers.addObserver(watched := Readers())
cards = CardMonitor()
cards.addObserver(seen := Cards())
sys.stdin.read()
cards.deleteObserver(seen)
readers.deleteObserver(watched)
