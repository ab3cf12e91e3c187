"""A name server that is silent: only NOTIFYs to names wait for it."""
import subprocess
import time

import pytest

from conftest import MODES
from kit.sip import pidf
from test_faults import faulty_modules  # noqa: F401  (a fixture)

# The look-up is made as slow as a silent name server makes it, and fails, as one that gives up does.
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <resolv.h>
#include <string.h>
#include <unistd.h>
static int slow(const char *name) {
    if (!strstr(name, "silent.example"))
        return 0;
    usleep(3000000);
    h_errno = TRY_AGAIN;
    return 1;
}
int res_search(const char *name, int class, int type, unsigned char *answer, int size) {
    int (*next)(const char *, int, int, unsigned char *, int);
    if (slow(name))
        return -1;
    next = dlsym(RTLD_NEXT, "res_search");
    if (!next)
        next = dlsym(RTLD_NEXT, "__res_search");
    return next(name, class, type, answer, size);
}
int __res_search(const char *name, int class, int type, unsigned char *answer, int size) {
    return res_search(name, class, type, answer, size);
}
struct hostent *gethostbyname2(const char *name, int family) {
    struct hostent *(*next)(const char *, int) = dlsym(RTLD_NEXT, "gethostbyname2");
    return slow(name) ? 0 : next(name, family);
}
"""


@pytest.fixture
def silent_names(tmp_path):
    library = tmp_path / "silent_names.so"
    compiler = ["cc", "-shared", "-fPIC", "-O1", "-w", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(compiler, input=SOURCE.encode(), check=True)
    return {"LD_PRELOAD": str(library)}


def notified_within(client, count, seconds):
    deadline = time.monotonic() + seconds
    while len(client.notifies) < count and time.monotonic() < deadline:
        client.receive(0.05)
    return len(client.notifies)


@pytest.mark.parametrize("mode", ["defaults", "memory", "database-only"])
@pytest.mark.parametrize("watchers", [3, 80])
def test_a_silent_name_server_keeps_only_names_waiting(ours, phones, silent_names, mode, watchers):
    server = ours(workers=1, environment=silent_names, **MODES[mode])
    alice, crowd = phones(server, "alice"), phones(server, "crowd")
    for _ in range(watchers):
        assert crowd.subscribe(alice.uri).reply.code == 200
    assert notified_within(crowd, watchers, 5) == watchers
    for number in range(3):
        slow = phones(server, "slow%d" % number)
        began = time.monotonic()
        target = "<sip:x@a%d.silent.example>" % number
        watch = slow.request("SUBSCRIBE", alice.uri, ["Event: presence", "Expires: 600"], contact=target)
        assert slow.reply_to(watch).code == 200 and time.monotonic() - began < 1
    began = time.monotonic()
    assert alice.publish(body=pidf(note="one")).code == 200
    assert notified_within(crowd, 2 * watchers, 2.5) == 2 * watchers, "the others are notified at once"
    assert time.monotonic() - began < 2.5


@pytest.mark.suite("stuck-lamp")
@pytest.mark.parametrize("mode", ["memory", "write-through", "database-only"])
def test_a_panic_in_the_process_that_looks_names_up(faulty_modules, ours, phones, mode):  # noqa: F811
    """It costs one attempt: the watcher is notified by the timer; after a second panic, of the next change."""
    server = ours(workers=1, before="dns=yes\nuse_dns_cache=no\n", **MODES[mode])
    alice, bob = phones(server, "alice"), phones(server, "bob")
    target = "<sip:x@localhost:%d>" % bob.port
    request = bob.request("SUBSCRIBE", alice.uri, ["Event: presence", "Expires: 600"], contact=target)
    assert bob.reply_to(request).code == 200 and notified_within(bob, 1, 5) == 1
    etag = None
    for number, (fault, panics) in enumerate([("panic-at-notify", 1), ("panic-at-notify*2", 2)], 1):
        log = server.log().count("panic while a NOTIFY was sent to the name of")
        etag = alice.publish(body=pidf(note="note %d" % number), etag=etag, extra=["X-Fault: " + fault]).get("SIP-ETag")
        notified_within(bob, len(bob.notifies) + 1, 4)
        assert server.alive() and server.log().count("panic while a NOTIFY was sent to the name of") - log == panics
        shown = [notify for notify in bob.notifies if b"note %d" % number in notify.body]
        assert len(shown) == (1 if panics == 1 else 0), [notify.text for notify in bob.notifies]
    alice.publish(body=pidf(note="last"), etag=etag)
    deadline = time.monotonic() + 5
    while b"last" not in bob.notifies[-1].body and time.monotonic() < deadline:
        bob.receive(0.05)
    assert b"last" in bob.notifies[-1].body
    numbers = [notify.cseq for notify in bob.notifies]
    assert numbers == sorted(set(numbers)), numbers


def test_a_name_that_failed_slowly_rests(ours, phones, silent_names):
    server = ours(workers=1, environment=silent_names, **MODES["memory"])
    alice, slow = phones(server, "alice"), phones(server, "slow")
    target = "<sip:x@b.silent.example>"
    request = slow.request("SUBSCRIBE", alice.uri, ["Event: presence", "Expires: 600"], contact=target)
    assert slow.reply_to(request).code == 200
    deadline = time.monotonic() + 30
    while "could not be sent" not in server.log() and time.monotonic() < deadline:
        time.sleep(0.2)
    # The next change costs no second look-up: it is known at once that it cannot be sent.
    failed = server.log().count("could not be sent")
    began = time.monotonic()
    alice.publish(body=pidf(note="one"))
    while server.log().count("could not be sent") == failed and time.monotonic() < began + 2:
        time.sleep(0.1)
    assert server.log().count("could not be sent") == failed + 1 and time.monotonic() - began < 2


def test_without_the_process_whoever_sends_waits(ours, phones, silent_names):
    server = ours(presence=dict(sender_processes=0, **MODES["memory"]["presence"]), workers=1, environment=silent_names)
    alice, slow = phones(server, "alice"), phones(server, "slow")
    target = "<sip:x@c.silent.example>"
    request = slow.request("SUBSCRIBE", alice.uri, ["Event: presence", "Expires: 600"], contact=target)
    assert slow.reply_to(request).code == 200
    began = time.monotonic()
    publish = slow.request("PUBLISH", alice.uri, ["Event: presence"], pidf(), contact=None)
    slow.reply_to(publish, timeout=20, resend=False)
    assert time.monotonic() - began > 1.5, "this is what the process is for"
