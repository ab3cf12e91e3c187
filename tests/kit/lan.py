"""A network of a test's own: machines in network namespaces, and between them a wire that loses, doubles, delays and
cuts. Packets pass through this process, so that nothing is asked of the kernel but namespaces and tun devices."""
import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
NETWORK = "10.99.0."
# The machine of the phones.
HOME = 100


def libc(name, *arguments):
    done = getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments)
    if done != 0:
        raise OSError(ctypes.get_errno(), "%s: %s" % (name, os.strerror(ctypes.get_errno())))


def can_be_made():
    """Whether there may be namespaces and devices here; containers often allow neither."""
    tried = subprocess.run(["unshare", "-n", "ip", "tuntap", "add", "dev", "lan", "mode", "tun"], capture_output=True)
    return tried.returncode == 0


class Lan:
    """Machines 0 to `count` - 1, and one of the phones, in whose namespace the thread is that has made it."""

    def __init__(self, count, seed=0):
        self.chance = random.Random(seed)
        self.loss, self.doubled, self.delay, self.cuts = 0, 0, 0.0, set()
        self.before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.spaces, self.wires = {}, {}
        for at in [*range(count), HOME]:
            libc("unshare", CLONE_NEWNET)
            self.spaces[at] = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            self.wires[at] = self.plug_in(self.number(at))
        self.near, self.is_open = NETWORK + str(HOME), True
        self.on_the_way, self.sent = [], 0
        self.pump = threading.Thread(target=self.run, daemon=True)
        self.pump.start()

    @staticmethod
    def number(at):
        return at if at == HOME else at + 1

    @staticmethod
    def plug_in(number):
        wire = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(wire, TUNSETIFF, struct.pack("16sH", b"lan", IFF_TUN | IFF_NO_PI))
        for words in ("addr add %s%d/24 dev lan" % (NETWORK, number), "link set lan up", "link set lo up"):
            subprocess.run(["ip", *words.split()], check=True)
        return wire

    def address(self, at):
        return NETWORK + str(self.number(at))

    def machine(self, at):
        """The words before a command that runs there."""
        return ["nsenter", "--net=/proc/%d/fd/%d" % (os.getpid(), self.spaces[at])]

    def cut(self, *pairs):
        """From now on nothing comes from the first to the second of each pair, and all else does."""
        self.cuts = set(pairs)

    def fair(self):
        """Nothing is lost, doubled, late or cut from now on."""
        self.loss, self.doubled, self.delay, self.cuts = 0, 0, 0.0, set()

    def run(self):
        numbers = {self.number(at): at for at in self.wires}
        names = {wire: at for at, wire in self.wires.items()}
        while self.is_open:
            wait = min(0.2, max(0.0, self.on_the_way[0][0] - time.monotonic())) if self.on_the_way else 0.2
            for wire in select.select(list(names), [], [], wait)[0]:
                with contextlib.suppress(BlockingIOError):
                    packet = os.read(wire, 65536)
                    # IPv4 of this network alone.
                    is_ours = packet[0] >> 4 == 4 and packet[16:19] == bytes([10, 99, 0])
                    to = numbers.get(packet[19]) if is_ours else None
                    if to is not None:
                        self.take(names[wire], to, packet)
            while self.on_the_way and self.on_the_way[0][0] <= time.monotonic():
                _, _, to, packet = heapq.heappop(self.on_the_way)
                with contextlib.suppress(OSError):
                    os.write(self.wires[to], packet)

    def take(self, sender, to, packet):
        among_nodes = HOME not in (sender, to)
        if among_nodes and ((sender, to) in self.cuts or self.chance.random() * 100 < self.loss):
            return
        copies = 2 if among_nodes and self.chance.random() * 100 < self.doubled else 1
        for _ in range(copies):
            late = self.chance.random() * self.delay if among_nodes else 0.0
            self.sent += 1
            heapq.heappush(self.on_the_way, (time.monotonic() + late, self.sent, to, packet))

    def close(self):
        self.is_open = False
        self.pump.join()
        libc("setns", self.before, CLONE_NEWNET)
        for one in [self.before, *self.spaces.values(), *self.wires.values()]:
            os.close(one)
