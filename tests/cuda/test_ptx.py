"""The machine that runs PTX, which test_ptx_kernels.py stands on: every instruction computes what it should, and what a
device leaves undefined is said, with the place.
"""

from fractions import Fraction

import host_cuda
import host_ptx
import mpmath
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(host_cuda.compiler() is None, reason="needs a C++ compiler")

HEAD = """.version 8.0
.target sm_90
.address_size 64
.shared .align 16 .b8 room[512];
.visible .entry f(
    .param .align 8 .b8 f_param_0[{bytes}]
)
{{
    .reg .pred %p<9>;
    .reg .b16 %h<9>;
    .reg .b32 %r<9>;
    .reg .f32 %f<9>;
    .reg .b64 %d<9>;
    ld.param.u64 %d8, [f_param_0];
    mov.u32 %r8, %tid.x;
    mul.wide.u32 %d7, %r8, 4;
    add.s64 %d7, %d8, %d7;
"""


def program(body, parameters=1):
    """%r8: the lane's number; %d8: the result's address; %d7: that of this lane's 4 bytes of it."""
    return HEAD.format(bytes=8 * parameters) + body + "\n}\n"


@pytest.fixture(scope="module")
def machine():
    return host_ptx.Library()


@pytest.fixture(autouse=True)
def _exact(machine):
    machine.set_direction("none")


def run(machine, body, threads=32, **grid):
    result = np.zeros(threads * grid.get("blocks", 1), np.int32)
    machine.run_text(program(body), result, threads=threads, **grid)
    return result.tolist()


# ---- arithmetic ----------------------------------------------------------------------------------------------------

TYPES = {
    **{f"u{8 * size}": np.dtype(f"u{size}") for size in (2, 4, 8)},
    **{f"b{8 * size}": np.dtype(f"u{size}") for size in (2, 4, 8)},
    **{f"s{8 * size}": np.dtype(f"i{size}") for size in (2, 4, 8)},
    "f32": np.dtype("f4"),
    "f64": np.dtype("f8"),
    "f16": np.dtype("f2"),
    "pred": np.dtype(bool),
}
NAN = np.float32(np.nan)
INTEGERS = [
    0,
    1,
    2,
    3,
    5,
    7,
    31,
    32,
    63,
    100,
    1000,
    -1,
    -2,
    -7,
    -100,
    2**15,
    -(2**15),
    2**31,
    -(2**31),
    2**62,
    -(2**63),
]
REALS = [0.0, -0.0, 1.0, -1.0, 1.5, 2.5, -2.5, 1 / 3, 1e-3, -7.25, 1e10, -1e10, 3e38, np.inf, -np.inf, np.nan]


def samples(dtype, rng):
    """32 values."""
    if dtype.kind == "b":
        return rng.random(32) < 0.5
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = np.concatenate([np.array(REALS), rng.standard_normal(16)]).astype(dtype)
        return rng.permutation(values)
    chosen = rng.choice(np.array(INTEGERS, object), 32)
    return np.array([int(v) % 2 ** (8 * dtype.itemsize) for v in chosen], f"u{dtype.itemsize}").view(dtype)


def wrapped(value, dtype):
    bits = 8 * dtype.itemsize
    return np.array(int(value) % 2**bits, f"u{dtype.itemsize}").view(dtype)[()]


def rounded(exact, dtype, toward_zero=False):
    with mpmath.workprec(24 if dtype == np.float32 else 53):
        value = mpmath.mpf(exact.numerator) if exact.denominator == 1 else None
        if value is None:
            value = mpmath.fdiv(exact.numerator, exact.denominator, rounding="z" if toward_zero else "n")
        return dtype.type(float(+value))


def fma(a, b, c):
    dtype = np.dtype(type(a))
    if not np.isfinite([a, b, c]).all():
        return a * b + c
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    return rounded(exact, dtype) if exact else a * b + c


def extreme(choose, nan_wins):
    def of(a, b):
        if np.isnan(a) or np.isnan(b):
            return NAN if nan_wins or (np.isnan(a) and np.isnan(b)) else b if np.isnan(a) else a
        return choose(a, b, key=lambda v: (float(v), not np.signbit(v)))

    return of


