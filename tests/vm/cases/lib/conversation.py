"""What is recorded: a program's talk with a card, the same for every driver. `python3 -m lib.conversation KIND`.

Says when it is ready, begins when it gets a line; says when its card is to be taken out or put in, each command with
its answer, and when it is at its end. Knows nothing of drivers.
"""
import sys
import time

from smartcard import scard as pcsc

from .client import Client, ok

# The card echoes (10), answers so many bytes (12), takes so many milliseconds (14), knows SELECT (A4) and no 99.
COMMANDS = ["00a40000023f00", "0010000003010203", "0012003333", "0012010000", "001200ff00", "00990000",
            "0010000004aabbccdd"]
EXTENDED = ["00120400000400", "001407d0"]
AGAIN = ["0010000002cafe"]


def exchange(client, reader, commands, disposition):
    code, card, protocol = client.connect(reader)
    if code != pcsc.SCARD_S_SUCCESS:
        sys.exit(f"connect: {code:08X}")
    for command in commands:
        print(command, client.transmit(card, protocol, command), flush=True)
    ok(pcsc.SCardDisconnect(card, disposition), "disconnect")


def main(kind):
    print("ready", flush=True)
    sys.stdin.readline()
    client = Client()
    while not (readers := client.readers()):
        time.sleep(0.01)
    reader, = readers
    client.until(reader, "present")
    if kind == "fixed":
        # Its card can't be taken out.
        exchange(client, reader, COMMANDS + EXTENDED, pcsc.SCARD_UNPOWER_CARD)
    else:
        exchange(client, reader, COMMANDS, pcsc.SCARD_LEAVE_CARD)
        for word, state in (("remove", "empty"), ("insert", "present")):
            print(word, flush=True)
            client.until(reader, state)
        exchange(client, reader, AGAIN, pcsc.SCARD_UNPOWER_CARD)
    print("end", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
