"""A worker of the fleet in a process of its own, with a look that costs nothing.

    python -m tests.acceptance.kafka.worker BOOTSTRAP --group G --prefix P [--most-seconds 0.05] [--gather-seconds 0.1]
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from datetime import UTC, datetime

from pipelines.fleet import Fleet, floor_of, open_group_of
from pipelines.member import stay_member
from tests.acceptance.kafka.looks import SlowLook, look_at_once
from vqmon.logs import set_up_logs
