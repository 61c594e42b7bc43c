"""Looks into compiled kernels: none may keep registers in memory, those that should move 16 bytes at a time must, and
those of floats use doubles for weights and temperatures alone, which is few instructions.

    python check_binaries.py OBJECT...

Needs cuobjdump, nvdisasm and c++filt: from the CUDA toolkit, or from PyPI as nvidia-cuda-cuobjdump and
nvidia-cuda-nvdisasm.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

USAGE = re.compile(r"Function (\S+):\n\s+(REG:.*)")
FIRST_WITH_CLUSTERS = 90
DOUBLES = re.compile(r"\bD(ADD|MUL|FMA|SETP|MNMX)\b")
# A row's weight, and with a temperature a quotient for each of the elements that a lane holds: at most 731 in the
# units that are compiled by `make cuda-units`.
MOST_DOUBLES = 800
# No kernel spills, but for a few registers of a cluster's that hold 16 bits: with less in each lane 65,536 classes
# would not fit, and with one block a multiprocessor nothing would be read while it computes.
SPILLING, MOST_STACK = re.compile(r"held<.*\bB?F16, xent::team<256, 256, 1, 8>"), 16
WIDE = {"load": re.compile(r"\bLDG\.E(\.\w+)*\.128\b"), "store": re.compile(r"\bSTG\.E(\.\w+)*\.128\b")}


def operations():
    text = (Path(__file__).parents[2] / "kernels" / "ops.def").read_text(encoding="utf-8")
    return re.findall(r"^OP\((\w+), *(\w+), *(\w+), *(\w+), *(\w+)\)", text, flags=re.MULTILINE)


OPERATIONS = operations()


def tool(name):
    """From the toolkit, or from where pip puts it."""
    beside = [Path(sys.executable).parent, *Path(sysconfig.get_paths()["purelib"]).glob("nvidia/*/bin")]
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, beside)]))
    if not found:
        sys.exit(f"{name} is not installed: it is in the CUDA toolkit, and on PyPI as nvidia-cuda-{name}")
    return found


def output(*command):
    # cuobjdump looks for nvdisasm on the path.
    path = os.pathsep.join([os.environ.get("PATH", ""), str(Path(tool("nvdisasm")).parent)])
    environment = dict(os.environ, PATH=path)
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def readable(names):
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return dict(zip(names, done.stdout.splitlines(), strict=True))


def capability(arch):
    """Of sm_90, sm_90a."""
    return int(re.search(r"\d+", arch)[0])


def shares_rows(kernel):
    """Whether the blocks of a cluster share a row: there is no code for that on older devices."""
    team = re.search(r"\bteam<\d+, \d+, \d+, (\d+)>", kernel)
    return team is not None and int(team[1]) > 1


def wanted(kernel, arch):
    """Which accesses of 16 bytes a kernel must have: (loads, stores)."""
    found = re.search(r"\b(held|stream)<xent::op_of<(\d+)>, ", kernel)
    if not found or (shares_rows(kernel) and capability(arch) < FIRST_WITH_CLUSTERS):
        return 0, 0
    packed = found[1] == "held" or re.search(r"\(xent::access_kind\)0", kernel) is not None
    if not packed:
        return 0, 0
    _, reduce, target, _, emit = OPERATIONS[int(found[2])]
    reads = (reduce not in ("NONE", "LABEL") or target == "POINT") + (target not in ("NONE", "LABELS"))
    return reads, int(emit != "NONE")


def problems(path):
    """What is wrong with an object's kernels, and how many there are."""
    wrong, kernels = [], 0
    usage = output(tool("cuobjdump"), "--dump-resource-usage", path)
    names = readable(sorted({name for name, _ in USAGE.findall(usage)}))
    arch = None
    for part in re.split(r"(?m)^arch = ", usage)[1:]:
        arch = part.split("\n", 1)[0].strip()
        for name, resources in USAGE.findall(part):
            kernels += 1
            used = dict(re.findall(r"(\w+):(\d+)", resources))
            most = MOST_STACK if SPILLING.search(names[name]) else 0
            if int(used["STACK"]) > most or int(used["LOCAL"]):
                wrong.append(f"{arch} {names[name]}: {used['STACK']} bytes of stack, {used['LOCAL']} of local memory")
    for part in re.split(r"(?m)^\s*arch = ", output(tool("cuobjdump"), "--dump-sass", path))[1:]:
        arch = part.split("\n", 1)[0].strip()
        for body in re.split(r"(?m)^\s*Function : ", part)[1:]:
            name, code = body.split("\n", 1)
            kernel = names[name.strip()]
            doubles = len(DOUBLES.findall(code))
            if doubles > MOST_DOUBLES and not re.search(r"\bF64\b|\bdouble\b", kernel):
                wrong.append(f"{arch} {kernel}: {doubles} instructions on doubles, in a kernel of floats")
            for what, least in zip(WIDE, wanted(kernel, arch), strict=True):
                there = len(WIDE[what].findall(code))
                if there < least:
                    wrong.append(f"{arch} {kernel}: {there} {what}s of 16 bytes, at least {least} expected")
    return wrong, kernels


def main(paths):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(problems, paths))
    wrong = [line for lines, _ in found for line in lines]
    print("\n".join([*wrong, f"{sum(n for _, n in found)} kernels in {len(paths)} objects, {len(wrong)} complaints"]))
    return bool(wrong) or not any(n for _, n in found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
