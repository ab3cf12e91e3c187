"""A wall clock that a scenario sets: a small library in front of the C library adds seconds to the time of day, and to
nothing else."""
import mmap
import struct
import subprocess

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long ahead(void) {
    static volatile long *at;
    if (!at) {
        int file = open(getenv("WALL_CLOCK"), O_RDONLY);
        at = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        close(file);
    }
    return *at;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        now->tv_sec += ahead();
    return done;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}
"""


class WallClock:
    """The clock of the servers that are started with `environment`."""

    def __init__(self, folder):
        library, number = folder / "wall_clock.so", folder / "wall_clock"
        compiler = ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library)]
        subprocess.run(compiler, input=SOURCE.encode(), check=True)
        number.write_bytes(struct.pack("l", 0))
        self.file = open(number, "r+b")
        self.memory = mmap.mmap(self.file.fileno(), 0)
        self.ahead = 0
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(number)}

    def set_by(self, seconds):
        self.ahead += seconds
        self.memory[:] = struct.pack("l", self.ahead)
