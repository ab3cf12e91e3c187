"""Draws lives, runs them, reduces those that fail to the fewest steps, and writes them down."""

import json
import random
import re
import time

import hypothesis
from hypothesis import HealthCheck, Phase

from . import differences, generate, life as lives, sweep
from .compare import Comparison

# Runs that reducing one failure may take.
REDUCTIONS = 60


def judge(life, backend, quiet, counts=None):
    """The findings of one life."""
    life = dict(life, driver=backend.name)
    stock, ours = lives.run(life, backend, quiet)
    try:
        return Comparison(life, stock, ours, {} if counts is None else counts).all(), (stock, ours)
    finally:
        stock.close(), ours.close()


def reduced(life, signature, backend, deadline):
    """The fewest steps and the plainest configuration that still show the finding of this signature."""
    runs = 0

    def fails(candidate):
        nonlocal runs
        if runs >= REDUCTIONS or time.monotonic() > deadline:
            return False
        runs += 1
        findings, _ = judge(candidate, backend, lives.QUICK)
        if not any(finding.signature == signature for finding in findings):
            return False
        findings, _ = judge(candidate, backend, lives.PATIENT)
        return any(finding.signature == signature for finding in findings)

    life = _fewer_steps(life, fails)
    return _plainer(life, fails)


def _fewer_steps(life, fails):
    size = max(1, len(life["steps"]) // 2)
    while size:
        at = 0
        while at < len(life["steps"]):
            shorter = dict(life, steps=life["steps"][:at] + life["steps"][at + size :])
            if shorter["steps"] and fails(shorter):
                life = shorter
            else:
                at += size
        size //= 2
    return life


def _plainer(life, fails):
    config = life["config"]
    for name in list(config["params"]):
        params = {key: value for key, value in config["params"].items() if key != name}
        if fails(dict(life, config=dict(config, params=params))):
            config = dict(config, params=params)
            life = dict(life, config=config)
    for name, plain in (
        ("route", "plain"),
        ("transport", "udp"),
        ("rules", False),
        ("sla", False),
        ("xcap", False),
        ("notifiers", 0),
        ("ours", {}),
        ("companions", {}),
        ("workers", 1),
    ):
        if config.get(name, plain) != plain and fails(dict(life, config=dict(config, **{name: plain}))):
            config = dict(config, **{name: plain})
            life = dict(life, config=config)
    for index, step in enumerate(life["steps"]):
        for name in ("shape", "event_more", "agent", "accept", "contact", "headers", "ruri", "kind", "from"):
            if name in step:
                plainer = {key: value for key, value in life["steps"][index].items() if key != name}
                candidate = dict(life, steps=life["steps"][:index] + [plainer] + life["steps"][index + 1 :])
                if fails(candidate):
                    life = candidate
    return life


def replay(life, backend):
    """Runs one life and prints what differs: 0 when nothing does."""
    findings, _ = judge(life, backend, lives.PATIENT)
    for finding in findings:
        print(finding)
    print("%d differences" % len(findings))
    return 1 if findings else 0


class Explorer:
    def __init__(self, backend, keep=None, mode=None, length=12, reduce=True, ignore=None, part=None):
        self.backend, self.keep, self.mode, self.length, self.reduce = backend, keep, mode, length, reduce
        self.part = part
        self.ignore = re.compile(ignore) if ignore else None
        self.failures = {}  # signature -> (finding, life)
        self.counts = {}  # declared differences that occurred
        self.lives = self.unsure = 0
        self.seen_again = 0

    def explore(self, seconds, seed, most=None):
        """Round after round until the time is over, or `most` lives are lived: then a seed means the same lives on each
        machine."""
        end = time.monotonic() + seconds
        self.most = most
        while time.monotonic() < end and not self._enough():
            self._round(seed, end)
            seed += 1

    def sweep(self, seconds, seed, most=None):
        """Each odd value once, in an order that the seed decides, until the time is over or `most` lives are lived."""
        end = time.monotonic() + seconds
        chance = random.Random(seed)
        modes = (0, 1, 2, 3) if self.mode is None else (self.mode,)
        found = [life for mode in modes for life in sweep.lives(mode, self.backend.outside)]
        chance.shuffle(found)
        for life in found[:most]:
            if time.monotonic() < end:
                self._live(life, end)

    def _enough(self):
        return self.most is not None and self.lives >= self.most

    def _round(self, seed, end):
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=50,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            verbosity=hypothesis.Verbosity.quiet,
        )
        @hypothesis.given(generate.lives(self.mode, self.length, self.backend.outside, self.part))
        def one(life):
            if time.monotonic() < end and not self._enough():
                self._live(life, end)

        one()

    def _live(self, life, end):
        self.lives += 1
        findings, _ = judge(life, self.backend, lives.QUICK, self.counts)
        if self.lives % 25 == 0:
            print("%d lives, %d failures" % (self.lives, len(self.failures)), flush=True)
        if not findings:
            return
        if self._is_known(findings[0]):
            return
        again, _ = judge(life, self.backend, lives.PATIENT)
        if not again:
            self.unsure += 1
            return
        finding = again[0]
        if self._is_known(finding):
            return
        self.failures[finding.signature] = (finding, life)
        print("found: %s" % finding, flush=True)
        if self.reduce:
            life = reduced(life, finding.signature, self.backend, max(end, time.monotonic() + 60))
        self.failures[finding.signature] = (finding, life)
        path = self._write(finding, life)
        print(
            "%d steps%s\n%s" % (len(life["steps"]), ", kept in %s" % path if path else "", json.dumps(life)), flush=True
        )

    def _is_known(self, finding):
        again = finding.signature in self.failures
        self.seen_again += again
        return again or bool(self.ignore and self.ignore.search(finding.signature))

    def _write(self, finding, life):
        if not self.keep:
            return None
        self.keep.mkdir(parents=True, exist_ok=True)
        name = "".join(c if c.isalnum() else "-" for c in finding.signature.lower())[:80].strip("-")
        path = self.keep / (name + ".json")
        path.write_text(json.dumps(dict(life, driver=self.backend.name, finding=str(finding)), indent=1) + "\n")
        return path

    def report(self):
        print(
            "%d lives; %d failures of which %d were seen again; %d that did not show again"
            % (self.lives, len(self.failures), self.seen_again, self.unsure)
        )
        for finding, _ in self.failures.values():
            print(finding)
        silent = [one.name for one in differences.DIFFERENCES if one.name not in self.counts]
        print(
            "declared differences that occurred: %s" % ", ".join("%s %d" % item for item in sorted(self.counts.items()))
        )
        print("declared differences that did not: %s" % ", ".join(silent))
