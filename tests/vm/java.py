"""Makes what cases run Java with: a runtime of the modules that are needed, and the tests' program in Java, in one folder.

The whole of Java would be most of the machine's image. The folder is named after a fingerprint of what it is made of,
and appears by a rename, whole.
"""
import hashlib
import pathlib
import shutil
import tempfile

from image import Failure, call

HERE = pathlib.Path(__file__).resolve()
SOURCE = HERE.parent.parent / "winscard/Session.java"
TOP = HERE.parent.parent.parent / "target/java"
MODULES = "java.smartcardio"


def build():
    """Makes it where it is missing; returns the folder: a Java home, with the program's class beside."""
    jlink = shutil.which("jlink")
    if not jlink:
        raise Failure("there is no jlink (tests/packages installs it)")
    home = pathlib.Path(jlink).resolve().parent.parent
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in (HERE, SOURCE, home / "release")))
    folder = TOP / digest.hexdigest()[:16]
    if not folder.exists():
        shutil.rmtree(TOP, ignore_errors=True)  # what was made of others
        TOP.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=TOP) as tmp:
            new = pathlib.Path(tmp) / "java"
            call(home / "bin/jlink", "--add-modules", MODULES, "--strip-debug", "--no-man-pages", "--no-header-files",
                 "--compress", 1, "--output", new, capture_output=True, text=True)
            call(home / "bin/javac", "-d", new, SOURCE, capture_output=True, text=True)
            new.rename(folder)
    return folder
