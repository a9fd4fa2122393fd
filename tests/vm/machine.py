"""One run of the virtual machine: QEMU with its readers, the cards in them, and a command in the guest.

Knows QEMU and the line protocol of guest/arenactl; builds nothing.
"""
import contextlib
import json
import os
import pathlib
import selectors
import shlex
import socket
import subprocess
import sys
import threading
import time

from image import CERTIFICATES, INITRD, KERNEL, NSS, ROOT, Failure, say
from peer import Peer

CONTROLLERS = {
    "xhci": ["qemu-xhci,id=usb,p2=15,p3=4"],
    "uhci": ["piix3-usb-uhci,id=usb"],
    "ehci": ["ich9-usb-ehci1,id=usb,addr=1d.7,multifunction=on"] + [
        f"ich9-usb-uhci{n + 1},masterbus=usb.0,firstport={2 * n},addr=1d.{n},multifunction=on" for n in range(3)],
}
TIMED_OUT, DIED = 124, 125


def best_accel():
    """KVM, if it is the kind that runs any kernel (PVM runs only kernels made for it)."""
    real = any(pathlib.Path("/sys/module", m).exists() for m in ("kvm_intel", "kvm_amd"))
    return "kvm" if real and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"


def qemu_options(options):
    driver, *rest = options.items()
    return ",".join([driver[1]] + [f"{k}={str(v).replace(',', ',,')}" for k, v in rest])


class Reader:
    """A usb-ccid in its port, and what is in its slot: "cac" (libcacard), "peer" (peer.py) or "none" (nothing, ever)."""

    def __init__(self, number, kind, port, pcap):
        self.number, self.kind, self.port, self.pcap = number, kind, port, pcap
        self.plugs = 0
        self.has_card_device = False
        self.peer = None

    def options(self):
        options = {"driver": "usb-ccid", "id": f"reader{self.number}", "bus": "usb.0", "port": self.port}
        if self.pcap:  # QEMU starts a file anew at each plug
            parts = [str(self.pcap)] + [str(self.number)] * (self.number > 0)
            options["pcap"] = ".".join(parts + [f"plug{self.plugs}"] * (self.plugs > 0))
        self.plugs += 1
        return options

    def card_options(self):
        options = {"id": f"card{self.number}", "bus": f"reader{self.number}.0"}
        if self.kind == "cac":
            certs = {f"cert{i}": name for i, name in enumerate(CERTIFICATES, 1)}
            return {"driver": "ccid-card-emulated", **options, "backend": "certificates", "db": f"sql:{NSS}", **certs}
        return {"driver": "ccid-card-passthru", **options, "chardev": f"peer{self.number}"}


