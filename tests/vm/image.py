"""Makes what the virtual machine boots: kernel, root image, initramfs, and certificates for an emulated card.

Knows Debian and files; knows nothing of QEMU. Everything lies in one folder named after a fingerprint of this file and
of what goes into the image, so that a changed recipe never meets an old image. Each part appears by a rename, whole.
"""
import contextlib
import fcntl
import gzip
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
GUEST = HERE / "guest"
PACKAGES = HERE.parent / "packages"
TOP = pathlib.Path(os.environ.get("SCARD_VM_DIR") or HERE.parent.parent / "target" / "vm").absolute()

# The guest is the host's release: what is built on the host runs in it.
SUITE = "bookworm"
SOURCES = [pathlib.Path("/etc/apt/sources.list.d/debian.sources"), pathlib.Path("/etc/apt/sources.list")]
GUEST_PACKAGES = """systemd udev kmod iproute2 procps busybox-static strace gdb socat tcpdump usbutils hwdata usbip
    pcscd libccid pcsc-tools opensc openssl gnupg scdaemon python3 python3-pyscard libpcsclite-dev
    libusb-1.0-0""".split()
UNUSED_DRIVERS = "gpu net media infiniband scsi staging iio video isdn hwmon ata md nvme".split()
INITRD_MODULES = "virtio_pci virtio_blk squashfs overlay".split()
CERTIFICATES = ["id-cert", "signing-cert", "encryption-cert"]
CARD_PIN = "1234"  # of the card with the certificates: the password of the data base with its keys


def fingerprint():
    digest = hashlib.sha256()
    for path in [HERE / "image.py", *sorted(GUEST.iterdir())]:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


DIR = TOP / fingerprint()
KERNEL, MODULES, ROOT, INITRD, NSS = (DIR / n for n in ("vmlinux", "modules", "root.squashfs", "initrd", "nssdb"))


class Failure(Exception):
    """What went wrong, as a sentence for the user."""


def say(text):
    print("arena: " + text, file=sys.stderr, flush=True)


def call(*argv, **kwargs):
    try:
        return subprocess.run([str(a) for a in argv], check=True, **kwargs)
    except subprocess.CalledProcessError as e:
        said = (e.stderr or b"").decode(errors="replace") if isinstance(e.stderr, (bytes, type(None))) else e.stderr
        raise Failure(f"{argv[0]} failed with status {e.returncode}: {said.strip() or 'see above'}") from None


@contextlib.contextmanager
def locked(name, waiting_for, kind=fcntl.LOCK_EX):
    """Holds the lock file `name` for as long as the block runs; says once what it waits for."""
    TOP.mkdir(parents=True, exist_ok=True)
    with open(TOP / name, "w") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for {waiting_for} to end")
            fcntl.flock(lock, kind)
        yield


def in_use():
    """Held while a machine runs, so that no build or clean takes its image away."""
    return locked("image.lock", "a build of the image", fcntl.LOCK_SH)


# ---- the host --------------------------------------------------------------------------------------------------------

def check_suite():
    release = pathlib.Path("/etc/os-release")
    values = dict(line.partition("=")[::2] for line in release.read_text().splitlines()) if release.exists() else {}
    name = values.get("VERSION_CODENAME", "").strip('"')
    if name != SUITE:
        raise Failure(f"the virtual machine is Debian {SUITE} and runs what is built on the host, so the host must be "
                      f"Debian {SUITE} too (a container is enough); this one is {name or 'something else'}")


# ---- the parts -------------------------------------------------------------------------------------------------------

def is_built():
    return all(part.exists() for part in (KERNEL, MODULES, ROOT, NSS, INITRD))


def build():
    """Makes what is missing; does nothing where everything is there."""
    check_suite()
    call(PACKAGES, "vm", stdout=sys.stderr)
    if is_built():
        return
    with locked("image.lock", "another build, or a machine that runs,"):
        if is_built():
            return
        remove_old()
        DIR.mkdir(parents=True, exist_ok=True)
        for part, make, what in [(KERNEL, make_kernel, "kernel"), (ROOT, make_root, "root image"),
                                 (NSS, make_certificates, "certificates for the emulated card"),
                                 (INITRD, make_initrd, "initramfs")]:
            if not part.exists():
                say(what)
                with tempfile.TemporaryDirectory(dir=DIR, prefix="tmp-") as tmp:
                    make(pathlib.Path(tmp))
        say(f"ready under {DIR}")


def remove_old():
    """Removes images of other recipes, and what an interrupted build left behind."""
    remove([folder for folder in images() if folder != DIR] + list(DIR.glob("tmp-*")))


def clean():
    with locked("image.lock", "a build, or a machine that runs,"):
        remove(images())


def images():
    return [folder for folder in TOP.iterdir() if re.fullmatch("[0-9a-f]{16}", folder.name)]


def remove(folders):
    call("rm", "-rf", "--one-file-system", "--", *folders)


