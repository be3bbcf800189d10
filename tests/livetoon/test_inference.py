"""One OpenVINO core, whoever asks."""

import os
import subprocess
import sys

import pytest

FOUR_AT_ONCE = """
import threading, time
import openvino
from livetoon.inference import openvino_core

made, found, honest, start = [], [], openvino.Core, threading.Barrier(4)

def slow():
    made.append(1)
    time.sleep(0.1)
    return honest()

def ask():
    start.wait()
    found.append(openvino_core())

openvino.Core = slow
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(made), len(found), len(set(map(id, found))))
"""


def test_threads_that_come_at_once_get_the_same_core():
    ended = subprocess.run([sys.executable, "-c", FOUR_AT_ONCE], capture_output=True, text=True)
    assert ended.stdout.split() == ["1", "4", "1"], ended.stderr


ASKS = """
import socket
socket.getaddrinfo = lambda *asked, **options: print("asked for", asked[0], flush=True)
import {first}
import openvino
openvino.Core()
"""


@pytest.mark.parametrize(("first", "quiet"), [("livetoon", True), ("sys", False)])
def test_openvino_tells_nobody_that_it_was_imported(tmp_path, first, quiet):
    """By itself it does: that is what this test would notice. It does not where CI is set."""
    environment = {**{name: value for name, value in os.environ.items() if name != "CI"}, "HOME": str(tmp_path)}
    command = [sys.executable, "-c", ASKS.format(first=first)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout == "" and not list(tmp_path.iterdir())) is quiet, ended.stdout
