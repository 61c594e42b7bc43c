"""The tests that need a GPU, and the compute sanitizer over a small set of calls: python -m bench.gpu_check.

The sanitizer does not run everywhere (some virtual machines and containers keep it from the device); where it does not,
that is said, and nothing else depends on it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time

TESTS = ["tests/test_cuda.py", "tests/test_cuda_device.py"]
TOOLS = {"memcheck": "ERROR SUMMARY: 0 errors", "racecheck": "RACECHECK SUMMARY: 0 hazards"}


def run(command: list[str], seconds: float, **environment: str) -> tuple[int | None, str]:
    """(exit status, or None where the time was up; what it said)."""
    done = None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, env=os.environ | environment
        )
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"") + (late.stderr or b"")
        return None, said.decode(errors="replace") if isinstance(said, bytes) else said
    return done.returncode, done.stdout + done.stderr


def tests(seconds: float) -> bool:
    needed = [name for name in ("pytest", "mpmath", "ml_dtypes", "torch") if importlib.util.find_spec(name) is None]
    if needed:
        print(f"tests on the device: need {', '.join(needed)}, not installed here; bench.gpu checks what it times")
        return True
    start = time.monotonic()
    # What other libraries warn of is not what is tested here, nor are the README's examples.
    options = ["-q", "-ra", "-p", "no:cacheprovider", "-W", "default", "--override-ini=addopts=", "--maxfail=20"]
    if importlib.util.find_spec("xdist") is not None:
        options += ["-n", str(min(8, os.cpu_count() or 1))]
    status, said = run([sys.executable, "-m", "pytest", *options, *TESTS], seconds)
    print(said[-6000:])
    late = "" if status is not None else f", stopped after {seconds:.0f} s"
    print(f"tests on the device: {'passed' if status == 0 else 'FAILED'}, {time.monotonic() - start:.0f} s{late}")
    return status == 0


def sanitizer(seconds: float) -> bool:
    program = shutil.which("compute-sanitizer")
    if program is None:
        print("compute-sanitizer: not on the PATH, not run")
        return True
    good = True
    for tool, clean in TOOLS.items():
        # Each tensor in an allocation of its own: what lies beside it is nobody's.
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "bench.gpu_small"]
        status, said = run(command, seconds, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
        summary = next((line.strip("= ") for line in said.splitlines() if "SUMMARY" in line), None)
        if status == 0 and clean in said:
            print(f"compute-sanitizer {tool}: clean")
        elif summary is not None and clean not in said:
            good = False
            print(f"{said[-4000:]}\ncompute-sanitizer {tool}: {summary}")
        elif status is None:
            print(f"compute-sanitizer {tool}: not done after {seconds:.0f} s, nothing found until then")
        else:
            first = next((line for line in said.splitlines() if line.strip("= ")), "it said nothing")
            print(f"compute-sanitizer {tool}: does not run here ({first.strip('= ')})")
    return good


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--test-seconds", type=float, default=130.0)
    parser.add_argument("--sanitizer-seconds", type=float, default=40.0, help="for each of its tools")
    options = parser.parse_args(arguments)
    import xent.cuda

    if not xent.cuda.is_available():
        print(f"nothing to check on: {xent.cuda._why_not()}")
        return 1
    print(xent.cuda.device_info(0), flush=True)
    return 0 if tests(options.test_seconds) & sanitizer(options.sanitizer_seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