class Machine:
    """`settings` are the options of `arena run`; `tmp` is an empty folder for sockets."""

    def __init__(self, settings, tmp):
        self.settings, self.tmp = settings, tmp
        kinds = (settings.card or ["cac"]) if settings.readers else []
        kinds += (["none"] if kinds[-1:] == ["none"] else ["peer"]) * (settings.readers - len(kinds))
        # The UHCI root hub has two ports; a hub in the second makes room.
        self.needs_hub = settings.usb == "uhci" and settings.readers > 2
        ports = [f"2.{n}" if self.needs_hub and n else str(n + 1) for n in range(settings.readers)]
        self.readers = [Reader(n, kind, port, settings.pcap) for n, (kind, port) in enumerate(zip(kinds, ports))]
        self.monitor_lock = threading.Lock()

    def command_line(self):
        s, tmp = self.settings, self.tmp
        accel = s.accel or best_accel()
        line = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-machine", "pc", "-accel", accel + (",thread=multi" if accel == "tcg" else ""),
                "-cpu", "host" if accel == "kvm" else "max,svm=off", "-smp", str(s.cpus), "-m", str(s.memory),
                "-kernel", str(KERNEL), "-initrd", str(INITRD),
                # On a busy host the emulated timer may be late enough to be taken for broken: no_timer_check.
                "-append", "console=ttyS0 no_timer_check quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on "
                           f"cryptomgr.notests arena.readers={s.readers}" + " arena.systemd" * s.systemd,
                "-serial", f"file:{self.console()}",
                "-drive", f"file={ROOT},format=raw,if=virtio,read-only=on",
                "-fw_cfg", f"name=opt/arena/command,file={tmp / 'command'}",
                "-virtfs", f"local,path={s.share or tmp / 'share'},mount_tag=share,security_model=none",
                "-object", "rng-random,filename=/dev/urandom,id=rng", "-device", "virtio-rng-pci,rng=rng",
                "-chardev", f"socket,id=qmp,path={tmp / 'qmp'}", "-mon", "chardev=qmp,mode=control",
                "-device", "virtio-serial-pci"]
        for port in ("ctl", "out", "err"):
            line += ["-chardev", f"socket,id={port},path={tmp / port}",
                     "-device", f"virtserialport,chardev={port},name=arena.{port}"]
        for device in CONTROLLERS[s.usb] + ["usb-hub,bus=usb.0,port=2"] * self.needs_hub:
            line += ["-device", device]
        for reader in self.readers:
            line += ["-device", qemu_options(reader.options())]
            if reader.kind == "peer":
                line += ["-chardev", f"socket,id=peer{reader.number},path={tmp / f'peer{reader.number}'}"]
            if reader.kind != "none":
                line += ["-device", qemu_options(reader.card_options())]
                reader.has_card_device = True
        return line + s.qemu

    def console(self):
        return self.settings.console or self.tmp / "console"

    # ---- what the guest asks of the hardware -------------------------------------------------------------------------

    def qmp(self, execute, **arguments):
        return self.qmp_raw({"execute": execute, "arguments": arguments})

    def qmp_raw(self, request):
        with self.monitor_lock:
            self.monitor.write(json.dumps(request).encode() + b"\n")
            self.monitor.flush()
            while True:
                answer = json.loads(self.monitor.readline())
                if "event" not in answer:
                    break
        if "error" in answer:
            raise RuntimeError(answer["error"]["desc"])
        return answer["return"]

    def control(self, words):
        """Does one line from the guest; returns text for it."""
        verb, rest = words[0], words[1:]
        if verb == "qmp":
            return json.dumps(self.qmp_raw(json.loads(rest[0])))
        number = int(rest[0]) if rest else 0
        if not 0 <= number < len(self.readers):
            raise RuntimeError("no such reader")
        reader = self.readers[number]
        if verb == "card-insert":
            if not reader.has_card_device:
                self.qmp("device_add", **reader.card_options())
                reader.has_card_device = True
            if reader.peer:
                reader.peer.insert()
        elif verb == "card-remove":
            if reader.peer:
                reader.peer.remove()
            else:
                self.qmp("device_del", id=f"card{number}")
                reader.has_card_device = False
        elif verb == "card-commands" and reader.peer:
            return " ".join(command.hex() for command in list(reader.peer.commands))
        elif verb == "reader-unplug":
            if reader.peer:
                reader.peer.prepare_to_be_unplugged()
            self.qmp("device_del", id=f"reader{number}")
            reader.has_card_device = False
        elif verb == "reader-plug":
            self.qmp("device_add", **reader.options())
        else:
            raise RuntimeError("unknown request " + verb)
        return ""

    # ---- the run -----------------------------------------------------------------------------------------------------

    def listen(self, name):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.tmp / name))
        listener.listen(1)
        listener.settimeout(0.1)
        return listener

    def accept(self, listener):
        while True:
            try:
                connection = listener.accept()[0]
                connection.settimeout(None)
                return connection
            except TimeoutError:
                if self.qemu.poll() is not None:
                    raise Failure("QEMU did not start") from None

    def run(self, command):
        """Boots, runs `command` (a shell line), passes its output on; returns its exit status."""
        (self.tmp / "share").mkdir()
        (self.tmp / "command").write_text(command + "\n")
        peers = [reader for reader in self.readers if reader.kind == "peer"]
        names = ["ctl", "out", "err", "qmp"] + [f"peer{reader.number}" for reader in peers]
        listeners = {name: self.listen(name) for name in names}
        started = time.monotonic()
        self.qemu = subprocess.Popen(self.command_line(), stdin=subprocess.DEVNULL)
        try:
            sockets = {name: self.accept(listener) for name, listener in listeners.items()}
            for reader in peers:
                reader.peer = Peer(sockets[f"peer{reader.number}"])
                reader.peer.insert()
            self.monitor = sockets["qmp"].makefile("rwb")
            try:
                self.monitor.readline()
                self.qmp("qmp_capabilities")
                status = self.serve({name: sockets[name] for name in ("ctl", "out", "err")}, started)
            except (ConnectionError, json.JSONDecodeError):
                status = None
            if status is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.qemu.wait(10)  # it is about to end
        finally:
            self.qemu.kill()
            self.qemu.wait()
        if status is None:
            say(f"the VM ended early (QEMU with {self.qemu.returncode}); its console:")
            sys.stderr.write(pathlib.Path(self.console()).read_text(errors="replace"))
            status = DIED
        if self.settings.time:
            say(f"{time.monotonic() - started:.1f} s in all")
        return status

    def serve(self, ports, started):
        """Passes the guest's output on and does its requests, until it reports the command's status."""
        outputs = {"out": sys.stdout.buffer, "err": sys.stderr.buffer}
        selector = selectors.DefaultSelector()
        for name, port in ports.items():
            selector.register(port, selectors.EVENT_READ, name)
        status, pending = None, b""
        while selector.get_map():
            left = started + self.settings.timeout - time.monotonic()
            if left <= 0:
                say(f"no end after {self.settings.timeout:.0f} s")
                return TIMED_OUT
            for key, _ in selector.select(left):
                data = key.fileobj.recv(65536)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.data in outputs:
                    outputs[key.data].write(data)
                    outputs[key.data].flush()
                else:
                    *lines, pending = (pending + data).split(b"\n")
                    for line in lines:
                        words = shlex.split(line.decode())
                        if words[:1] == ["exit"]:
                            status = int(words[1])
                            self.qmp("quit")
                        else:
                            key.fileobj.sendall(self.reply(words).encode() + b"\n")
        return status

    def reply(self, words):
        try:
            return "ok " + self.control(words)
        except (RuntimeError, ValueError, OSError, IndexError) as e:
            return f"error {e}"
