"""A PC/SC client, in a process of its own: what pcscd shows of the readers. `python3 -m lib.client WHAT [ARGUMENT...]`.

Prints JSON. Knows nothing of drivers, so that what it sees of two of them can be compared.
"""
import json
import re
import sys
import time

from smartcard import scard as pcsc
from smartcard.pcsc import PCSCExceptions  # noqa: F401  (the package is there)

ATTRIBUTES = ["ATR_STRING", "CHANNEL_ID", "CURRENT_PROTOCOL_TYPE", "DEVICE_FRIENDLY_NAME", "DEVICE_SYSTEM_NAME",
              "ICC_INTERFACE_STATUS", "ICC_PRESENCE", "MAXINPUT", "VENDOR_IFD_SERIAL_NO", "VENDOR_IFD_VERSION",
              "VENDOR_NAME", "CURRENT_IFSC", "CHARACTERISTICS", "ICC_TYPE_PER_ATR", "VENDOR_IFD_TYPE"]
FEATURES = pcsc.SCARD_CTL_CODE(3400)
STATES = {pcsc.SCARD_STATE_EMPTY: "empty", pcsc.SCARD_STATE_PRESENT: "present", pcsc.SCARD_STATE_INUSE: "inuse",
          pcsc.SCARD_STATE_EXCLUSIVE: "exclusive", pcsc.SCARD_STATE_MUTE: "mute",
          pcsc.SCARD_STATE_UNAVAILABLE: "unavailable", pcsc.SCARD_STATE_UNKNOWN: "unknown"}


def ok(result, what):
    code, *rest = result if isinstance(result, (list, tuple)) else (result,)
    if code != pcsc.SCARD_S_SUCCESS:
        sys.exit(f"{what}: {code & 0xFFFFFFFF:08X}")
    return rest[0] if len(rest) == 1 else rest


def text(data):
    return bytes(byte & 0xFF for byte in data).hex()


class Client:
    def __init__(self):
        self.context = ok(pcsc.SCardEstablishContext(pcsc.SCARD_SCOPE_USER), "establish")

    def readers(self):
        code, names = pcsc.SCardListReaders(self.context, [])
        return names if code == pcsc.SCARD_S_SUCCESS else []

    def state(self, reader, known=pcsc.SCARD_STATE_UNAWARE, milliseconds=60000):
        """The state once it differs from `known`: its words, its bits, the ATR."""
        (_, event, atr), = ok(pcsc.SCardGetStatusChange(self.context, milliseconds, [(reader, known)]), "wait")
        return sorted(word for bit, word in STATES.items() if event & bit), event, text(atr)

    def until(self, reader, word):
        """Waits for a state that has the word and is not mute; the words and the ATR."""
        words, event, atr = self.state(reader)
        while word not in words or "mute" in words:
            words, event, atr = self.state(reader, event & ~pcsc.SCARD_STATE_CHANGED)
        return words, atr

    def connect(self, reader, share=pcsc.SCARD_SHARE_SHARED, protocols=3):
        code, card, protocol = pcsc.SCardConnect(self.context, reader, share, protocols)
        return code & 0xFFFFFFFF, card, protocol

    def transmit(self, card, protocol, command):
        code, answer = pcsc.SCardTransmit(card, protocol, list(bytes.fromhex(command)))
        return text(answer) if code == pcsc.SCARD_S_SUCCESS else f"{code & 0xFFFFFFFF:08X}"


def attributes(card):
    found = {}
    for name in ATTRIBUTES:
        code, value = pcsc.SCardGetAttrib(card, getattr(pcsc, "SCARD_ATTR_" + name))
        found[name] = text(value) if code == pcsc.SCARD_S_SUCCESS else f"error {code & 0xFFFFFFFF:08X}"
    return found


def session(client, reader, commands):
    """What one reader shows, and its card's answers."""
    words, _, atr = client.state(reader)
    seen = {"reader": reader, "state": words, "atr": atr}
    code, card, protocol = client.connect(reader)
    seen["connect"] = f"{code:08X}"
    if code != pcsc.SCARD_S_SUCCESS:
        return seen
    seen["protocol"] = protocol
    seen["attributes"] = attributes(card)
    code, features = pcsc.SCardControl(card, FEATURES, [])
    seen["features"] = text(features) if code == pcsc.SCARD_S_SUCCESS else f"error {code & 0xFFFFFFFF:08X}"
    seen["answers"] = [client.transmit(card, protocol, command) for command in commands]
    for how, name in ((pcsc.SCARD_RESET_CARD, "reset"), (pcsc.SCARD_UNPOWER_CARD, "unpower")):
        code, protocol = pcsc.SCardReconnect(card, pcsc.SCARD_SHARE_SHARED, 3, how)
        seen[name] = [f"{code & 0xFFFFFFFF:08X}", protocol]
    if commands:
        seen["afterwards"] = client.transmit(card, protocol, commands[0])
    code, _, state, protocol, atr = pcsc.SCardStatus(card)
    seen["status"] = [f"{code & 0xFFFFFFFF:08X}", state & 0xFFFF, protocol, text(atr)]
    ok(pcsc.SCardDisconnect(card, pcsc.SCARD_LEAVE_CARD), "disconnect")
    return seen


