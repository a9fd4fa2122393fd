"""What the cases are written with: checks, programs under test with deadlines, and the hardware of the VM.

Deadlines are generous: the CPU is emulated and shared. Nothing sleeps for luck: every wait is for a line, an exit or a
state, and fails at its deadline.
"""
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
import traceback

CASES = pathlib.Path(__file__).resolve().parent.parent
SECONDS = 40.0  # for a program to start, do something short and end
SOON = 20.0  # for what must end although a card never answers, and long before any limit on how long one may take
SHOWN = 16  # lines of a program that has failed


class Failed(Exception):
    """A check has failed; the text says why."""


@contextlib.contextmanager
def check(name):
    """One check: prints `ok NAME` or `FAIL NAME: why`. The next one goes on, with the hardware as it was at first."""
    try:
        yield
    except Exception as e:
        why = str(e) if isinstance(e, Failed) else f"{type(e).__name__}: {e}"
        first, *more = why.splitlines() or [""]
        print(f"FAIL {name}: {first}", flush=True)
        frames = [f for f in traceback.extract_tb(e.__traceback__) if f.filename != __file__]
        for line in more + [f"at {pathlib.Path(f.filename).name}:{f.lineno}: {f.line}" for f in frames]:
            print("# " + line, flush=True)
        plug_afresh()
    else:
        print(f"ok {name}", flush=True)


def require(condition, why):
    if not condition:
        raise Failed(why)


def require_equal(seen, wanted, what):
    if seen != wanted:
        raise Failed(f"{what}: {seen!r}, not {wanted!r}")


def wait_until(condition, what, within=SECONDS):
    """Polls `condition` (for states of the system that send no event); returns its first true value."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {within:.0f} s: {what}")
        time.sleep(0.02)
    return value


class Program:
    """A program that runs, with its output as it comes. Leaving the `with` block ends it."""

    def __init__(self, *argv):
        self.argv = [str(a) for a in argv]
        self.lines = []  # (stream, text) in the order they came
        self.seen = 0  # lines that `expect` has gone past
        self.changed = threading.Condition()
        self.started = time.monotonic()
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, errors="replace")
        self.threads = [threading.Thread(target=self._read, args=pair, daemon=True)
                        for pair in (("out", self.process.stdout), ("err", self.process.stderr))]
        for thread in self.threads:
            thread.start()

    def _read(self, name, stream):
        for line in stream:
            with self.changed:
                self.lines.append((name, line.rstrip("\n")))
                self.changed.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def text(self, stream=None):
        with self.changed:
            return "\n".join(text for name, text in self.lines if stream in (None, name))

    def _shown(self):
        """The end of what it said: there a failure shows, and a report may be cut."""
        lines = self.text().splitlines()
        cut = [f"({len(lines) - SHOWN} lines before)"] if len(lines) > SHOWN else []
        return "\n".join(["", f"$ {' '.join(self.argv)}", *cut, *lines[-SHOWN:]])

    def expect_all(self, *patterns, within=SECONDS):
        """Waits until each pattern has a line that matches, after those already expected, in whatever order they come."""
        deadline = time.monotonic() + within
        first = last = self.seen
        for pattern in patterns:
            self.seen = first
            self.expect(pattern, deadline - time.monotonic())
            last = max(last, self.seen)
        self.seen = last

    def expect(self, pattern, within=SECONDS, stream="out"):
        """Waits for a line that matches, after those already expected; returns the match."""
        deadline = time.monotonic() + within
        with self.changed:
            while True:
                while self.seen < len(self.lines):
                    name, text = self.lines[self.seen]
                    self.seen += 1
                    if name == stream and (match := re.search(pattern, text)):
                        return match
                ended = self.process.poll() is not None and not any(t.is_alive() for t in self.threads)
                left = deadline - time.monotonic()
                if ended or left <= 0:
                    break
                self.changed.wait(min(left, 0.2))
        how = f"it ended with {self.process.returncode}" if ended else f"not within {within:.0f} s"
        raise Failed(f"no line like {pattern!r}: {how}{self._shown()}")

    def say(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError as e:
            raise Failed(f"it takes no {line!r}: {e}{self._shown()}") from None

    def interrupt(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def wait(self, within=SECONDS, status=None):
        """Waits for its end; returns the exit status (negative: the signal that ended it)."""
        try:
            self.process.stdin.close()
        except OSError:
            pass  # it no longer listens
        try:
            ended = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise Failed(f"still running after {within:.1f} s{self._shown()}") from None
        for thread in self.threads:
            thread.join(SECONDS)
        self.seconds = time.monotonic() - self.started
        if status is not None and ended != status:
            raise Failed(f"exit status {ended}, not {status}{self._shown()}")
        return ended


def run(*argv, within=SECONDS, status=0, feed=""):
    """Runs a program to its end; returns it. `status` None: any exit status will do."""
    with Program(*argv) as program:
        for line in feed.splitlines():
            program.say(line)
        program.wait(within, status)
        return program


def parallel(*actions):
    """Runs the actions at the same time; returns their values in order, or raises the first failure."""
    results = [None] * len(actions)

    def act(n, action):
        try:
            results[n] = action(), None
        except Exception as e:
            results[n] = None, e
    threads = [threading.Thread(target=act, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _, error in results:
        if error is not None:
            raise error
    return [value for value, _ in results]


# ---- the VM's hardware -----------------------------------------------------------------------------------------------

DEVICES = pathlib.Path("/sys/bus/usb/devices")


def usb_devices(vendor, product):
    """The sysfs names of configured devices with these ids, as they are now."""
    found = []
    for file in DEVICES.glob("*/idVendor"):
        try:
            device = file.parent
            ids = file.read_text().strip(), (device / "idProduct").read_text().strip()
            if ids == (vendor, product) and list(device.glob("*:*.*")):
                found.append(device.name)
        except OSError:
            continue  # unplugged while we looked
    return sorted(found)


def vhci_devices():
    """The sysfs names of the devices on the virtual host controller."""
    hubs = {link.name for link in DEVICES.glob("usb*") if "vhci_hcd" in str(link.resolve())}
    return [d.name for d in DEVICES.glob("[0-9]*-*") if ":" not in d.name and "usb" + d.name.partition("-")[0] in hubs]


def wait_for_usb(count):
    """Waits until so many of QEMU's readers are there, and whoever listens to udev has been told."""
    wait_until(lambda: len(usb_devices("08e6", "4433")) == count, f"{count} of QEMU's readers on the USB")
    subprocess.run(["udevadm", "settle"], check=True)


