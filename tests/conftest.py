"""What holds for all tests."""

from __future__ import annotations

import signal

# A shell starts programs in the background with Ctrl-C ignored; those that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
