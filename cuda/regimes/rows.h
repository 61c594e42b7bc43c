/* rows.h: lanes along a row. `held`: the row is in the lanes' registers from its one reading to its one writing; of a
 * longer one each block of a cluster holds a piece.
 * `stream`: it is folded tile by tile, whatever its length, and read once more where the result has its length: also
 * pieces of a row (split.h), rows with options, and, with rows side by side in a warp, a class axis that is not the
 * last (columns). */
#ifndef XENT_CUDA_ROWS_H
#define XENT_CUDA_ROWS_H

#include "tiles.h"

namespace xent {

template <class M>
XENT_HD void put_value(const job &j, const row_view<M> &v, int64_t row, wide<typename M::real, !M::quick> value) {
    using R = typename M::real;
    if (v.facts.bad)
        value = fp<R>::nan;
    else if (v.facts.dead)
        value = R(0);
    if (!j.to_workspace && !j.weighs) {
        store_real(v.value, j.value.dtype, value.value());
        return;
    }
    row_sum<R> sum = in_double(value);
    if (j.weighs && !v.facts.dead)
        sum = weigh(sum, v.facts.weight, sum.hi != sum.hi);
    if (j.to_workspace)
        put_sum<R>(j.values, row, sum);
    else
        store_real(v.value, j.value.dtype, sum.value());
}

/* The classes that a block folds: where a cluster shares the row, its piece. */
struct span {
    int64_t begin, end;
};
template <class G> XENT_HD span own_classes(const G &g, const job &j) {
    if constexpr (G::ranks > 1)
        return {g.rank() * j.piece, g.rank() + 1 == j.pieces ? j.classes : (g.rank() + 1) * j.piece};
    else
        return {0, j.classes};
}

/* Classes [begin, end) of a row, tile by tile. */
template <class OP, class M, access_kind A, int N, class G, class F>
XENT_HD void each_tile(G &g, const job &j, const row_view<M> &v, int64_t begin, int64_t end, bool with_x, F f) {
    for (int64_t base = begin; base < end; base += int64_t(N) * G::lanes) {
        tile<typename M::real, N> t[1];
        load_tile<OP, M, A>(g, j, v, base, end, with_x, &t[0]);
        f(base, t);
    }
}

/* The pieces [first, last) of a row, folded and joined: lane p holds the state of piece p until all are there. */
template <class OP, class M, access_kind A, int N, class S, class G, class F>
XENT_HD S fold_pieces(G &g, const job &j, const row_view<M> &v, int64_t first, int64_t last, int *turn, F add) {
    S s;
    for (int64_t p = first; p < last; p++) {
        S part;
        each_tile<OP, M, A, N>(g, j, v, p * j.piece, p + 1 == j.pieces ? j.classes : (p + 1) * j.piece, true,
                               [&](int64_t at, auto &t) { add(part, t, at == p * j.piece); });
        part.join(g, turn);
        if (first + 1 == last || lane(g) == p)
            s = part;
    }
    if (first + 1 < last)
        s.join(g, turn);
    return s;
}

/* From the joined state of a row to its result; all lanes of the row get it. Where the state left its range, the row is folded
 * once more, into the reduction that the list has for that. */
template <class OP, class M, class S, class G>
XENT_HD result<M> finish_row(G &g, const job &j, const row_view<M> &v, const S &s, int *turn) {
    bool again = false;
    result<M> r = finish<OP>(j, v.facts, s, &again);
    if constexpr (OP::again != REDUCE_NONE) {
        if (any_beside(g, again)) {
            state<OP::again, M> direct;
            bool none;
            const span own = own_classes(g, j);
            each_tile<OP, M, ANY, 4>(g, j, v, own.begin, own.end, true,
                                     [&](int64_t, auto &t) { fold_tiles(g, direct, t, 1, false, turn); });
            direct.join(g, turn);
            if (again)
                r = finish<OP>(j, v.facts, direct, &none);
        }
    }
    return r;
}

template <class OP, class M, class TEAM, access_kind A> struct stream : kernel_on<TEAM, job> {
    using R = typename M::real;
    using S = state_of<OP, M>;
    using J = state<REDUCE_JS_SUM, M>;
    /* How many numbers a lane loads at once: of neighbours, 64 bytes as they are computed with. */
    static constexpr int N = A != PACKS ? (OP::reads_t || A == ANY ? 4 : 8) : 64 / (OP::reads_t ? 2 : 1) / sizeof(R);

    template <class G> static XENT_HD void run(G &g, const job &j) {
        const int64_t units = j.split ? j.rows * j.pieces : j.rows;
        int turn = 0;
        for (int64_t first = g.block() * G::groups; first < units; first += g.blocks() * G::groups) {
            const int64_t mine = first + G::group_of(g.thread());
            const bool live = mine < units; /* else it only takes part in what lanes do together */
            one(g, j, live ? mine : units - 1, live, &turn);
        }
    }

    template <class G> static XENT_HD void one(G &g, const job &j, int64_t unit, bool live, int *turn) {
        const int64_t first = j.split ? quotient(unit, j.by_rows) : 0, last = j.split ? first + 1 : j.pieces;
        const int64_t row = j.split ? remainder(unit, first, j.by_rows) : unit; /* neighbours are side by side */
        const bool leads = live && lane(g) == 0;
        row_view<M> v = open_row<OP, M>(j, row, leads && first == 0 && (j.mode == MODE_ALL || j.mode == MODE_FOLD));
        result<M> r = {};
        if constexpr (A == ANY) {
            if (!j.split || (j.smooths && j.mode == MODE_FOLD))
                count_classes<OP>(g, j, &v, turn);
        }
        if (j.mode == MODE_EMIT || j.mode == MODE_FOLD_JS || j.mode == MODE_FOLD_GAP) {
            r = static_cast<const result<M> *>(j.results)[row];
            v.facts.uniform = r.uniform;
        } else {
            S s;
            if constexpr (OP::folds) {
                s = fold_pieces<OP, M, A, N, S>(g, j, v, first, last, turn, [&](S &p, auto &t, bool start) {
                    fold_tiles(g, p, t, 1, start, turn);
                });
                if (j.mode == MODE_FOLD) {
                    if (leads)
                        static_cast<typename S::packed *>(j.states)[row * j.pieces + first] = s.pack();
                    return;
                }
            }
            r = finish_row<OP, M>(g, j, v, s, turn);
        }
        if constexpr (OP::is_js) {
            const auto fold = [&](auto add) {
                return fold_pieces<OP, M, A, N, J>(g, j, v, first, last, turn,
                                                   [&](J &p, auto &t, bool) { add(p, t[0]); });
            };
            if (j.mode == MODE_FOLD_JS || j.mode == MODE_FOLD_GAP) {
                if (!any_beside(g, r.again != R(0)))
                    return;
                const js_row<M> facts = js_row_of(r, j);
                const bool gap = j.mode == MODE_FOLD_GAP;
                J s = fold([&](J &p, auto &t) { gap ? fold_JS_GAP(p, t, facts) : fold_JS_SUM(p, t, facts); });
                if (leads)
                    static_cast<typename J::packed *>(j.states)[row * j.pieces + first] = s.pack();
                return;
            }
            if (j.mode != MODE_EMIT)
                js_fold_again<OP, M>(g, j, &r, fold);
        }
        if (j.mode == MODE_RESULTS) {
            if (leads)
                static_cast<result<M> *>(j.results)[row] = r;
            return;
        }
        if constexpr (OP::value != VALUE_NONE) {
            if (leads && j.mode == MODE_ALL)
                put_value(j, v, row, r.value);
        }
        if constexpr (OP::emits) {
            if (live)
                each_tile<OP, M, A, N>(g, j, v, first * j.piece, last == j.pieces ? j.classes : last * j.piece,
                                       OP::reads_x, [&](int64_t base, auto &t) {
                                           R out[N];
                                           emit<OP>(j, r, t[0], false, out);
                                           store_tile<OP, M, A>(g, j, v, r, base, j.classes, out);
                                       });
        }
    }
};

/* Classes that a lane of a held row has room for: so many that a block has registers for all its lanes. A cluster's blocks are
 * small, so that a multiprocessor has two: one reads while the other computes. Their lanes hold more. */
constexpr int held_room(const op_entry &op, bool is_f64, bool of_cluster) {
    return 16 / (reads_target(op) ? 2 : 1) / (is_f64 ? 2 : 1) * (of_cluster ? 2 : 1);
}

/* What E against one maximum is multiplied by to be E against the row's. */
template <class M, class R = typename M::real> XENT_HD wide<R, !M::quick> raised(R from, R to) {
    if (-fp<R>::infinity < from && from < to)
        return change<M>(reference_of<M>(from), reference_of<M>(to));
    return R(1);
}
template <class M, int N, class R = typename M::real> XENT_HD void scale_all(R (&e)[N], wide<R, !M::quick> f) {
    if (f.hi == R(1))
        return;
    XENT_UNROLL
    for (int i = 0; i < N; i++) {
        const R p = e[i] * f.hi;
        e[i] = M::quick ? p : p + fma(e[i], f.lo, fma(e[i], f.hi, -p)); /* rounded once */
    }
}

template <class OP, class M, class TEAM> struct held : kernel_on<TEAM, job> {
    using R = typename M::real;
    /* 128 registers a lane; 168 for 16 bits of four lanes a row; 255 for double, and for twice as many numbers of what KL's gradients
     * keep of each */
    static constexpr bool wide_lanes =
        sizeof(R) == 8 || (TEAM::ranks > 1 && (xent_parts(OP::reduce) & PART_KL) && OP::emits);
    static constexpr int blocks = (wide_lanes ? 256 : M::quick && TEAM::lanes < 32 ? 384 : 512) / TEAM::threads;
    static constexpr int N = OP::reads_t && sizeof(R) == 8 ? 4 : 8;
    static constexpr int tiles = held_room(ops[OP::index], sizeof(R) == 8, TEAM::ranks > 1) / N;

    static int cluster(const job &j) {
        return int(j.pieces);
    }

    template <class G> static XENT_HD void run(G &g, const job &j) {
        int turn = 0;
        for (int64_t first = g.block() * G::groups; first < j.rows; first += g.blocks() * G::groups) {
            const int64_t mine = first + G::group_of(g.thread());
            const bool live = mine < j.rows;
            one(g, j, live ? mine : j.rows - 1, live, &turn);
        }
        if constexpr (G::ranks > 1)
            await_ranks(g, &turn);
    }

    template <class G> static XENT_HD void one(G &g, const job &j, int64_t row, bool live, int *turn) {
        constexpr int64_t step = N * G::lanes;
        const row_view<M> v = open_row<OP, M>(j, row, live && leads(g));
        const span own = own_classes(g, j);
        const int used = int((own.end - own.begin + step - 1) / step);
        tile<R, N> t[tiles];
        state_of<OP, M> s;
        R mx = -fp<R>::infinity, my = mx;
        XENT_UNROLL
        for (int i = 0; i < tiles; i++) /* all in flight at once; the branch is the same for the whole row */
            if (i < used)
                load_tile<OP, M, PACKS>(g, j, v, own.begin + i * step, own.end, true, &t[i]);
        /* One reference for all lanes, so that the exponentials can be kept for the emit. */
        const auto most = [](R a, R b) { return larger(a, b); };
        each_of(t, used, [&](auto &one) {
            mx = larger(mx, largest(one.x));
            if constexpr (decltype(s)::leads_y)
                my = larger(my, largest(one.t));
        });
        if constexpr (decltype(s)::of_x)
            s.raise_x(mx = across_all(g, mx, turn, most));
        if constexpr (decltype(s)::leads_y)
            s.raise_y(my = across_all(g, my, turn, most));
        fold_tiles(g, s, t, used, true, turn);
        s.join(g, turn);
        result<M> r = finish_row<OP, M>(g, j, v, s, turn);
        if constexpr (G::ranks > 1 && OP::of_exp) { /* blocks had each its own reference */
            const auto fx = raised<M>(mx, r.mx), fy = raised<M>(my, r.my);
            each_of(t, used, [&](auto &one) {
                scale_all<M>(one.ex, fx);
                if constexpr (OP::log_target)
                    scale_all<M>(one.ey, fy);
            });
        }
        if constexpr (OP::is_js)
            js_fold_again<OP, M>(g, j, &r, [&](auto add) {
                state<REDUCE_JS_SUM, M> sums;
                each_of(t, used, [&](auto &one) { add(sums, one); });
                sums.join(g, turn);
                return sums;
            });
        if (!live)
            return;
        if constexpr (OP::value != VALUE_NONE) {
            if (leads(g))
                put_value(j, v, row, r.value);
        }
        XENT_UNROLL
        for (int i = 0; i < tiles; i++)
            if (i < used) {
                R out[N];
                emit<OP>(j, r, t[i], true, out);
                store_tile<OP, M, PACKS>(g, j, v, r, own.begin + i * step, own.end, out);
            }
    }
};

} // namespace xent

#endif
