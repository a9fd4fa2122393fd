"""A card that nobody here wrote: libcacard's Common Access Card, in QEMU's reader."""
# needs: readers=1 cards=cac usb=uhci bins=scard
from lib import check, pcscd, require, require_equal, run
from lib.cli import apdus, atr

SELECT_ACA = "00A4040007A0000000790300"  # the access control applet of the CAC


def by_opensc(*words):
    """What OpenSC sees of it through pcscd and libccid, which have nothing to do with us."""
    with pcscd():
        return run("opensc-tool", *words).text("out")


with check("the ATR is the one that libccid sees"):
    seen = by_opensc("--atr").strip().replace(":", "").upper()
    require(seen, "OpenSC sees none")
    require_equal(atr(), seen, "ATR")

with check("SELECT and GET RESPONSE give what they give through libccid"):
    seen = by_opensc("--send-apdu", SELECT_ACA + "00")  # with Le, it asks for the response by itself
    select = bytes.fromhex(SELECT_ACA)
    word, = apdus([select], "--no-get-response")
    require_equal((len(word), word[0]), (2, 0x61), "length and SW1 of the answer to SELECT")
    response, = apdus([select])
    require_equal(response[-2:], b"\x90\x00", "SW after GET RESPONSE")
    require_equal(len(response), word[1] + 2, "length of the response")
    require(response[:-2].hex(" ").upper() in seen, f"{response.hex(' ')} is not what libccid has: {seen}")
