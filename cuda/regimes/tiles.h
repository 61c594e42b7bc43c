/* tiles.h: between memory and a lane's tile. Which lane holds which class depends on the number of classes alone, never
 * on where a row lies, so that neither do its bits. Dtypes, strides, temperature, masks, class weights, smoothing and
 * one-hot labels end here. */
#ifndef XENT_CUDA_TILES_H
#define XENT_CUDA_TILES_H

#include "../finish.h"

#if !defined(__CUDA_ARCH__)
#include <atomic>
#endif

namespace xent {

/* PACKS: neighbouring classes are neighbours in memory; a lane takes 16 bytes of them at a time. STRIDED: one class at
 * a time. Both: of the kernel's own dtype, with no option that acts class by class but temperature. ANY: anything. */
enum access_kind { PACKS, STRIDED, ANY };

/* ---- 16 bytes ---- */
/* How far an address is past a boundary of 16 bytes. */
XENT_HD unsigned past16(const char *p) {
    return unsigned(reinterpret_cast<uintptr_t>(p) & 15u);
}
/* On a device an access of 16 bytes that is not aligned ends the kernel; so it does here. */
XENT_HD void on_boundary(const char *p) {
    if (past16(p) != 0)
        __builtin_trap();
}

struct alignas(16) words {
    uint32_t w[4];
};
XENT_HD words load16(const char *p) { /* read once: the first to be evicted from caches */
#if defined(__CUDA_ARCH__)
    const uint4 v = __ldcs(reinterpret_cast<const uint4 *>(p));
    return {{v.x, v.y, v.z, v.w}};
#else
    words v;
    on_boundary(p);
    memcpy(&v, p, sizeof v);
    return v;
#endif
}
XENT_HD void store16(char *p, const words &v) {
#if defined(__CUDA_ARCH__)
    __stcs(reinterpret_cast<uint4 *>(p), make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]));
#else
    on_boundary(p);
    memcpy(p, &v, sizeof v);
#endif
}
XENT_HD uint32_t funnel(uint32_t low, uint32_t high, unsigned bits) {
    return uint32_t((uint64_t(high) << 32 | low) >> bits);
}

template <class S> struct alignas(16) pack {
    static constexpr int count = 16 / sizeof(S);
    S v[count];
};

/* 16 of the 32 bytes of a and b, from the one at `at` < 16 on, which S's size divides. */
template <class S> XENT_HD words between(const words &a, const words &b, unsigned at) {
    const bool two = (at & 8u) != 0, one = (at & 4u) != 0;
    uint32_t s[6], t[5];
    XENT_UNROLL
    for (int i = 0; i < 6; i++) {
        const uint32_t here = i < 4 ? a.w[i % 4] : b.w[i % 4];
        s[i] = two ? (i < 2 ? a.w[(i + 2) % 4] : b.w[(i + 2) % 4]) : here;
    }
    XENT_UNROLL
    for (int i = 0; i < 5; i++)
        t[i] = one ? s[i + 1] : s[i];
    words w;
    XENT_UNROLL
    for (int i = 0; i < 4; i++)
        w.w[i] = sizeof(S) < 4 ? funnel(t[i], t[i + 1], (at & 3u) * 8u) : t[i];
    return w;
}

/* Classes [at, at + count) of a contiguous row; those past its end are given as fill. Widened in each branch: after both at once,
 * held rows of floats would need more registers than there are. */
