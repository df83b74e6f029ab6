"""The fuzzer's own modules are found next to its tests, as its command finds them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
