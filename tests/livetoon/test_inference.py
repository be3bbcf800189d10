"""One OpenVINO core, whoever asks."""

import subprocess
import sys

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