template <class S, class R> XENT_HD void load_pack(const char *row, int64_t at, int64_t classes, R fill, R *out) {
    constexpr int count = pack<S>::count;
    const char *p = row + at * int64_t(sizeof(S));
    const unsigned off = past16(p);
    pack<S> v;
    if (off == 0 && at + count <= classes) {
        const words w = load16(p);
        memcpy(&v, &w, sizeof v);
        XENT_UNROLL
        for (int i = 0; i < count; i++)
            out[i] = widen(v.v[i]);
    } else if (at > 0 && at + 2 * count <= classes) {
        const words w = between<S>(load16(p - off), load16(p - off + 16), off);
        memcpy(&v, &w, sizeof v);
        XENT_UNROLL
        for (int i = 0; i < count; i++)
            out[i] = widen(v.v[i]);
    } else { /* the ends of the row */
        XENT_UNROLL
        for (int i = 0; i < count; i++)
            out[i] = at + i < classes ? R(widen(load_as<S>(p + i * int(sizeof(S))))) : fill;
    }
}
/* The other way, for all lanes of a row that are in one warp, with packs side by side. Of a row between boundaries a
 * lane's pack lies in two blocks of 16 bytes: it stores the first, with the end of the pack of the lane before it, and
 * the lane after it stores the second. What is left at both ends is stored class by class. */
template <class S, class G, class R> XENT_HD void store_pack(G &g, char *row, int64_t at, int64_t classes, const R *v) {
    constexpr int count = pack<S>::count;
    char *p = row + at * int64_t(sizeof(S));
    const int off = int(past16(p)), first = count - off / int(sizeof(S)); /* classes in the first block */
    const auto whole = [&](int64_t begin, int n) { return begin + n <= classes; };
    bool stores = whole(at, first), stored = false; /* the first block; the second, by the next lane */
    pack<S> out;
    words w;
    XENT_UNROLL
    for (int i = 0; i < count; i++)
        narrow(v[i], &out.v[i]);
    memcpy(&w, &out, sizeof w);
    if (off != 0) {
        words before;
        XENT_UNROLL
        for (int i = 0; i < 4; i++)
            before.w[i] = g.shfl_up(w.w[i]);
        w = between<S>(before, w, unsigned(16 - off));
        stores = stores && place(g) > 0;
        stored = whole(at + count, first) && place(g) + 1 < G::width;
    }
    if (stores)
        store16(p - off, w);
    XENT_UNROLL
    for (int i = 0; i < count; i++)
        if (at + i < classes && !(i < first ? stores : stored))
            reinterpret_cast<S *>(p)[i] = out.v[i];
}

/* ---- a row ---- */
template <class M> struct row_view {
    const char *x, *t, *where;
    char *value, *out;
    row_facts<M> facts;
};

/* The smallest of all rows that are noted; the order in which they come does not matter. */
XENT_HD void note_bad_row(note *n, int64_t row) {
#if defined(__CUDA_ARCH__)
    atomicMin(reinterpret_cast<long long *>(&n->bad_row), static_cast<long long>(row));
#else
    auto *seen = reinterpret_cast<std::atomic<int64_t> *>(&n->bad_row);
    for (int64_t old = seen->load(); row < old && !seen->compare_exchange_weak(old, row);)
        ;
#endif
}

/* x / T, rounded as a division rounds: of floats the double quotient, rounded once more, is the float one. */
template <class R> XENT_HD R tempered(R x, double t, double inv) {
    return R(divided<sizeof(R) == 4>(double(x), t, inv));
}

template <class OP, class M> XENT_HD row_view<M> open_row(const job &j, int64_t row, bool first) {
    using R = typename M::real;
    const place_in_batch at = find_row(j.by_shape, j.ndim, row);
    row_view<M> v;
    row_facts<M> &f = v.facts;
    v.x = j.x.data ? j.x.data + offset_of(j.x, at) : nullptr;
    v.t = j.t.data ? j.t.data + offset_of(j.t, at) : nullptr;
    v.where = j.where.data ? j.where.data + offset_of(j.where, at) : nullptr;
    v.value = j.value.data ? j.value.data + offset_of(j.value, at) : nullptr;
    v.out = j.out.data ? j.out.data + offset_of(j.out, at) : nullptr;
    if (j.weight.data)
        f.weight = load_weight(j.weight, at);
    if (j.class_scale)
        f.weight *= j.class_scale[1];
    if (j.temperature.data)
        f.temperature = load_weight(j.temperature, at);
    if (j.has_labels) {
        const int64_t y = load_label(v.t, j.t.dtype);
        f.dead = j.has_ignore && y == j.ignore_index;
        f.bad = !f.dead && (y < 0 || y >= j.classes);
        if (f.bad && first)
            note_bad_row(j.notes, row);
        if (!f.dead && !f.bad) {
            f.label = y;
            if (OP::labels && j.class_weight.data)
                f.weight *= load_weight(j.class_weight.data + y * j.class_weight.cs, j.class_weight.dtype);
            if (v.where && !v.where[y * j.where.cs])
                f.label = -1;
        }
        if (OP::labels && f.label >= 0) {
            f.x_label = load_real<R>(v.x + f.label * j.x.cs, j.x.dtype);
            if (j.temperature.data)
                f.x_label = tempered(f.x_label, f.temperature, ratio(1.0, f.temperature));
        }
    }
    f.bad = f.bad || !(0.0 < f.temperature && finite(f.temperature));
    f.uniform = R(j.uniform);
    return v;
}

