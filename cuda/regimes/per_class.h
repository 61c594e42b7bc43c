/* per_class.h: terms summed over rows, one value a class. The rows' results are in the workspace; here a lane walks
 * down the rows of a chunk for a few classes, coalesced over classes, and then the chunks are added in order. */
#ifndef XENT_CUDA_PER_CLASS_H
#define XENT_CUDA_PER_CLASS_H

#include "rows.h"

namespace xent {

enum { CLASS_TILE = 4 };
using class_block = team<128, 128>;
constexpr int64_t CLASSES_A_BLOCK = int64_t(CLASS_TILE) * class_block::lanes;

template <class OP, class M> struct class_sums : kernel_on<class_block, job> {
    using R = typename M::real;

    template <class G> static XENT_HD void run(G &g, const job &j) {
        for (int64_t unit = g.block(); unit < int64_t(j.by_tiles.by) * j.chunks; unit += g.blocks()) {
            const int64_t chunk = quotient(unit, j.by_tiles);
            const int64_t base = remainder(unit, chunk, j.by_tiles) * CLASSES_A_BLOCK;
            const int64_t end = (chunk + 1) * j.chunk_rows < j.rows ? (chunk + 1) * j.chunk_rows : j.rows;
            row_sum<R> sums[CLASS_TILE];
            for (int64_t row = chunk * j.chunk_rows; row < end; row++) {
                row_view<M> v = open_row<OP, M>(j, row, false);
                const result<M> r = static_cast<const result<M> *>(j.results)[row];
                const double after = pow2(double(r.after));
                v.facts.uniform = r.uniform;
                tile<R, CLASS_TILE> t;
                R out[CLASS_TILE];
                load_tile<OP, M, ANY>(g, j, v, base, j.classes, OP::reads_x, &t);
                emit<OP>(j, r, t, false, out);
                XENT_UNROLL
                for (int i = 0; i < CLASS_TILE; i++) {
                    const int64_t c = class_of<G, ANY, R>(base, lane(g), i);
                    if (c < j.classes)
                        add_to(sums[i], after * double(settle<OP>(j, v, r, c, out[i])));
                }
            }
            XENT_UNROLL
            for (int i = 0; i < CLASS_TILE; i++) {
                const int64_t c = class_of<G, ANY, R>(base, lane(g), i);
                if (c < j.classes)
                    put_sum<R>(j.partials, chunk * j.classes + c, sums[i]);
            }
        }
    }
};

/* Adds up the chunks' sums of each class. */
template <class M> struct class_totals : kernel_on<class_block, job> {
    using R = typename M::real;

    template <class G> static XENT_HD void run(G &g, const job &j) {
        for (int64_t c = g.block() * G::lanes + lane(g); c < j.classes; c += g.blocks() * G::lanes) {
            row_sum<R> sum;
            for (int64_t chunk = 0; chunk < j.chunks; chunk++)
                add_to(sum, get_sum<R>(j.partials, chunk * j.classes + c));
            store_real(j.out.data + c * j.out.cs, j.out.dtype, sum.value());
        }
    }
};

} // namespace xent

#endif