def compare(how):
    tests = {
        "eq": lambda a, b: a == b,
        "ne": lambda a, b: a != b,
        "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b,
        "gt": lambda a, b: a > b,
        "ge": lambda a, b: a >= b,
    }
    if how in ("num", "nan"):
        return lambda a, b: bool(np.isnan(a) or np.isnan(b)) == (how == "nan")
    real = how in tests

    def of(a, b):
        if a != a or b != b:
            return not real
        return bool(tests[how if real else how[:-1]](a, b))

    return of


def to_integer(round_it):
    def of(v, dtype):
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        if np.isnan(v):
            return wrapped(0 if v.dtype == np.float32 and dtype.itemsize < 8 else 1 << 8 * dtype.itemsize - 1, dtype)
        if np.isinf(v):
            return dtype.type(high if v > 0 else low)
        return dtype.type(min(max(int(round_it(v)), low), high))

    return of


def to_bfloat16(f):
    bits = int(f.view(np.uint32))
    return np.uint16(0x7FFF if np.isnan(f) else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def to_half(f):
    with np.errstate(over="ignore"):
        return np.uint16(0x7FFF) if np.isnan(f) else np.float16(f).view(np.uint16)


def shift(a, n, left):
    bits = 8 * a.dtype.itemsize
    n = min(int(n), bits)
    return wrapped(int(a) << n if left else int(a) >> n, a.dtype)


def insert(a, b, at, count):
    bits = 8 * a.dtype.itemsize
    at, count = int(at) & 255, int(count) & 255
    ones = ((1 << min(count, bits)) - 1) << at
    return wrapped(int(b) & ~ones | (int(a) << at) & ones, a.dtype)


def expected(name, types):
    """(what is right, the operands' dtypes, the result's) of an instruction; None: another test has it."""
    parts = name.split(".")
    op, last = parts[0], TYPES.get(parts[-1])

    def flat(n):
        return [last] * n

    def whole(f):
        return lambda *a: wrapped(f(*map(int, a)), last)

    real = last is not None and last.kind == "f"
    arithmetic = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b}
    bitwise = {"and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b}
    if parts[:2] == ["mul", "hi"]:
        return whole(lambda a, b: a * b >> 8 * last.itemsize), flat(2), last
    if parts[:2] == ["mul", "wide"]:
        wide = np.dtype(f"{last.kind}{2 * last.itemsize}")
        return lambda a, b: wrapped(int(a) * int(b), wide), flat(2), wide
    if op in arithmetic:
        return (arithmetic[op] if real else whole(arithmetic[op])), flat(2), last
    if op == "mad":
        return whole(lambda a, b, c: a * b + c), flat(3), last
    if op == "fma":
        return fma, flat(3), last
    if op == "div":
        divide = (lambda a, b: a / b) if real else (lambda a, b: a // b if b else last.type(np.iinfo(last).max))
        return divide, flat(2), last
    if op in ("min", "max"):
        choose = min if op == "min" else max
        return (extreme(choose, "NaN" in parts) if real else choose), flat(2), last
    if op in bitwise:
        return bitwise[op], flat(2), last
    if op == "not":
        return (lambda a: not a) if last.kind == "b" else np.invert, flat(1), last
    if op in ("neg", "abs"):
        of_real = {"neg": np.negative, "abs": np.abs}[op]
        return (of_real if real else whole(lambda a: -a)), flat(1), last
    if op == "mov" or name == "cvta.to.global.u64":
        return (lambda a: a), flat(1), last
    if op == "selp":
        return (lambda a, b, p: a if p else b), [last, last, np.dtype(bool)], last
    if op == "setp":
        return compare(parts[1]), flat(2), np.dtype(bool)
    if op in ("shl", "shr"):
        return (lambda a, n: shift(a, n, op == "shl")), [last, np.dtype("u4")], last
    if op == "bfi":
        return insert, [last, last, np.dtype("u4"), np.dtype("u4")], last
    if op == "cvt":
        return conversion(parts)
    assert "approx" in parts or op in ("cvta", "mapa"), name
    return None


def conversion(parts):
    to, source = TYPES.get(parts[-2]), TYPES[parts[-1]]
    if "x2" in parts[-2]:
        half = to_half if parts[-2] == "f16x2" else to_bfloat16
        return (lambda a, b: np.uint32(int(half(a)) << 16 | int(half(b)))), [source, source], np.dtype("u4")
    if parts[-2] == "bf16":
        return to_bfloat16, [source], np.dtype("u2")
    if parts[-2] == "f16":
        return to_half, [source], np.dtype("u2")
    if parts[-1] == "f16":
        return np.float32, [source], to
    if to.kind != "f" and source.kind == "f":
        rounding = to_integer({"rzi": np.trunc, "rni": np.rint}[parts[1]])
        return (lambda a: rounding(a, to)), [source], to
    if to.kind != "f":
        return (lambda a: wrapped(int(a), to)), [source], to
    if parts[1] == "rz":
        return toward_zero, [source], to
    if source.kind != "f":
        return (lambda a: rounded(Fraction(int(a)), to)), [source], to
    return to.type, [source], to


def toward_zero(v):
    near = np.float32(v)
    return np.nextafter(near, np.float32(0)) if abs(float(near)) > abs(float(v)) else near


LETTER = {2: "h", 4: "r", 8: "d"}


def compute(machine, name, operands, result):
    """An instruction on 32 lanes, which load their operands, truths as integers."""
    body = []
    for k, a in enumerate(operands):
        size = 4 if a.dtype.kind == "b" else a.dtype.itemsize
        register = LETTER[size] + str(k)
        body += [f"ld.param.u64 %d6, [f_param_0+{8 * k + 8}];", f"mul.wide.u32 %d5, %r8, {size};"]
        body += ["add.s64 %d6, %d6, %d5;", f"ld.global.b{8 * size} %{register}, [%d6];"]
        if a.dtype.kind == "b":
            body.append(f"setp.ne.s32 %p{k}, %{register}, 0;")
    names = [("%p" if a.dtype.kind == "b" else "%" + LETTER[a.dtype.itemsize]) + str(k) for k, a in enumerate(operands)]
    size = 4 if result.kind == "b" else result.itemsize
    to = "%p4" if result.kind == "b" else "%" + LETTER[size] + "4"
    body.append(f"{name} {to}, {', '.join(names)};")
    if result.kind == "b":
        body.append("selp.b32 %r4, 1, 0, %p4;")
    body += [f"mul.wide.u32 %d5, %r8, {size};", "add.s64 %d5, %d8, %d5;"]
    body.append(f"st.global.b{8 * size} [%d5], %{LETTER[size]}4;")
    found = np.zeros(32, np.uint32 if result.kind == "b" else result)
    given = [np.ascontiguousarray(a.astype(np.uint32) if a.dtype.kind == "b" else a) for a in operands]
    machine.run_text(program("\n".join(body), 1 + len(given)), found, operands=given)
    return found.astype(bool) if result.kind == "b" else found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_instruction_computes_what_it_should(machine, rng):
    known = machine.known()
    assert len(known) > 200
    for name, widths in known.items():
        if (right := expected(name, widths)) is None:
            continue
        function, types, result = right
        assert [0 if t.kind == "b" else t.itemsize for t in (result, *types)] == widths, name
        for _ in range(8):
            operands = [samples(t, rng) for t in types]
            found = compute(machine, name, operands, result)
            for lane, values in enumerate(zip(*operands, strict=True)):
                wanted = np.asarray(function(*values)).astype(result)
                if result.kind == "f" and np.isnan(wanted):
                    assert np.isnan(found[lane]), (name, values)
                else:
                    assert found[lane].tobytes() == wanted.tobytes(), (name, values, found[lane], wanted)


def test_floats_have_one_nan(machine):
    a = np.full(32, -np.nan, np.float32)
    a.view(np.uint32)[:] |= 0x123
    assert set(compute(machine, "add.rn.f32", [a, a], np.dtype("f4")).view(np.uint32)) == {0x7FFFFFFF}
    assert set(compute(machine, "neg.f32", [a], np.dtype("f4")).view(np.uint32)) == set(a.view(np.uint32) ^ 2**31)


# An instruction, what it approximates, its error in steps of its last digit, and that digit: 23 bits, or 20.
APPROXIMATIONS = {
    "ex2.approx.ftz.f32": (mpmath.mpf(2).__pow__, 2, "f4", 23),
    "ex2.approx.f32": (mpmath.mpf(2).__pow__, 2, "f4", 23),
    "rcp.approx.f32": (lambda v: 1 / v, 1, "f4", 23),
    "rcp.approx.ftz.f32": (lambda v: 1 / v, 1, "f4", 23),
    "rcp.approx.ftz.f64": (lambda v: 1 / v, 1, "f8", 20),
}


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_approximations_are_off_by_what_they_may(name, machine, rng):
    function, steps, dtype, digits = APPROXIMATIONS[name]
    values = (rng.random(32) + 1.001).astype(dtype)
    exact = [function(mpmath.mpf(float(v))) for v in values]
    off = {}
    for direction in host_ptx.DIRECTIONS:
        machine.set_direction(direction)
        found = compute(machine, name, [values], np.dtype(dtype))
        step = [mpmath.mpf(2) ** (mpmath.floor(mpmath.log(e, 2)) - digits) for e in exact]
        off[direction] = np.array([float((float(f) - e) / s) for f, e, s in zip(found, exact, step, strict=True)])
    assert abs(off["none"]).max() <= 0.5 + 1e-6
    assert ((off["up"] > steps - 1) & (off["up"] <= steps)).all()
    assert ((off["down"] < 1 - steps) & (off["down"] >= -steps)).all()
    assert set(np.sign(off["apart"])) == {1, -1}
    assert abs(off["apart"]).max() <= steps


def test_logarithms_are_off_by_what_they_may(machine, rng):
    values = np.exp2(rng.uniform(-9, 9, 32)).astype("f4")
    exact = np.log2(values.astype("f8"))
    allowed = 2**-22.6 * np.where((values > 0.5) & (values < 2), 1, abs(exact))
    for direction, sign in (("none", 0), ("up", 1), ("down", -1)):
        machine.set_direction(direction)
        for name in ("lg2.approx.f32", "lg2.approx.ftz.f32"):
            off = (compute(machine, name, [values], np.dtype("f4")) - exact) / allowed
            assert (abs(off) <= 1).all()
            assert sign == 0 or ((sign * off > 0.4) | (abs(exact) < 1e-2)).all()


@pytest.mark.parametrize("direction", host_ptx.DIRECTIONS)
def test_what_approximations_have_in_tables(direction, machine):
    machine.set_direction(direction)
    given = np.resize(np.array([0, -0.0, np.inf, -np.inf, -200, 200, 1e-40], "f4"), 32)
    found = compute(machine, "ex2.approx.ftz.f32", [given], np.dtype("f4"))
    assert found[:7].tolist() == [1, 1, np.inf, 0, 0, np.inf, 1]
    with np.errstate(divide="ignore"):
        for name, dtype in (("rcp.approx.f32", "f4"), ("rcp.approx.ftz.f64", "f8")):
            found = compute(machine, name, [given.astype(dtype)], np.dtype(dtype))
            assert found[:4].tobytes() == (1 / given[:4].astype(dtype)).tobytes()


# ---- moving, control -----------------------------------------------------------------------------------------------


def test_vectors_parts_and_signs(machine):
    body = """
        mul.wide.u32 %d0, %r8, 8;
        ld.param.u64 %d1, [f_param_0+8];
        add.s64 %d1, %d1, %d0;
        ld.global.v4.u16 {%h0, %h1, %h2, %h3}, [%d1];
        mov.b64 %d2, {%h3, %h2, %h1, %h0};
        mov.b64 {%r0, %r1}, %d2;
        mov.b32 {%h4, %h5}, %r1;
        add.s64 %d3, %d8, %d0;
        st.global.v2.b32 [%d3], {%r0, %r1};
        ld.global.s8 %r2, [%d1];
        ld.global.u8 %r3, [%d1];
        st.global.u16 [%d3], %h4;
        @%p0 st.global.u16 [%d3], %h5;
        sub.s32 %r2, %r2, %r3;
        st.global.u32 [%d3+4], %r2;
    """
    given = np.arange(128, dtype=np.uint16) + np.uint16(0x10F0)
    found = np.zeros(64, np.uint32)
    body = body.replace("@%p0", "setp.eq.s32 %p0, %r8, 1;\n@%p0")
    machine.run_text(program(body, 2), found, operands=[given])
    for lane in range(32):
        four = given[4 * lane : 4 * lane + 4].astype(int)
        low = four[0] if lane == 1 else four[1]
        assert found[2 * lane] == four[2] << 16 | low
        assert found[2 * lane + 1] == (0 if four[0] & 0x80 == 0 else 2**32 - 256)


def test_lanes_part_and_come_together(machine):
    """A loop that each lane leaves after as many turns as its number, and a sum over all of them after it."""
    body = """
        mov.u32 %r0, 0;
        mov.u32 %r1, 0;
    again:
        setp.ge.u32 %p0, %r0, %r8;
        @%p0 bra out;
        add.s32 %r0, %r0, 1;
        add.s32 %r1, %r1, %r0;
        bra.uni again;
    out:
        shfl.sync.bfly.b32 %r2|%p1, %r1, 1, 31, -1;
        add.s32 %r1, %r1, %r2;
        st.global.u32 [%d7], %r1;
        ret;
    """
    sums = np.arange(32) * (np.arange(32) + 1) // 2
    assert run(machine, body) == (sums + sums[np.arange(32) ^ 1]).tolist()


@pytest.mark.parametrize(
    ("way", "distance", "limit", "source"),
    [
        ("up", 1, 0, lambda k: max(k - 1, 0)),
        ("up", 3, (32 - 8) << 8, lambda k: k - 3 if k % 8 >= 3 else k),
        ("down", 2, 31, lambda k: min(k + 2, 31) if k < 30 else k),
        ("bfly", 5, 31, lambda k: k ^ 5),
        ("idx", 7, 31, lambda k: 7),
        ("idx", 1, (32 - 4) << 8 | 31, lambda k: k // 4 * 4 + 1),
    ],
)
def test_shuffles(way, distance, limit, source, machine):
    body = f"""
        shfl.sync.{way}.b32 %r1|%p0, %r8, {distance}, {limit}, 0xffffffff;
        st.global.u32 [%d7], %r1;
    """
    assert run(machine, body) == [source(k) for k in range(32)]


def test_a_block_and_a_cluster_meet(machine):
    """Each lane's number goes by way of shared memory, then by the block beside."""
    body = """
        cvt.u64.u32 %d0, %r8;
        shl.b64 %d0, %d0, 2;
        mov.u64 %d1, room;
        add.s64 %d1, %d1, %d0;
        mov.u32 %r0, %ctaid.x;
        mad.lo.s32 %r1, %r0, 1000, %r8;
        st.shared.u32 [%d1], %r1;
        setp.eq.s32 %p0, %r8, 63;
        bar.red.or.pred %p1, 0, %p0;
        mov.u64 %d2, room;
        sub.s64 %d1, %d1, %d2;
        mov.u64 %d3, 252;
        sub.s64 %d1, %d3, %d1;
        add.s64 %d1, %d2, %d1;
        cvta.shared.u64 %d1, %d1;
        mov.u32 %r2, %cluster_ctarank;
        xor.b32 %r2, %r2, 1;
        mapa.u64 %d1, %d1, %r2;
        barrier.cluster.arrive;
        barrier.cluster.wait;
        ld.u32 %r3, [%d1];
        barrier.cluster.arrive;
        mad.lo.s32 %r4, %r0, 64, %r8;
        mul.wide.u32 %d4, %r4, 4;
        add.s64 %d4, %d8, %d4;
        selp.b32 %r3, %r3, 0, %p1;
        st.global.u32 [%d4], %r3;
        barrier.cluster.wait;
    """
    wanted = [(block ^ 1) * 1000 + 63 - lane for block in range(4) for lane in range(64)]
    assert run(machine, body, threads=64, blocks=4, cluster=2) == wanted


# ---- faults --------------------------------------------------------------------------------------------------------

# A body, what is said of it, and the grid.
BESIDE = "mov.u32 %r0, %cluster_ctarank; xor.b32 %r0, %r0, 1; cvta.shared.u64 %d0, 0; mapa.u64 %d0, %d0, %r0;"
BESIDE += "setp.eq.s32 %p1, %r8, 0;"
OWN_WORD = "mul.wide.u32 %d0, %r8, 4; mov.u64 %d1, room; add.s64 %d1, %d1, %d0;"
FAULTS = {
    "a misaligned load": ("ld.global.u32 %r0, [%d7+2];", ["misaligned", "lanes 0: ld.global.u32"]),
    "a misaligned vector": ("ld.global.v2.u32 {%r0, %r1}, [%d8+4];", ["misaligned: not a multiple of 8"]),
    "a misaligned store": ("st.shared.u16 [room+1], %h0;", ["misaligned"]),
    "before an array": ("ld.global.u32 %r0, [%d8+-4];", ["4 bytes outside every array"]),
    "behind an array": ("st.global.u32 [%d7+4], %r8;", ["4 bytes outside every array", "lanes 31"]),
    "half behind an array": (
        "st.global.v4.u32 [%d8+112], {%r8, %r8, %r8, %r8}; ld.global.v2.u64 {%d0, %d1}, [%d8+128];",
        ["16 bytes outside every array"],
    ),
    "what nobody wrote": ("ld.global.u32 %r0, [%d7];", ["reads memory that nobody wrote"]),
    "beyond shared memory": ("st.shared.u32 [room+512], %r8;", ["beyond the block's 512 bytes of shared memory"]),
    "beyond the parameters": ("ld.param.u64 %d0, [f_param_0+8];", ["beyond the parameters"]),
    "shared memory that nobody wrote": ("ld.shared.u32 %r0, [room];", ["reads shared memory that nobody wrote"]),
    "half a word that nobody wrote": (
        "setp.ne.u32 %p0, %r8, 0; @%p0 ret; st.shared.u16 [room], %h0; ld.shared.u32 %r0, [room];",
        ["reads shared memory that nobody wrote"],
    ),
    "two writes": ("st.shared.u32 [room], %r8;", ["another lane wrote", "lanes 1: st.shared"]),
    "a read behind a write": (
        f"{OWN_WORD} st.shared.u32 [%d1], %r8; ld.shared.u32 %r0, [room+20];",
        ["reads shared memory that another lane wrote", "(a race)"],
    ),
    "a shuffle is no barrier": (
        f"{OWN_WORD} st.shared.u32 [%d1], %r8; shfl.sync.bfly.b32 %r1, %r8, 1, 31, -1; ld.shared.u32 %r0, [room+20];",
        ["reads shared memory that another lane wrote", "(a race)"],
    ),
    "a write behind a read": (
        f"{OWN_WORD} st.shared.u32 [%d1], %r8; bar.sync 0; ld.shared.u32 %r0, [room+20]; st.shared.u32 [%d1], %r8;",
        ["writes shared memory that another lane read", "(a race)"],
    ),
    "the cluster is not awaited": (
        f"{BESIDE} @%p1 st.shared.u32 [room], %r8; bar.sync 0; ld.u32 %r1, [%d0];",
        ["another lane wrote", "(a race)"],
        {"blocks": 2, "cluster": 2},
    ),
    "written again before the others have read": (
        f"{BESIDE} @%p1 st.shared.u32 [room], %r8; barrier.cluster.arrive; barrier.cluster.wait; ld.u32 %r1, [%d0];"
        "bar.sync 0; @%p1 st.shared.u32 [room], %r8; barrier.cluster.arrive; barrier.cluster.wait;",
        ["another lane", "(a race)"],
        {"blocks": 2, "cluster": 2},
    ),
    "a block that returns": (
        "cvta.shared.u64 %d0, 0; mov.u32 %r0, %cluster_ctarank; setp.eq.s32 %p0, %r0, 0; @%p0 ret;"
        "mov.u32 %r1, 0; mapa.u64 %d0, %d0, %r1; ld.u32 %r1, [%d0];",
        ["shared memory of a block whose lanes return", "block 1"],
        {"blocks": 2, "cluster": 2},
    ),
    "a rank that is not there": (
        "cvta.shared.u64 %d0, 0; mov.u32 %r1, 2; mapa.u64 %d0, %d0, %r1; ld.u32 %r1, [%d0];",
        ["a block that its cluster does not have"],
        {"blocks": 2, "cluster": 2},
    ),
    "lanes at different shuffles": (
        "setp.lt.u32 %p0, %r8, 4; @%p0 bra other; shfl.sync.bfly.b32 %r0, %r8, 1, 31, -1; ret;"
        "other: shfl.sync.bfly.b32 %r0, %r8, 1, 31, -1;",
        ["lanes wait for others", "lanes 4 to 31: shfl", "lanes 0 to 3: shfl"],
    ),
    "masks that differ": (
        "setp.lt.u32 %p0, %r8, 4; selp.b32 %r1, 15, 0xffffffff, %p0; shfl.sync.bfly.b32 %r0, %r8, 1, 31, %r1;",
        ["lanes wait for others", "lanes 4 to 31: shfl"],
    ),
    "a mask without its lane": ("shfl.sync.bfly.b32 %r0, %r8, 1, 31, 15;", ["not in its own mask", "lanes 4 to 31"]),
    "a lane beyond the mask": (
        "setp.ge.u32 %p0, %r8, 4; @%p0 ret; shfl.sync.bfly.b32 %r0, %r8, 4, 31, 15;",
        ["takes the value of lane 4, which is not in the mask"],
    ),
    "a mask with lanes that returned": (
        "setp.ge.u32 %p0, %r8, 4; @%p0 ret; shfl.sync.bfly.b32 %r0, %r8, 1, 31, -1;",
        ["lanes that have returned (4 to 31)"],
    ),
    "a mask beyond the block": (
        "shfl.sync.bfly.b32 %r0, %r8, 1, 31, -1;",
        ["lanes that the block does not have"],
        {"threads": 16},
    ),
    "a shuffle beside a barrier": (
        "setp.lt.u32 %p0, %r8, 4; @%p0 bra other; bar.sync 0; ret; other: shfl.sync.bfly.b32 %r0, %r8, 1, 31, -1;",
        ["lanes wait for others", "lanes 4 to 31: bar.sync", "lanes 0 to 3: shfl"],
    ),
    "a split barrier": (
        "setp.lt.u32 %p0, %r8, 32; @%p0 bra other; bar.sync 0; ret; other: bar.sync 0;",
        ["lanes of a block at different barriers", "warp 0, lanes 0 to 31: bar.sync"],
        {"threads": 64},
    ),
    "a barrier that some do not come to": (
        "setp.lt.u32 %p0, %r8, 32; @%p0 ret; bar.sync 0;",
        ["lanes wait for others", "warp 1, lanes 0 to 31: bar.sync", "warp 0, lanes 0 to 31: returned"],
        {"threads": 64},
    ),
    "an arrival without a wait": (
        "barrier.cluster.arrive;",
        ["arrived at the cluster's barrier and not waited"],
        {"blocks": 2, "cluster": 2},
    ),
    "two arrivals": ("barrier.cluster.arrive; barrier.cluster.arrive;", ["twice, without a wait"]),
    "a wait without an arrival": ("barrier.cluster.wait;", ["where it has not arrived"]),
    "a block that does not arrive": (
        "mov.u32 %r0, %ctaid.x; setp.eq.s32 %p0, %r0, 1; @%p0 ret; barrier.cluster.arrive; barrier.cluster.wait;",
        ["lanes wait for others", "block 1", "block 0, warp 0, lanes 0 to 31: barrier.cluster.wait"],
        {"blocks": 2, "cluster": 2},
    ),
    "no block": ("ret;", ["a launch of 0 blocks"], {"blocks": 0}),
    "half a cluster": ("ret;", ["no such clusters"], {"blocks": 3, "cluster": 2}),
    "a cluster too large": ("ret;", ["no such clusters"], {"blocks": 16, "cluster": 16}),
    "an unknown instruction": ("bfind.u32 %r0, %r8;", ["unknown: bfind.u32 %r0, %r8"]),
    "an unknown variant": ("add.sat.s32 %r0, %r8, 1;", ["unknown: add.sat.s32"]),
    "an unknown register": ("add.s32 %r9, %r8, 1;", ["no register %r9"]),
    "a register of another width": ("add.s32 %r0, %r8, %h0;", ["%h0 has another width"]),
    "a call": ("call.uni other;", ["unknown: call.uni other"]),
    "another barrier": ("bar.sync 1;", ["a barrier other than 0"]),
    "an unknown directive": (".local .b8 depot[4];", ["unknown: .local"]),
}


@pytest.mark.parametrize("what", FAULTS)
def test_what_a_device_leaves_undefined_is_said(what, machine):
    body, said, *grid = FAULTS[what]
    with pytest.raises(host_ptx.Fault) as fault:
        result = np.zeros(32 * 4, np.int32)
        grid = {"threads": 32, "blocks": 1, **(grid[0] if grid else {})}
        machine.run_text(program(body), result[: grid["threads"]], **grid)
    for text in said:
        assert text in str(fault.value)


def test_operands_are_not_written(machine):
    operand, result = np.zeros(32, np.int32), np.zeros(32, np.int32)
    body = "ld.param.u64 %d0, [f_param_0+8]; st.global.u32 [%d0], %r8;"
    with pytest.raises(host_ptx.Fault, match="writes an operand"):
        machine.run_text(program(body, 2), result, operands=[operand])
    assert not operand.any()


def test_what_is_right_is_not_complained_of(machine):
    """Accesses of one word by turns of a barrier, by lanes that read together, by halves."""
    body = """
        setp.eq.s32 %p0, %r8, 7;
        @%p0 st.shared.u32 [room], %r8;
        bar.sync 0;
        ld.shared.u32 %r0, [room];
        bar.sync 0;
        setp.eq.s32 %p0, %r8, 40;
        @%p0 st.shared.u32 [room], %r8;
        bar.sync 0;
        ld.shared.u32 %r1, [room];
        add.s32 %r0, %r0, %r1;
        cvt.u16.u32 %h0, %r0;
        mul.wide.u32 %d0, %r8, 2;
        mov.u64 %d1, room;
        add.s64 %d1, %d1, %d0;
        st.shared.u16 [%d1+256], %h0;
        ld.shared.u16 %r2, [%d1+256];
        st.global.u32 [%d7], %r2;
    """
    assert run(machine, body, threads=64) == [47] * 64


def test_what_ran_is_counted(machine):
    """Two loads are on their way when the first of them is used, which a move does not do; then one."""
    body = """
        ld.param.u64 %d0, [f_param_0+8];
        mul.wide.u32 %d1, %r8, 16;
        add.s64 %d0, %d0, %d1;
        ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%d0];
        mov.b32 %r5, %r0;
    next:
        ld.global.u32 %r4, [%d0+4];
        add.s32 %r0, %r5, %r4;
    then:
        setp.lt.u32 %p0, %r8, 8;
        @!%p0 bra last;
        ld.global.u16 %h0, [%d0];
    there:
        cvt.u32.u16 %r1, %h0;
        add.s32 %r0, %r0, %r1;
    last:
        st.global.u32 [%d7], %r0;
    """
    machine.run_text(program(body, 2), np.zeros(64, np.int32), operands=[np.zeros(256, np.int32)], threads=64)
    [(name, (launches, blocks, threads, nbytes, squares), instructions)] = machine.counts()
    assert (name, launches, blocks, threads) == ("f", 1, 1, 64)
    first, second = 32 * 20, 8 * 2
    assert nbytes == 2 * first + second
    assert squares == 2 * first**2 + second**2
    moved = {(issued, lanes, size, name) for issued, lanes, size, name in instructions if size}
    assert moved == {
        (2, 64, 16, "ld.global.v4.u32"),
        (2, 64, 4, "ld.global.u32"),
        (1, 8, 2, "ld.global.u16"),
        (2, 64, 4, "st.global.u32"),
    }
    assert (2, 56, 0, "bra") in instructions
    assert machine.counts() == []