/* Counts the row's classes: none makes it dead, and smoothing shares 1 among them. A collective of the row's lanes. */
template <class OP, class M, class G> XENT_HD void count_classes(G &g, const job &j, row_view<M> *v, int *turn) {
    using R = typename M::real;
    if (!j.where.data || j.classes == 0)
        return;
    R n = R(0);
    for (int64_t c = lane(g); c < j.classes; c += G::lanes)
        n += v->where[c * j.where.cs] ? R(1) : R(0);
    n = across_all(g, n, turn, [](R a, R b) { return a + b; });
    v->facts.dead = v->facts.dead || n == R(0);
    if (v->facts.dead)
        v->facts.label = -1;
    v->facts.uniform = j.smooths && n > R(0) ? ratio(R(j.label_smoothing), n) : R(0);
}

/* ---- tiles ---- */
/* Where in the row a lane's tile lies that begins `base` classes from its start: for its i-th number */
template <class G, access_kind A, class S> XENT_HD int64_t class_of(int64_t base, int lane, int i) {
    constexpr int count = pack<S>::count;
    if constexpr (A == PACKS)
        return base + int64_t(i / count * G::lanes + lane) * count + i % count;
    else
        return base + int64_t(i) * G::lanes + lane;
}

template <access_kind A, class M> XENT_HD typename M::real load_element(const char *p, int dtype) {
    if constexpr (A == ANY)
        return load_real<typename M::real>(p, dtype);
    else
        return widen(load_as<typename M::stored>(p));
}

template <class R> XENT_HD R load_class_weight(const job &j, int64_t c) {
    const double w = load_weight(j.class_weight.data + c * j.class_weight.cs, j.class_weight.dtype);
    return R(j.class_scale ? w * j.class_scale[0] : w);
}

/* One class of the target, with what the options that act class by class make of it. */
template <class OP, class M, access_kind A, class R = typename M::real>
XENT_HD R load_target(const job &j, const row_view<M> &v, int64_t c) {
    R t;
    if (A == ANY && OP::shapes && j.has_labels)
        t = c == v.facts.label ? R(1) : R(0);
    else
        t = load_element<A, M>(v.t + c * j.t.cs, j.t.dtype);
    if constexpr (OP::shapes && A == ANY) {
        if (j.smooths)
            t = fma(R(j.unsmoothed), t, v.facts.uniform);
        if (j.class_weight.data)
            t = t * load_class_weight<R>(j, c);
    }
    return t;
}

