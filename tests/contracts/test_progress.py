"""What a waiting user is told."""

import io

import pytest
from rich.console import Console

from mmdjax.runtime import progress


@pytest.fixture
def reporter():
    made = progress.Reporter()
    made.console = Console(file=io.StringIO(), width=200)
    return made


def said(reporter) -> list[str]:
    return reporter.console.file.getvalue().splitlines()


def test_speed_and_time_left_are_those_after_the_first_step_which_compiles(reporter, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with reporter.phase("classifier", 10) as phase:
        now[0] = 100.0  # of compiling
        phase.advance()
        assert not said(reporter)
        now[0] = 125.0
        phase.at(6, 10)  # five steps in 25 seconds
    assert said(reporter)[0].split("  ")[:3] == [
        "classifier: 6/10",
        "0.2/s",
        "at most 20 s left",
    ]


def test_a_phase_that_has_not_moved_yet_says_that_it_compiles(reporter, monkeypatch):
    timers = []

    class Timer:
        def __init__(self, _, tell):
            timers.append(self)
            self.tell, self.cancelled = tell, False

        def start(self):
            pass

        def cancel(self):
            self.cancelled = True

    monkeypatch.setattr(progress.threading, "Timer", Timer)
    with reporter.phase("classifier", 10) as phase:
        timers[0].tell()
        assert said(reporter) == ["classifier: compiling"]
        phase.advance()
        assert timers[0].cancelled


def test_a_bar_of_unknown_length_is_not_full():
    reporter = progress.Reporter()
    reporter.console = Console(file=io.StringIO(), width=200, force_terminal=True)
    with reporter.phase("utterances", 0):
        pass
    text = reporter.console.file.getvalue()
    assert "0/?" in text and "compiling" in text and "0/0" not in text
