"""All benchmarks, one after another: `python -m bench` (about half an hour), or `python -m bench quick`.

Each can be run alone with sizes of its own; its module says how.
"""

import subprocess
import sys

FULL = (
    ("bench.import_rate",),
    ("bench.contact_csv",),
    ("bench.sandbox_rate",),
    ("bench.sms_rate", "20000", "3"),
    ("bench.email_rate", "100000", "3"),
    ("bench.event_intake", "200000", "1000"),
    ("bench.export_rate", "10000", "1000000"),
    ("bench.delete_disturbance", "300000"),
    ("bench.message_pages", "300000", "30"),
    ("bench.watch_many", "1000", "20000"),
    ("bench.memory", "10000", "300000"),
    ("bench.stop_latency", "50"),
    ("bench.retry_rate", "300000"),
    ("bench.recovery", "3", "20"),
)
QUICK = (
    ("bench.contact_csv", "30000"),
    ("bench.sms_rate", "5000", "1"),
    ("bench.email_rate", "20000", "1"),
    ("bench.event_intake", "50000", "1000"),
    ("bench.export_rate", "10000", "100000"),
    ("bench.delete_disturbance", "30000"),
    ("bench.message_pages", "30000", "10"),
    ("bench.watch_many", "100", "5000"),
    ("bench.memory", "2000", "10000"),
    ("bench.stop_latency", "5"),
    ("bench.retry_rate", "30000"),
    ("bench.recovery", "1", "4"),
)


def main() -> int:
    failed = 0
    for module, *arguments in QUICK if sys.argv[1:] == ["quick"] else FULL:
        print(f"\n== python -m {module} {' '.join(arguments)}".rstrip(), flush=True)
        failed += bool(
            subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
