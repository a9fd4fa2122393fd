"""A card that nobody here wrote: libcacard's Common Access Card, in QEMU's reader."""
# needs: readers=1 cards=cac usb=uhci bins=scard
from lib import check, pcscd, require, require_equal, run
from lib.cli import apdu, atr

SELECT_ACA = "00A4040007A0000000790300"  # the access control applet of the CAC


def by_opensc(*words):
    """What OpenSC sees of it through pcscd and libccid, which have nothing to do with us."""
    with pcscd():
        return run("opensc-tool", *words).text("out")


with check("the ATR is the one that libccid sees"):
    seen = by_opensc("--atr").strip().replace(":", "").upper()
    require(seen, "OpenSC sees none")
    require_equal(atr(), seen, "ATR")

with check("SELECT is answered as through libccid"):
    spaced = ":".join(SELECT_ACA[i:i + 2] for i in range(0, len(SELECT_ACA), 2))
    seen = by_opensc("--send-apdu", spaced)
    answer = apdu(SELECT_ACA)
    require(answer.endswith("9000"), f"answer {answer}")
    require("SW1=0x90, SW2=0x00" in seen, f"through libccid: {seen}")
