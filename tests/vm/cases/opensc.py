"""OpenSC on a card that nobody here wrote, libcacard's Common Access Card in QEMU's reader: objects, PIN, signatures.

On pcscd with libccid, on pcscd with this project's driver and on this project's library: its programs say the same, and
give the same signatures.
"""
# needs: readers=1 cards=cac usb=uhci bins=scard,libifdscard.so,libscard_pcsclite.so limit=900
import hashlib
import pathlib
import tempfile

from lib import Program, check, require, require_equal, run
from lib.stacks import DRIVER, LIBCCID, LIBRARY, stack

PIN, WRONG_PIN = "1234", "4321"
SELECT_ACA = "00A4040007A0000000790300"  # the access control applet of the CAC
MESSAGE, SECRET = b"message", b"secret"
ATR = "3B 7A 18 00 00 73 66 74 65 20 63 64 31 34 34"
SIGNER, RECEIVER = "0001", "0003"  # identifiers of keys
PKCS11 = ["pkcs11-tool", "--login", "--pin"]


class Session:
    """Programs on one stack, one after the other: what they say, and the files that they make."""

    def __init__(self, on, folder):
        self.on, self.folder = on, pathlib.Path(folder)
        self.said = []

    def ended(self, *argv, **kwargs):
        """Runs a program: the exit status, what it has said to either stream."""
        program = self.on.run(*argv, within=120, **kwargs)
        said = [program.process.returncode, *(self.on.plain(program.text(stream)) for stream in ("out", "err"))]
        self.said.append([str(word).replace(str(self.folder), "") for word in argv] + said)
        return said

    def run(self, *argv, feed=""):
        """Runs a program that ends well: its output."""
        return self.ended(*argv, feed=feed)[1]

    def refused(self, *argv):
        """Runs a program that does not: what it says of it."""
        status, _, why = self.ended(*argv, status=None)
        require(status != 0, f"{argv} is not refused")
        return why

    def file(self, name, content=None):
        path = self.folder / name
        if content is not None:
            path.write_bytes(content)
        return path

    def made(self, name):
        """What a program has put into that file."""
        content = self.file(name).read_bytes()
        self.said.append([name, content.hex()])
        return content


def certificate(session, key):
    """Reads a certificate; its public key in a file."""
    pem = session.file(f"certificate-{key}")
    session.run("pkcs15-tool", "--read-certificate", key, "--output", pem)
    session.made(pem.name)
    public = session.file(f"public-{key}")
    run("openssl", "x509", "-in", pem, "-noout", "-pubkey", "-out", public)
    return public


def look(session):
    """What needs no PIN."""
    session.run("opensc-tool", "--list-readers")
    seen = session.run("opensc-tool", "--atr")
    require_equal(seen.strip().replace(":", " ").upper(), ATR, "ATR")
    require("Common Access Card" in session.run("opensc-tool", "--name"), "not the card's name")
    session.run("opensc-tool", "--send-apdu", SELECT_ACA)
    require("< 61" in session.run("scriptor", feed=SELECT_ACA), "no 61xx")
    with Program(*session.on.words, "pcsc_scan", "-n") as scan:
        scan.expect(f"ATR: {ATR}")
    dump = session.run("pkcs15-tool", "--dump")
    for name in ("CAC ID Certificate", "CAC Email Signature Certificate", "CAC Email Encryption Certificate"):
        require(f"Private RSA Key [{name}]" in dump and f"X.509 Certificate [{name}]" in dump, f"no {name}: {dump}")
    require("login required" in session.run("pkcs11-tool", "--list-slots"), "no login required")


def require_signature(session, public, name):
    """OpenSSL takes it for the message's, and not for another's."""
    session.made(name)
    message, other = session.file("message", MESSAGE), session.file("other", b"another message")
    verify = ["openssl", "dgst", "-sha256", "-verify", public, "-signature", session.file(name)]
    run(*verify, message)
    require(run(*verify, other, status=None).process.returncode != 0, "it is good for any message")


def use_keys(session):
    """What needs the PIN: the objects, signatures by PKCS #11 and #15, what was encrypted."""
    public = certificate(session, SIGNER)
    objects = session.run(*PKCS11, PIN, "--list-objects")
    require_equal(objects.count("Private Key Object; RSA"), 3, "private keys")
    require("CKR_" in session.refused(*PKCS11, WRONG_PIN, "--list-objects"), "a wrong PIN is none to PKCS #11")
    session.run("pkcs15-tool", "--verify-pin", "--auth-id", "01", "--pin", PIN)
    session.refused("pkcs15-tool", "--verify-pin", "--auth-id", "01", "--pin", WRONG_PIN)
    message = session.file("message", MESSAGE)
    session.run(*PKCS11, PIN, "--sign", "--id", SIGNER, "--mechanism", "SHA256-RSA-PKCS", "--input-file", message,
                "--output-file", session.file("signature11"))
    require_signature(session, public, "signature11")
    digest = session.file("digest", hashlib.sha256(MESSAGE).digest())
    session.run("pkcs15-crypt", "--sign", "--key", SIGNER, "--pkcs1", "--sha-256", "--pin", PIN, "--input", digest,
                "--output", session.file("signature15"))
    require_signature(session, public, "signature15")
    secret = session.file("secret")
    run("openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", certificate(session, RECEIVER), "-in",
        session.file("plain", SECRET), "-out", secret)
    session.run(*PKCS11, PIN, "--decrypt", "--id", RECEIVER, "--mechanism", "RSA-PKCS", "--input-file", secret,
                "--output-file", session.file("decrypted"))
    require_equal(session.made("decrypted"), SECRET, "what was decrypted")


said = {}
for which in (LIBCCID, DRIVER, LIBRARY):
    with check(f"OpenSC on {which}: objects, PIN, signatures"):
        with stack(which) as on, tempfile.TemporaryDirectory() as folder:
            session = Session(on, folder)
            look(session)
            use_keys(session)
            said[which] = session.said

for which in (DRIVER, LIBRARY):
    with check(f"OpenSC says the same on {which} as on {LIBCCID}"):
        require_equal(len(said[which]), len(said[LIBCCID]), "programs")
        for seen, wanted in zip(said[which], said[LIBCCID]):
            require_equal(seen, wanted, " ".join(map(str, wanted[:2])))