/* Classes up to `end`, from `base` on. */
template <class OP, class M, access_kind A, int N, class G>
XENT_HD void load_tile(G &g, const job &j, const row_view<M> &v, int64_t base, int64_t end, bool with_x,
                       tile<typename M::real, N> *out) {
    using R = typename M::real;
    using S = typename M::stored;
    const R x_fill = OP::zero_x ? R(0) : -fp<R>::infinity, t_fill = OP::log_target ? -fp<R>::infinity : R(0);
    constexpr int count = A == PACKS ? pack<S>::count : 1;
    XENT_UNROLL
    for (int i = 0; i < N; i++)
        out->w[i] = out->p[i] = R(1);
    XENT_UNROLL
    for (int i = 0; i < N; i += count) {
        const int64_t c = class_of<G, A, S>(base, lane(g), i);
        if constexpr (A == PACKS) {
            if (with_x)
                load_pack<S>(v.x, c, end, x_fill, out->x + i);
            if constexpr (OP::reads_t)
                load_pack<S>(v.t, c, end, t_fill, out->t + i);
        } else {
            out->x[i] = x_fill;
            out->t[i] = t_fill;
            if (c >= end || (A == ANY && v.where && !v.where[c * j.where.cs]))
                continue;
            if (with_x)
                out->x[i] = load_element<A, M>(v.x + c * j.x.cs, j.x.dtype);
            if constexpr (OP::reads_t)
                out->t[i] = load_target<OP, M, A>(j, v, c);
            if constexpr (OP::weighs && A == ANY) {
                if (j.class_weight.data)
                    out->w[i] = load_class_weight<R>(j, c);
                if (j.pos_weight.data)
                    out->p[i] = load_real<R>(j.pos_weight.data + c * j.pos_weight.cs, j.pos_weight.dtype);
            }
        }
    }
    if (j.temperature.data) {
        const double inv = ratio(1.0, v.facts.temperature);
        XENT_UNROLL
        for (int i = 0; i < N; i++) {
            if (with_x)
                out->x[i] = tempered(out->x[i], v.facts.temperature, inv);
            if constexpr (OP::target == XENT_TARGET_LOGITS)
                out->t[i] = tempered(out->t[i], v.facts.temperature, inv);
        }
    }
}

/* What a class is given in the end, by what the row is. */
template <class OP, class M, class R = typename M::real>
XENT_HD R settle(const job &j, const row_view<M> &v, const result<M> &r, int64_t c, R out) {
    if (OP::labels && c == v.facts.label)
        out = r.patch;
    if (v.facts.bad)
        return fp<R>::nan;
    if (v.facts.dead || (v.where && !v.where[c * j.where.cs]))
        return OP::emit == EMIT_LOGP ? -fp<R>::infinity : R(0);
    return out;
}

template <class OP, class M, access_kind A, int N, class G>
XENT_HD void store_tile(G &g, const job &j, const row_view<M> &v, const result<M> &r, int64_t base, int64_t end,
                        typename M::real (&out)[N]) {
    using R = typename M::real;
    using S = typename M::stored;
    const int at = lane(g);
    if constexpr (A == PACKS) {
        constexpr int count = pack<S>::count;
        XENT_UNROLL
        for (int i = 0; i < N; i += count) {
            const int64_t c = class_of<G, A, S>(base, at, i);
            if (v.facts.dead || v.facts.bad) {
                XENT_UNROLL
                for (int k = 0; k < count; k++)
                    out[i + k] = v.facts.bad ? fp<R>::nan : R(0);
            } else if (OP::labels && v.facts.label >= c && v.facts.label < c + count) {
                XENT_UNROLL
                for (int k = 0; k < count; k++)
                    out[i + k] = v.facts.label == c + k ? r.patch : out[i + k];
            }
            if (r.after != R(0)) {
                XENT_UNROLL
                for (int k = 0; k < count; k++)
                    out[i + k] = scale_by(out[i + k], r.after);
            }
            store_pack<S>(g, v.out, c, end, out + i);
        }
    } else {
        XENT_UNROLL
        for (int i = 0; i < N; i++) {
            const int64_t c = class_of<G, A, S>(base, at, i);
            if (c >= end)
                break;
            R one = settle<OP>(j, v, r, c, out[i]);
            if (r.after != R(0))
                one = scale_by(one, r.after);
            if constexpr (A == ANY)
                store_real(v.out + c * j.out.cs, j.out.dtype, one);
            else
                narrow(one, reinterpret_cast<S *>(v.out + c * j.out.cs));
        }
    }
}

} // namespace xent

#endif