def plug_afresh():
    """Takes all of the machine's readers out and puts them in again, each with its card."""
    readers = range(int(os.environ["ARENA_READERS"]))
    for reader in readers:
        subprocess.run(["arenactl", "reader-unplug", str(reader)], stdout=subprocess.DEVNULL)  # it may be out already
    wait_for_usb(0)
    for reader in readers:
        reader_plug(reader)
        if os.environ["ARENA_CARDS"] != "none":
            card_insert(reader)
    wait_for_usb(len(readers))


def arenactl(*words):
    done = subprocess.run(["arenactl", *map(str, words)], capture_output=True, text=True, timeout=SECONDS)
    require_equal(done.returncode, 0, f"arenactl {words}: {done.stdout}{done.stderr} status")
    return done.stdout


def card_insert(reader=0):
    arenactl("card-insert", reader)


def card_remove(reader=0):
    arenactl("card-remove", reader)


def card_commands(reader=0):
    """The commands that have reached the card, oldest first: says when one is under way, and that none came twice."""
    return [bytes.fromhex(word) for word in arenactl("card-commands", reader).split()]


def times_given(command, reader=0):
    """How often the card has been given a command (hexadecimal): with these bytes, and P3 where it is of case 1."""
    return sum(given.startswith(bytes.fromhex(command)) for given in card_commands(reader))


def wait_for_command(command, reader=0, before=0):
    """Waits until the card has been given a command more often than `before` times."""
    wait_until(lambda: times_given(command, reader) > before, f"the card is given {command}")


def reader_plug(reader=0):
    arenactl("reader-plug", reader)


def reader_unplug(reader=0):
    arenactl("reader-unplug", reader)


@contextlib.contextmanager
def pcscd(driver="libccid"):
    """The usual daemon, ready for clients, for as long as the block runs: with the usual driver, or with ours."""
    with bundle() if driver == "scard" else contextlib.nullcontext(), pcscd_alone() as daemon:
        yield daemon


@contextlib.contextmanager
def bundle():
    """This project's driver among pcscd's, for as long as the block runs."""
    run("scard", "install", "bundle")
    try:
        yield
    finally:
        run("scard", "uninstall", "bundle")


@contextlib.contextmanager
def pcscd_alone():
    """The usual daemon with the drivers that are there."""
    comm = pathlib.Path("/run/pcscd/pcscd.comm")
    try:
        with Program("pcscd", "--foreground") as daemon:
            wait_until(lambda: comm.exists() or daemon.process.poll() is not None, "pcscd listens")
            yield daemon
            daemon.interrupt(signal.SIGTERM)  # so that it takes its socket away
            daemon.wait()
    finally:
        comm.unlink(missing_ok=True)  # of one that had to be killed


def teach_libccid(vendor, product, name):
    """libccid takes no reader that its list lacks."""
    info = pathlib.Path("/usr/lib/pcsc/drivers/ifd-ccid.bundle/Contents/Info.plist")
    text = info.read_text()
    for key, value in (("ifdVendorID", f"0x{vendor}"), ("ifdProductID", f"0x{product}"), ("ifdFriendlyName", name)):
        text, count = re.subn(rf"(<key>{key}</key>\s*<array>)", rf"\1<string>{value}</string>", text)
        require_equal(count, 1, f"arrays {key}")
    info.resolve().write_text(text)


def load_vhci():
    """Puts the virtual host controller into the kernel."""
    run("modprobe", "vhci-hcd")
    wait_until(pathlib.Path("/sys/devices/platform/vhci_hcd.0/attach").exists, "vhci-hcd is there")