def make_kernel(tmp):
    if os.geteuid() == 0:
        # Lists may be missing or old; where this fails for one of the host's sources, the download decides.
        subprocess.run(["apt-get", "-q", "update"], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    shown = call("apt-cache", "depends", "linux-image-amd64", capture_output=True, text=True).stdout
    packages = [w for w in shown.split() if w.startswith("linux-image-") and w != "linux-image-amd64"]
    if not packages:
        raise Failure("apt knows no linux-image-amd64; as root: apt-get update")
    call("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", packages[0], cwd=tmp, stdout=sys.stderr)
    call("dpkg-deb", "-x", next(tmp.glob("*.deb")), tmp / "x")
    version = next((tmp / "x/lib/modules").iterdir()).name
    for unused in UNUSED_DRIVERS:
        shutil.rmtree(tmp / f"x/lib/modules/{version}/kernel/drivers/{unused}", ignore_errors=True)
    call("depmod", "-b", tmp / "x", version)
    shutil.rmtree(MODULES, ignore_errors=True)
    (tmp / "x/lib").rename(MODULES)
    (tmp / "vmlinux").write_bytes(unpack_kernel((tmp / f"x/boot/vmlinuz-{version}").read_bytes()))
    (tmp / "vmlinux").rename(KERNEL)


def unpack_kernel(image):
    """The ELF image inside a bzImage: QEMU boots it by its PVH entry, which spares the VM the decompression."""
    offset, length = struct.unpack_from("<II", image, 0x248)
    offset += (image[0x1F1] + 1) * 512
    return lzma.LZMADecompressor().decompress(image[offset:offset + length])


def make_root(tmp):
    sources = next((s for s in SOURCES if s.exists()), None)
    if sources is None:
        raise Failure("no apt sources found in " + " or ".join(map(str, SOURCES)))
    mode = "root" if os.geteuid() == 0 else "unshare"
    with sources.open() as lines, open(tmp / "tar", "wb") as tar:
        call("mmdebstrap", "--quiet", "--variant=minbase", "--mode=" + mode, "--format=tar",
             "--include=" + ",".join(GUEST_PACKAGES), "--dpkgopt=path-exclude=/usr/share/doc/*",
             "--dpkgopt=path-exclude=/usr/share/locale/*", f"--customize-hook=copy-in {MODULES}/modules /usr/lib",
             SUITE, "-", "-", stdin=lines, stdout=tar)
    with open(tmp / "tar", "rb") as tar:
        # Stored plainly: decompressing is what an emulated CPU is slow at.
        call("sqfstar", "-noI", "-noD", "-noF", "-noX", "-quiet", "-no-progress", tmp / "root", stdin=tar,
             stdout=sys.stderr)
    (tmp / "root").rename(ROOT)


def make_certificates(tmp):
    folder = tmp / "nssdb"
    folder.mkdir()
    noise = tmp / "noise"
    noise.write_bytes(os.urandom(64))
    pin = tmp / "pin"
    pin.write_text(CARD_PIN)
    certutil = ["certutil", "-d", f"sql:{folder}", "-f", pin]
    call(*certutil, "-N")
    call(*certutil, "-S", "-s", "CN=Arena CA", "-x", "-t", "TC,TC,TC", "-n", "ca", "-z", noise, "-m", 1,
         capture_output=True)
    for serial, name in enumerate(CERTIFICATES, 2):
        call(*certutil, "-S", "-t", ",,", "-s", f"CN=Arena {name}", "-n", name, "-c", "ca", "-z", noise, "-m", serial,
             capture_output=True)
    folder.rename(NSS)


def make_initrd(tmp):
    top = tmp / "initrd"
    for folder in ("bin", "m", "arena"):
        (top / folder).mkdir(parents=True)
    order = module_files(tmp)
    for path in order:
        shutil.copy(path, top / "m")
    (top / "modules.order").write_text("".join(f"/m/{path.name}\n" for path in order))
    shutil.copy(shutil.which("busybox"), top / "bin/busybox")
    for file in GUEST.iterdir():
        shutil.copy(file, top / ("init" if file.name == "initramfs-init" else f"arena/{file.name}"))
    names = "\n".join(sorted(str(p.relative_to(top)) for p in top.rglob("*")))
    archive = call("cpio", "-o", "-H", "newc", "--quiet", cwd=top, input=names.encode(), stdout=subprocess.PIPE)
    (tmp / "archive").write_bytes(gzip.compress(archive.stdout, 1))
    (tmp / "archive").rename(INITRD)


def module_files(tmp):
    """The files of the modules needed to mount the root image, in the order to insert them."""
    version = next((MODULES / "modules").iterdir()).name
    (tmp / "lib").symlink_to(MODULES)  # where modprobe looks
    order = []
    for module in INITRD_MODULES:
        shown = call("modprobe", "-d", tmp, "-S", version, "--show-depends", module, capture_output=True, text=True)
        for line in shown.stdout.splitlines():
            word, _, path = line.partition(" ")
            if word == "insmod":
                file = MODULES / pathlib.Path(path.split()[0]).relative_to(tmp / "lib")
                if file not in order:
                    order.append(file)
    return order
