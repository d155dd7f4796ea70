"""The decoder process on a kernel without Landlock."""

import errno

from vqmon.media.decode import worker
from vqmon.media.decode.sandbox import landlock


def _refuse() -> int:
    raise OSError(errno.ENOSYS, "Function not implemented")


if __name__ == "__main__":
    landlock.landlock_abi = _refuse
    worker.main()
