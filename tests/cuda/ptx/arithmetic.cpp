/* arithmetic.cpp: what instructions compute, by their whole names. Floats are the processor's own, which rounds as a
 * device does; what differs is here: the NaN that floats have, maxima of NaN and of zeros, conversions that saturate,
 * approximations. */
#include "machine.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>
#include <type_traits>

#include "../../../kernels/storage.h"

namespace ptx {
namespace {

Direction direction = Direction::NONE;

template <class To, class From> To as(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits are kept");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
const float NAN32 = as<float>(0x7fffffffu);

/* ---- lanes ---- */
/* Arithmetic on floats has one NaN. */
template <class T> T settled(T v) {
    return v;
}
float settled(float v) {
    return v == v ? v : NAN32;
}

/* A predicate's lane, as it is read and written like a number's. */
struct Truth {};
template <class T> struct Reading {
    const T *from;
    Reading(Warp &w, Operand o) : from(w.lanes_of<T>(o)) {
    }
    T operator[](unsigned lane) const {
        return from[lane];
    }
};
template <> struct Reading<Truth> {
    uint32_t bits;
    Reading(Warp &w, Operand o) : bits(w.bits(o)) {
    }
    bool operator[](unsigned lane) const {
        return bits >> lane & 1;
    }
};

template <class F, class D, class... S, size_t... I>
void each(Warp &w, const Instruction &i, uint32_t lanes, std::index_sequence<I...>) {
    const std::tuple<Reading<S>...> from{Reading<S>(w, i.from[I])...};
    if constexpr (std::is_same_v<D, Truth>) {
        uint32_t found = 0;
        for (unsigned l = 0; l < LANES; l++)
            found |= uint32_t(bool(F()(std::get<I>(from)[l]...))) << l;
        uint32_t &to = w.bits(i.to[0]);
        to = (to & ~lanes) | (found & lanes);
    } else {
        D *to = w.lanes_of<D>(i.to[0]);
        if (lanes == ~0u) {
#pragma GCC ivdep
            for (unsigned l = 0; l < LANES; l++)
                to[l] = settled(D(F()(std::get<I>(from)[l]...)));
        } else {
            for (uint32_t rest = lanes; rest; rest &= rest - 1) {
                const auto l = unsigned(__builtin_ctz(rest));
                to[l] = settled(D(F()(std::get<I>(from)[l]...)));
            }
        }
    }
}
template <class F, class D, class... S> void map(Warp &w, const Instruction &i, uint32_t lanes) {
    each<F, D, S...>(w, i, lanes, std::index_sequence_for<S...>());
}

template <class T> constexpr uint8_t width = std::is_same_v<T, Truth> ? 0 : sizeof(T);

using Table = std::unordered_map<std::string, Known>;
template <class F, class D, class... S> void add(Table &t, const std::string &name) {
    t[name] = {map<F, D, S...>, {width<D>, width<S>...}};
}

/* ---- functions ---- */
#define FUNCTION(Name, RESULT, ...)                                                                                    \
    struct Name {                                                                                                      \
        template <class T> auto operator()(__VA_ARGS__) const {                                                        \
            return RESULT;                                                                                             \
        }                                                                                                              \
    };
FUNCTION(Same, a, T a)
FUNCTION(Add, a + b, T a, T b)
FUNCTION(Sub, a - b, T a, T b)
FUNCTION(Product, (a) * (b), T a, T b)
FUNCTION(Low, uint64_t(a) * uint64_t(b), T a, T b)
FUNCTION(Mad, uint64_t(a) * uint64_t(b) + c, T a, T b, T c)
FUNCTION(Quotient, b != 0 ? a / b : T(-1), T a, T b)
FUNCTION(Ratio, a / b, T a, T b)
FUNCTION(Least, a < b ? a : b, T a, T b)
FUNCTION(Most, a > b ? a : b, T a, T b)
FUNCTION(And, (a) & (b), T a, T b)
FUNCTION(Or, a | b, T a, T b)
FUNCTION(Xor, a ^ b, T a, T b)
FUNCTION(Not, ~a, T a)
FUNCTION(Never, !a, T a)
FUNCTION(Minus, T(0) - a, T a)
/* The sign is a bit, NaN's too. */
FUNCTION(FlipSign, a ^ T(1) << (8 * sizeof(T) - 1), T a)
FUNCTION(DropSign, a & ~(T(1) << (8 * sizeof(T) - 1)), T a)
struct Fma {
    float operator()(float a, float b, float c) const {
        return __builtin_fmaf(a, b, c);
    }
    double operator()(double a, double b, double c) const {
        return __builtin_fma(a, b, c);
    }
};
/* Shifts by more than there are bits take all of them. */
struct Left {
    template <class T> T operator()(T a, uint32_t n) const {
        return n < 8 * sizeof(T) ? T(a << n) : T(0);
    }
};
struct Right {
    template <class T> T operator()(T a, uint32_t n) const {
        const uint32_t most = 8 * sizeof(T) - 1;
        return std::is_signed_v<T> || n <= most ? T(a >> (n < most ? n : most)) : T(0);
    }
};
template <class D> struct Wide {
    template <class T> D operator()(T a, T b) const {
        return D(a) * D(b);
    }
};
struct High {
    template <class T> T operator()(T a, T b) const {
        using W = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
        return T(W(a) * W(b) >> 8 * sizeof(T));
    }
};
/* The lowest `count` bits of a instead of b's from `at` on. */
struct Insert {
    template <class T> T operator()(T a, T b, uint32_t at, uint32_t count) const {
        const uint32_t bits = 8 * sizeof(T), from = at & 255u, n = count & 255u;
        const T ones = n >= bits ? T(-1) : T((T(1) << n) - 1);
        return from >= bits ? b : T((b & ~T(ones << from)) | T((a & ones) << from));
    }
};
struct Select {
    template <class T> T operator()(T a, T b, bool p) const {
        return p ? a : b;
    }
};

/* ---- maxima ---- */
/* Of zeros the positive one is larger. NAN_WINS: else the number does. */
template <bool LARGER, bool NAN_WINS> struct Extreme {
    template <class T> T operator()(T a, T b) const {
        using B = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
        if (a != a || b != b)
            return NAN_WINS || (a != a && b != b) ? T(NAN32) : a != a ? b : a;
        if (a == b)
            return as<T>(LARGER ? as<B>(a) & as<B>(b) : as<B>(a) | as<B>(b));
        return (a > b) == LARGER ? a : b;
    }
};

/* ---- comparisons ---- */
enum Comparison { EQ, NE, LT, LE, GT, GE, NUM, UNORDERED };
/* OR_NAN: true where one is no number. */
template <Comparison C, bool OR_NAN> struct Compare {
    template <class T> bool operator()(T a, T b) const {
        const bool nan = a != a || b != b;
        if (C == UNORDERED || C == NUM)
            return nan == (C == UNORDERED);
        if (nan)
            return OR_NAN;
        return C == EQ ? a == b : C == NE ? a != b : C == LT ? a < b : C == LE ? a <= b : C == GT ? a > b : a >= b;
    }
};
template <Comparison C, class U, class S>
void compare_integers(Table &t, const std::string &is, const std::string &bits) {
    if (C == EQ || C == NE)
        add<Compare<C, false>, Truth, U, U>(t, "setp." + is + ".b" + bits);
    add<Compare<C, false>, Truth, U, U>(t, "setp." + is + ".u" + bits);
    add<Compare<C, false>, Truth, S, S>(t, "setp." + is + ".s" + bits);
}
template <Comparison C> void compare(Table &t, const std::string &is) {
    add<Compare<C, false>, Truth, float, float>(t, "setp." + is + ".f32");
    add<Compare<C, false>, Truth, double, double>(t, "setp." + is + ".f64");
    if constexpr (C != NUM && C != UNORDERED) {
        add<Compare<C, true>, Truth, float, float>(t, "setp." + is + "u.f32");
        add<Compare<C, true>, Truth, double, double>(t, "setp." + is + "u.f64");
        compare_integers<C, uint16_t, int16_t>(t, is, "16");
        compare_integers<C, uint32_t, int32_t>(t, is, "32");
        compare_integers<C, uint64_t, int64_t>(t, is, "64");
    }
}

/* ---- conversions ---- */
/* To an integer, towards 0 or to the nearest; what does not fit is the nearest that does. */
template <class D, bool NEAREST> struct ToInteger {
    template <class T> D operator()(T v) const {
        using Limits = std::numeric_limits<D>;
        if (v != v) /* as the manual has it: of 32 bits from float 0 */
            return sizeof(T) == 4 && sizeof(D) < 8 ? D(0) : D(uint64_t(1) << (8 * sizeof(D) - 1));
        v = NEAREST ? std::nearbyint(v) : std::trunc(v);
        const T end = T(Limits::max() / 2 + 1) * 2; /* exact */
        return v >= end ? Limits::max() : v < T(Limits::min()) ? Limits::min() : D(v);
    }
};
struct TowardZero {
    float operator()(double v) const {
        const auto near = float(v);
        return std::fabs(double(near)) > std::fabs(v) ? std::nextafter(near, 0.0f) : near;
    }
};
struct FromHalf {
    float operator()(uint16_t bits) const {
        return half_to_float(bits);
    }
};
struct ToHalf {
    uint16_t operator()(float v) const {
        return v == v ? double_to_half(double(v)) : uint16_t(0x7fff);
    }
};
struct ToBf16 {
    uint16_t operator()(float v) const {
        return v == v ? double_to_bf16(double(v)) : uint16_t(0x7fff);
    }
};
/* Both halves rounded; the first operand becomes the upper one. */
template <class F> struct Two {
    uint32_t operator()(float high, float low) const {
        return uint32_t(F()(high)) << 16 | F()(low);
    }
};
template <class D, class S> void convert_integers(Table &t, const std::string &to, const std::string &from) {
    add<Same, D, S>(t, "cvt." + to + "." + from);
}
template <class D> void convert_integers_to(Table &t, const std::string &to) {
    convert_integers<D, uint16_t>(t, to, "u16");
    convert_integers<D, int16_t>(t, to, "s16");
    convert_integers<D, uint32_t>(t, to, "u32");
    convert_integers<D, int32_t>(t, to, "s32");
    convert_integers<D, uint64_t>(t, to, "u64");
    convert_integers<D, int64_t>(t, to, "s64");
}
template <class I> void convert_floats(Table &t, const std::string &type) {
    add<Same, float, I>(t, "cvt.rn.f32." + type);
    add<Same, double, I>(t, "cvt.rn.f64." + type);
    add<ToInteger<I, false>, I, float>(t, "cvt.rzi." + type + ".f32");
    add<ToInteger<I, false>, I, double>(t, "cvt.rzi." + type + ".f64");
    add<ToInteger<I, true>, I, float>(t, "cvt.rni." + type + ".f32");
    add<ToInteger<I, true>, I, double>(t, "cvt.rni." + type + ".f64");
}

/* ---- approximations ---- */
void direct(uint32_t bits, bool *up, bool *down) {
    bits = (bits ^ bits >> 15) * 0x2c1b3c6du;
    const bool odd = (bits >> 31) != 0;
    *up = direction == Direction::UP || (direction == Direction::APART && odd);
    *down = direction == Direction::DOWN || (direction == Direction::APART && !odd);
}
/* The float that is furthest from `exact` among those within so many steps of it. */
float off_by(double exact, int steps, uint32_t argument) {
    const auto near = float(exact);
    bool up, down;
    direct(argument, &up, &down);
    if ((!up && !down) || !std::isfinite(near) || near == 0.0f)
        return near;
    const float away = up ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity();
    /* From the last float on this side of it. */
    float at = (up ? double(near) > exact : double(near) < exact) ? std::nextafter(near, -away) : near;
    for (int n = 0; n < steps; n++)
        at = std::nextafter(at, away);
    return at;
}
float flushed(float v) {
    return std::fabs(v) < 0x1p-126f ? std::copysign(0.0f, v) : v;
}
/* At most 2 ULP off; exact where the manual has a table. */
template <bool FLUSH> struct Exp2 {
    float operator()(float v) const {
        v = FLUSH ? flushed(v) : v;
        if (v != v)
            return NAN32;
        const float found = v == 0.0f ? 1.0f : off_by(std::exp2(double(v)), 2, as<uint32_t>(v));
        return FLUSH ? flushed(found) : found;
    }
};
/* At most 1 ULP. */
template <bool FLUSH> struct Reciprocal {
    float operator()(float v) const {
        v = FLUSH ? flushed(v) : v;
        if (v != v)
            return NAN32;
        const float found = v == 0.0f || std::isinf(v) ? 1.0f / v : off_by(1.0 / double(v), 1, as<uint32_t>(v));
        return FLUSH ? flushed(found) : found;
    }
};
/* 2^-22.6: absolute between 1/2 and 2, relative elsewhere. */
template <bool FLUSH> struct Log2 {
    float operator()(float v) const {
        v = FLUSH ? flushed(v) : v;
        if (v != v || v < 0.0f)
            return NAN32;
        if (v == 0.0f || std::isinf(v) || v == 1.0f)
            return std::log2(v);
        bool up, down;
        direct(as<uint32_t>(v), &up, &down);
        const double exact = std::log2(double(v)), size = std::exp2(-22.6);
        const double off = (0.5f < v && v < 2.0f ? size : size * std::fabs(exact)) * (double(up) - double(down));
        const float limit = float(exact + off);
        if (off == 0.0 || std::fabs(double(limit) - exact) <= std::fabs(off))
            return limit;
        return std::nextafter(limit, float(exact));
    }
};
/* What the upper word of a double can say: 20 bits. */
struct ReciprocalF64 {
    double operator()(double v) const {
        const double zero = std::copysign(0.0, v);
        if (v != v)
            return v;
        if (std::fabs(v) < 0x1p-1022)
            return 1.0 / zero;
        const double exact = 1.0 / v;
        if (std::isinf(v) || std::fabs(exact) < 0x1p-1022)
            return zero;
        bool up, down;
        direct(uint32_t(as<uint64_t>(v) >> 32) ^ uint32_t(as<uint64_t>(v)), &up, &down);
        const uint64_t bits = as<uint64_t>(exact), word = uint64_t(1) << 32, below = bits & ~(word - 1);
        if (!up && !down)
            return as<double>((bits + word / 2) & ~(word - 1));
        if (up == (exact > 0.0)) /* away from 0 */
            return as<double>(below + word);
        return as<double>(below == bits ? below - word : below);
    }
};

template <class F, class... T> void add_each(Table &t, const std::string &name, const std::vector<std::string> &types) {
    size_t n = 0;
    (add<F, T, T, T>(t, name + "." + types[n++]), ...);
}

Table make_table() {
    Table t;
    /* Sums and products of integers have the same bits whether they have a sign. */
    const std::vector<std::string> integers = {"s16", "u16", "s32", "u32", "s64", "u64"};
    const auto add_integers = [&](auto f, const std::string &name) {
        add_each<decltype(f), uint16_t, uint16_t, uint32_t, uint32_t, uint64_t, uint64_t>(t, name, integers);
    };
    add_integers(Add(), "add");
    add_integers(Sub(), "sub");
    add_integers(Low(), "mul.lo");
    for (const char *type : {"s32", "u32"})
        add<Mad, uint32_t, uint32_t, uint32_t, uint32_t>(t, std::string("mad.lo.") + type);
    for (const char *type : {"s64", "u64"})
        add<Mad, uint64_t, uint64_t, uint64_t, uint64_t>(t, std::string("mad.lo.") + type);
    const auto add_signed = [&](auto f, const std::string &name) {
        add_each<decltype(f), int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t>(t, name, integers);
    };
    add_signed(Least(), "min");
    add_signed(Most(), "max");
    add<High, uint32_t, uint32_t, uint32_t>(t, "mul.hi.u32");
    add<High, int32_t, int32_t, int32_t>(t, "mul.hi.s32");
    add<High, uint64_t, uint64_t, uint64_t>(t, "mul.hi.u64");
    add<High, int64_t, int64_t, int64_t>(t, "mul.hi.s64");
    add<Wide<uint32_t>, uint32_t, uint16_t, uint16_t>(t, "mul.wide.u16");
    add<Wide<int32_t>, int32_t, int16_t, int16_t>(t, "mul.wide.s16");
    add<Wide<uint64_t>, uint64_t, uint32_t, uint32_t>(t, "mul.wide.u32");
    add<Wide<int64_t>, int64_t, int32_t, int32_t>(t, "mul.wide.s32");
    add<Quotient, uint32_t, uint32_t, uint32_t>(t, "div.u32");
    add<Quotient, uint64_t, uint64_t, uint64_t>(t, "div.u64");
    add<Minus, uint16_t, uint16_t>(t, "neg.s16");
    add<Minus, uint32_t, uint32_t>(t, "neg.s32");
    add<Minus, uint64_t, uint64_t>(t, "neg.s64");

    const std::vector<std::string> bits = {"b16", "b32", "b64", "pred"};
    add_each<And, uint16_t, uint32_t, uint64_t, Truth>(t, "and", bits);
    add_each<Or, uint16_t, uint32_t, uint64_t, Truth>(t, "or", bits);
    add_each<Xor, uint16_t, uint32_t, uint64_t, Truth>(t, "xor", bits);
    add<Not, uint16_t, uint16_t>(t, "not.b16");
    add<Not, uint32_t, uint32_t>(t, "not.b32");
    add<Not, uint64_t, uint64_t>(t, "not.b64");
    add<Never, Truth, Truth>(t, "not.pred");
    add<Same, Truth, Truth>(t, "mov.pred");
    add<Insert, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>(t, "bfi.b32");
    add<Insert, uint64_t, uint64_t, uint64_t, uint32_t, uint32_t>(t, "bfi.b64");
    add<Left, uint16_t, uint16_t, uint32_t>(t, "shl.b16");
    add<Left, uint32_t, uint32_t, uint32_t>(t, "shl.b32");
    add<Left, uint64_t, uint64_t, uint32_t>(t, "shl.b64");
    for (const char *type : {"u", "b"}) {
        add<Right, uint16_t, uint16_t, uint32_t>(t, std::string("shr.") + type + "16");
        add<Right, uint32_t, uint32_t, uint32_t>(t, std::string("shr.") + type + "32");
        add<Right, uint64_t, uint64_t, uint32_t>(t, std::string("shr.") + type + "64");
    }
    add<Right, int16_t, int16_t, uint32_t>(t, "shr.s16");
    add<Right, int32_t, int32_t, uint32_t>(t, "shr.s32");
    add<Right, int64_t, int64_t, uint32_t>(t, "shr.s64");
    for (const std::string type : {"b", "u", "s", "f"}) {
        if (type != "f") {
            add<Same, uint16_t, uint16_t>(t, "mov." + type + "16");
            add<Select, uint16_t, uint16_t, uint16_t, Truth>(t, "selp." + type + "16");
        }
        add<Same, uint32_t, uint32_t>(t, "mov." + type + "32");
        add<Same, uint64_t, uint64_t>(t, "mov." + type + "64");
        add<Select, uint32_t, uint32_t, uint32_t, Truth>(t, "selp." + type + "32");
        add<Select, uint64_t, uint64_t, uint64_t, Truth>(t, "selp." + type + "64");
    }
    add<Same, uint64_t, uint64_t>(t, "cvta.to.global.u64"); /* global addresses are generic ones */
    t["cvta.shared.u64"] = {own_shared_to_generic, {8, 8}};
    t["mapa.u64"] = {map_generic_to_rank, {8, 8, 4}};
    t["mapa.shared::cluster.u32"] = {map_shared_to_rank, {4, 4, 4}};

    const std::vector<std::string> reals = {"f32", "f64"};
    for (const std::string rounding : {"", ".rn"}) {
        add_each<Add, float, double>(t, "add" + rounding, reals);
        add_each<Sub, float, double>(t, "sub" + rounding, reals);
        add_each<Product, float, double>(t, "mul" + rounding, reals);
    }
    add_each<Ratio, float, double>(t, "div.rn", reals);
    add<Fma, float, float, float, float>(t, "fma.rn.f32");
    add<Fma, double, double, double, double>(t, "fma.rn.f64");
    add<FlipSign, uint32_t, uint32_t>(t, "neg.f32");
    add<FlipSign, uint64_t, uint64_t>(t, "neg.f64");
    add<DropSign, uint32_t, uint32_t>(t, "abs.f32");
    add<DropSign, uint64_t, uint64_t>(t, "abs.f64");
    add_each<Extreme<true, false>, float, double>(t, "max", reals);
    add_each<Extreme<false, false>, float, double>(t, "min", reals);
    add<Extreme<true, true>, float, float, float>(t, "max.NaN.f32");
    add<Extreme<false, true>, float, float, float>(t, "min.NaN.f32");

    compare<EQ>(t, "eq");
    compare<NE>(t, "ne");
    compare<LT>(t, "lt");
    compare<LE>(t, "le");
    compare<GT>(t, "gt");
    compare<GE>(t, "ge");
    compare<NUM>(t, "num");
    compare<UNORDERED>(t, "nan");

    convert_integers_to<uint16_t>(t, "u16");
    convert_integers_to<int16_t>(t, "s16");
    convert_integers_to<uint32_t>(t, "u32");
    convert_integers_to<int32_t>(t, "s32");
    convert_integers_to<uint64_t>(t, "u64");
    convert_integers_to<int64_t>(t, "s64");
    convert_floats<uint32_t>(t, "u32");
    convert_floats<int32_t>(t, "s32");
    convert_floats<uint64_t>(t, "u64");
    convert_floats<int64_t>(t, "s64");
    add<Same, double, float>(t, "cvt.f64.f32");
    add<Same, float, double>(t, "cvt.rn.f32.f64");
    add<TowardZero, float, double>(t, "cvt.rz.f32.f64");
    add<FromHalf, float, uint16_t>(t, "cvt.f32.f16");
    add<ToHalf, uint16_t, float>(t, "cvt.rn.f16.f32");
    add<ToBf16, uint16_t, float>(t, "cvt.rn.bf16.f32");
    add<Two<ToHalf>, uint32_t, float, float>(t, "cvt.rn.f16x2.f32");
    add<Two<ToBf16>, uint32_t, float, float>(t, "cvt.rn.bf16x2.f32");

    add<Exp2<false>, float, float>(t, "ex2.approx.f32");
    add<Exp2<true>, float, float>(t, "ex2.approx.ftz.f32");
    add<Reciprocal<false>, float, float>(t, "rcp.approx.f32");
    add<Reciprocal<true>, float, float>(t, "rcp.approx.ftz.f32");
    add<ReciprocalF64, double, double>(t, "rcp.approx.ftz.f64");
    add<Log2<false>, float, float>(t, "lg2.approx.f32");
    add<Log2<true>, float, float>(t, "lg2.approx.ftz.f32");
    return t;
}

} // namespace

const Table &all_known() {
    static const Table known = make_table();
    return known;
}

void set_direction(Direction d) {
    direction = d;
}

void unpack(Warp &w, const Instruction &i, uint32_t lanes) {
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
        const auto l = unsigned(__builtin_ctz(rest));
        const uint64_t whole = w.get(i.from[0], l);
        for (size_t k = 0; k < i.to.size(); k++)
            w.put(i.to[k], l, whole >> (8 * i.to[k].bytes * k));
    }
}
void pack(Warp &w, const Instruction &i, uint32_t lanes) {
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
        const auto l = unsigned(__builtin_ctz(rest));
        uint64_t whole = 0;
        for (size_t k = 0; k < i.from.size(); k++)
            whole |= w.get(i.from[k], l) << (8 * i.from[k].bytes * k);
        w.put(i.to[0], l, whole);
    }
}

} // namespace ptx
