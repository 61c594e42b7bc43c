/* group.h: the lanes that share a row, and what a kernel's body may ask of them.
 *
 * A kernel is a struct K with `using args`, `using shape = team<...>`, `blocks` (that a multiprocessor has room for, at
 * least) and `template <class G> static void run(G &, const args &)`, which every lane of a launch runs. G is
 * group.cuh's on a device and a host group in the tests; it derives from team<...> and adds
 *     int thread()                     this lane's place in its block
 *     int64_t block(), blocks()        this block's place in the grid, and the grid's size
 *     T shfl_xor(T v, int d)           the v of the lane of this group's row that is d lanes away, d < width
 *     void sync()                      all lanes of the block meet, and see each other's shared memory
 *     bool any(bool)                   ... and learn whether any of them said true
 *     T shfl_up(T v)                   the v of the lane one place before; for the first of a row's in a warp, its own
 *     S *shared<S, N>()                the block's N objects of type S: one array for each S and N
 * Where several blocks, a cluster, share each row (team::ranks > 1), block() and blocks() count clusters, and G adds
 *     int rank(), size()               this block's place in the cluster, and how many blocks that is: ranks at most
 *     void arrive_cluster()            ... and then
 *     void wait_cluster()              all lanes of the cluster meet: who waits sees what the others did before they
 *                                      arrived, and need not see what they did since
 *     S *shared_of<S, N>(int rank)     another block's shared<S, N>(), while that block runs
 */
#ifndef XENT_CUDA_GROUP_H
#define XENT_CUDA_GROUP_H

#include "hd.h"

namespace xent {

/* What a kernel on teams of a shape has besides run. */
template <class SHAPE, class ARGS> struct kernel_on {
    using args = ARGS;
    using shape = SHAPE;
    static constexpr int blocks = 1;
};

enum { WARP = 32 };

/* LANES lanes a row, THREADS a block. BESIDE neighbouring rows take turns in a warp, lane by lane, so that a warp reads
 * whole lines also where rows, not classes, are neighbours in memory. Lanes of a row that are in one warp exchange by
 * shuffles: `width` of them; `parts` such parts meet in shared memory. RANKS blocks at most have each a part of a row:
 * what is said of a row's lanes is then said of one block's, and the blocks meet in exchange_ranks alone. */
template <int LANES, int THREADS, int BESIDE = 1, int RANKS = 1> struct team {
    static constexpr int lanes = LANES, threads = THREADS, beside = BESIDE, ranks = RANKS;
    static constexpr int width = LANES < WARP / BESIDE ? LANES : WARP / BESIDE;
    static constexpr int parts = LANES / width;
    static constexpr int groups = THREADS / LANES; /* rows at a time, a block */
    static_assert(parts <= width && groups * LANES == THREADS && parts * width == LANES, "lanes are powers of two");
    static_assert(ranks == 1 || (groups == 1 && ranks <= width), "blocks of a cluster share one row at a time");

    /* This lane's place in its part, its part in the row, and its row in the block. */
    static XENT_HD int place_of(int thread) {
        return thread % WARP / BESIDE % width;
    }
    static XENT_HD int part_of(int thread) {
        return parts == 1 ? 0 : thread / WARP;
    }
    static XENT_HD int group_of(int thread) {
        if (parts > 1)
            return thread % BESIDE;
        return BESIDE > 1 ? thread / WARP * BESIDE + thread % BESIDE : thread / width;
    }
};

template <class G> XENT_HD int place(const G &g) {
    return G::place_of(g.thread());
}
template <class G> XENT_HD int lane(const G &g) {
    return G::part_of(g.thread()) * G::width + place(g);
}
/* The lane that writes what a row has one of. */
template <class G> XENT_HD bool leads(const G &g) {
    if constexpr (G::ranks > 1)
        return lane(g) == 0 && g.rank() == 0;
    else
        return lane(g) == 0;
}

/* Each part's S to all: part p's is returned to the lanes whose place is p, modulo the number of parts. `turn`
 * alternates between two rooms, so that one meeting is enough: who reads the one has met the others before they write
 * it again. (Its second bit is exchange_ranks'.) */
template <class S, class G> XENT_HD S exchange(G &g, const S &s, int *turn) {
    constexpr int rooms = G::parts * G::groups;
    const int group = G::group_of(g.thread());
    S *room = g.template shared<S, 2 * rooms>() + (*turn & 1) * rooms;
    if (place(g) == 0)
        room[group * G::parts + G::part_of(g.thread())] = s;
    g.sync();
    *turn ^= 1;
    return room[group * G::parts + place(g) % G::parts];
}
/* Blocks of a cluster: until all have read what they exchanged last. Only then may a block write its own once more, or
 * leave, and its memory with it. */
template <class G> XENT_HD void await_ranks(G &g, int *turn) {
    if (*turn & 2)
        g.wait_cluster();
    *turn &= ~2;
}
/* Each block's S to all: block b's is returned to the lanes whose place is b, modulo ranks; `none` to those whose block
 * there is not. A lane that has read arrives at a barrier that is waited for before the next exchange alone: results can be
 * written meanwhile. */
template <class S, class G> XENT_HD S exchange_ranks(G &g, const S &s, const S &none, int *turn) {
    const int from = place(g) % G::ranks;
    await_ranks(g, turn);
    if (lane(g) == 0)
        *g.template shared<S, 1>() = s;
    g.arrive_cluster();
    g.wait_cluster();
    const S theirs = from < g.size() ? *g.template shared_of<S, 1>(from) : none;
    g.arrive_cluster();
    *turn |= 2;
    return theirs;
}

/* G's shfl_xor, also of a sum. */
template <class G, class T> XENT_HD T shfl_xor(G &g, T v, int d) {
    return g.shfl_xor(v, d);
}
template <class G, class R, bool P> XENT_HD wide<R, P> shfl_xor(G &g, wide<R, P> v, int d) {
    return {g.shfl_xor(v.hi, d), P ? g.shfl_xor(v.lo, d) : R(0)};
}
/* v of N lanes combined, in a fixed tree; both(a, b) has to be both(b, a) to the bit. */
template <int N, class G, class T, class F> XENT_HD T across(G &g, T v, F both) {
    XENT_UNROLL
    for (int d = 1; d < N; d *= 2)
        v = both(v, shfl_xor(g, v, d));
    return v;
}
template <class G, class T, class F> XENT_HD T across_all(G &g, T v, int *turn, F both) {
    v = across<G::width>(g, v, both);
    if constexpr (G::parts > 1)
        v = across<G::parts>(g, exchange(g, v, turn), both);
    return v;
}

/* b, on which the lanes of a row agree; where rows of a block meet in shared memory they have to go the same way: whether it is
 * true of any of them. */
template <class G> XENT_HD bool any_beside(G &g, bool b) {
    return G::parts > 1 && G::groups > 1 ? g.any(b) : b;
}

} // namespace xent

#endif
