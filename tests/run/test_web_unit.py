"""The browser application's own unit tests, in Node: geometry, descriptions, the state machine."""

import subprocess

from convert.site import WEB_SOURCES


def test_unit_tests_in_node():
    command = ["npm", "test", "--silent"]
    done = subprocess.run(command, cwd=WEB_SOURCES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
