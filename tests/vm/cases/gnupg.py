"""GnuPG on an OpenPGP card that others wrote (Nitrokey's opcard), in a reader on the USB: keys, signatures, secrets.

gpg's scdaemon on pcscd with this project's driver, then on this project's library without pcscd. The reader is the
simulated one, whose card is a program.
"""
# needs: readers=0 cards=none usb=uhci bins=scard,libifdscard.so,libscard_pcsclite.so,scard-opcard limit=600
import pathlib
import subprocess
import tempfile

from lib import Program, check, load_vhci, require, require_equal, wait_until
from lib.cli import SimulatedReader, wait_for_readers
from lib.stacks import DRIVER, FOLDER, LIBRARY, stack

PORT = "35963"
LIBRARIES = {DRIVER: "libpcsclite.so.1", LIBRARY: f"{FOLDER}/libpcsclite.so.1"}
# From the PIN of a new card, 123456, to that of its administrator: gpg is given one for both.
CHANGE_PIN = "002400810E3132333435363132333435363738"
PIN = "12345678"
USER = "card@example.org"
APPLICATION = "D276000124010304"  # an OpenPGP card of version 3.4
# Three times: ECC, Curve 25519. RSA would take an emulated CPU minutes.
CHOOSE = "admin\nkey-attr\n" + 3 * "2\n1\n" + "quit\n"
# No backup, no end of validity, a name, an address, no comment.
GENERATE = f"admin\ngenerate\nn\n0\nA Card\n{USER}\n\nquit\n"


class Gpg:
    """A home of gpg's, whose scdaemon has that library for PC/SC; its agent and scdaemon end with the block."""

    def __init__(self, library):
        self.folder = tempfile.TemporaryDirectory()
        home = pathlib.Path(self.folder.name)
        (home / "scdaemon.conf").write_text(f"disable-ccid\npcsc-driver {library}\n")
        (home / "gpg-agent.conf").write_text("allow-loopback-pinentry\n")
        self.environment = {"PATH": "/usr/bin:/bin", "GNUPGHOME": str(home), "LC_ALL": "C"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.program("gpgconf", "--kill", "all")
        self.folder.cleanup()

    def program(self, *argv, feed=b""):
        return subprocess.run(argv, input=feed, capture_output=True, env=self.environment, timeout=120)

    def run(self, *words, feed=b"", good=True):
        """gpg: its output. It must end well, or must not."""
        options = ["--no-tty", "--yes", "--pinentry-mode", "loopback", "--passphrase", PIN]
        ended = self.program("gpg", *options, *words, feed=feed)
        require_equal(ended.returncode == 0, good, f"gpg {words}: {ended.stderr.decode(errors='replace')}: good")
        return ended.stdout

    def card_status(self):
        """What gpg says of the card; nothing if it sees none."""
        return self.program("gpg", "--no-tty", "--card-status", "--with-colons").stdout.decode()

    def change_pin(self):
        said = self.program("gpg-connect-agent", "--hex", f"scd apdu {CHANGE_PIN}", "/bye").stdout.decode()
        require("90 00" in said, f"PIN not changed: {said}")

    def generate(self):
        """Keys on the card, for signatures, secrets and authentication."""
        self.run("--command-fd", "0", "--card-edit", feed=CHOOSE.encode())
        self.run("--command-fd", "0", "--card-edit", feed=GENERATE.encode())
        keys = self.run("--list-secret-keys", "--with-colons").decode()
        require_equal(keys.count(f":{APPLICATION}"), 3, f"keys on the card in {keys}")

    def sign(self):
        """What the card has signed is checked by gpg alone, and only that."""
        signature = pathlib.Path(self.folder.name, "signature")
        self.run("-u", USER, "-o", str(signature), "--detach-sign", feed=b"message")
        self.run("--verify", str(signature), "-", feed=b"message")
        self.run("--verify", str(signature), "-", feed=b"another", good=False)

    def encrypted(self):
        return self.run("-r", USER, "--encrypt", feed=b"message")


load_vhci()

for which in (DRIVER, LIBRARY):
    with check(f"gpg generates keys, signs and decrypts on {which}"):
        with SimulatedReader(f"vpcd:{PORT}") as reader, Program("scard-opcard", PORT) as card:
            wait_for_readers(1)
            with stack(which) as on, Gpg(LIBRARIES[which]) as gpg:
                status = wait_until(gpg.card_status, "gpg sees the card")
                require(on.name in status and APPLICATION in status, status)
                gpg.change_pin()
                gpg.generate()
                gpg.sign()
                secret = gpg.encrypted()
                require_equal(gpg.run("--decrypt", feed=secret), b"message", "what was encrypted")
                card.process.kill()
                gpg.run("--decrypt", feed=secret, good=False)
            reader.require_no_violation()
