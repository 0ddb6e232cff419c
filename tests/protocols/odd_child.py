"""A process that misbehaves, for `test_child`."""

import os
import signal
import time

import numpy as np

from mmdjax.data.formats import child


def size(request, content):
    return {"size": len(content)}, []


def grow(request, content):
    return {}, [np.ones(2**30)]


def spin(request, content):
    while True:
        pass


def sleep(request, content):
    time.sleep(1000)


def fall(request, content):
    os.kill(os.getpid(), signal.SIGSEGV)


def main() -> None:
    requests = {"size": size, "grow": grow, "spin": spin, "sleep": sleep, "fall": fall}
    child.serve(requests, str)