def repeat(client, reader, command):
    """Sends the command for ever; says what has become of it when it is otherwise than before."""
    told = None
    while True:
        code, card, protocol = client.connect(reader)
        connected = code == pcsc.SCARD_S_SUCCESS
        while code == pcsc.SCARD_S_SUCCESS:
            code, answer = pcsc.SCardTransmit(card, protocol, list(bytes.fromhex(command)))
            if code == pcsc.SCARD_S_SUCCESS and told != text(answer):
                print("answers", told := text(answer), flush=True)
            time.sleep(0.01)  # there are few CPUs
        if connected:
            pcsc.SCardDisconnect(card, pcsc.SCARD_LEAVE_CARD)
        if told != "gone":
            print(told := "gone", flush=True)
        time.sleep(0.05)  # until the next look


def main(what, *arguments):
    client = Client()
    if what == "sessions":
        # Of every reader, in turn; the arguments are commands.
        print(json.dumps([session(client, reader, arguments) for reader in client.readers()]))
    elif what == "readers":
        print(json.dumps(client.readers()))
    elif what == "until":
        reader, word = arguments
        print(json.dumps(client.until(reader, word)))
    elif what == "verify":
        # A PIN at the keys of the reader, by a feature's tag; within so many seconds.
        reader, tag, seconds = arguments
        _, card, _ = client.connect(reader)
        features = text(ok(pcsc.SCardControl(card, FEATURES, []), "features"))
        records = dict(re.findall("(..)04(.{8})", features))
        command = bytes([0x00, 0x20, 0x00, 0x81])
        block = [int(seconds), 0, 0x82, 0, 0, 8, 4, 2, 1, 9, 4, 0, 0, 0, 0, *len(command).to_bytes(4, "little"), *command]
        print("begun", flush=True)
        code, answer = pcsc.SCardControl(card, int(records[tag], 16), block)
        print(json.dumps(text(answer) if code == pcsc.SCARD_S_SUCCESS else f"{code & 0xFFFFFFFF:08X}"))
    elif what == "transmit":
        # One command, whatever comes of it, and how long that took.
        reader, command = arguments
        code, card, protocol = client.connect(reader)
        if code != pcsc.SCARD_S_SUCCESS:
            sys.exit(f"connect: {code:08X}")
        print("begun", flush=True)
        answer = client.transmit(card, protocol, command)
        print(json.dumps([answer, time.monotonic()]))
    elif what == "obey":
        # What comes as lines: connect, disconnect, a command in hexadecimal, wait for a state by its word. One context.
        reader, = arguments or client.readers()
        card = protocol = None
        print(json.dumps("ready"), flush=True)
        for line in map(str.strip, sys.stdin):
            if line == "connect":
                code, card, protocol = client.connect(reader)
                answer = f"{code:08X}"
            elif line == "disconnect":
                answer = f"{pcsc.SCardDisconnect(card, pcsc.SCARD_LEAVE_CARD) & 0xFFFFFFFF:08X}"
            elif line in STATES.values():
                answer = client.until(reader, line)
            else:
                answer = client.transmit(card, protocol, line)
            print(json.dumps(answer), flush=True)
    elif what == "repeat":
        # One command again and again, while the card is there: `answers` and `gone` when that changes.
        reader, command = arguments
        repeat(client, reader, command)
    elif what == "cancel":
        # What another program's command is doing at the reader: SCARD_ATTR_ESC_CANCEL, which pcscd passes on at once.
        reader, = arguments
        _, card, _ = client.connect(reader, pcsc.SCARD_SHARE_DIRECT, 0)
        ok(pcsc.SCardSetAttrib(card, 0x0007A003, [0]), "set attribute")
        print(json.dumps(None))
    else:
        sys.exit(f"no such thing: {what}")


if __name__ == "__main__":
    main(*sys.argv[1:])
