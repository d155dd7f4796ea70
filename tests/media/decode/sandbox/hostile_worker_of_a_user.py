"""`hostile_worker` as a user without rights, when it is started by root."""

import os

from tests.media.decode.sandbox.hostile_worker import run
from vqmon.media.decode import worker

_NOBODY = 65_534


def _become_nobody() -> None:
    # this user may not be able to read the modules
    worker.import_late_modules()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)


if __name__ == "__main__":
    run(_become_nobody)
