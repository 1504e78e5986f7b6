"""Coverage-guided fuzzing of everything that reads what somebody else has written.

    python tests/fuzz/fuzz.py checkpoint -max_total_time=60
    python tests/fuzz/fuzz.py --list

A target reads each input and may raise its one error for people; anything else, and an error
text of more than a line, is a finding. What follows the target's name are libFuzzer's options.
Needs atheris (requirements-fuzz.txt); tests/fuzz/test_targets.py runs the targets without it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).parent))


def main() -> int:
    """Fuzz the target that the command line names."""
    if sys.argv[1:] == ["--list"]:
        import targets

        print("\n".join(targets.TARGETS))
        return 0
    try:
        import atheris
    except ImportError:
        print(
            "atheris is missing: pip install -r requirements-fuzz.txt (Linux, Python 3.11 or"
            " newer); until then tests/fuzz/test_targets.py is what checks the targets",
            file=sys.stderr,
        )
        return 1
    with atheris.instrument_imports(include=["exps", "utils", "benchmarks", "targets"]):
        import targets
    name = sys.argv.pop(1)
    target = targets.TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(targets.seeds(name)):
            Path(corpus, str(number)).write_bytes(seed)
        options = ["-max_len=65536", "-timeout=20", "-rss_limit_mb=4096", *sys.argv[1:]]
        atheris.Setup([sys.argv[0], *options, corpus], lambda data: target(bytes(data)))
        atheris.Fuzz()  # ends the process
    return 0


if __name__ == "__main__":
    sys.exit(main())
