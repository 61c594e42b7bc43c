/* split.h: few rows, or classes that are no neighbours, and many classes: each piece of a row has lanes of its own
 * (rows.h); here the pieces' states are joined, as one block that folds all of them would. */
#ifndef XENT_CUDA_SPLIT_H
#define XENT_CUDA_SPLIT_H

#include "rows.h"

namespace xent {

enum { MAX_PIECES = 256 };
using row_block = team<MAX_PIECES, MAX_PIECES>; /* a lane a piece */

/* AGAIN: the states are those of Jensen-Shannon's second reduction. */
template <class OP, class M, bool AGAIN> struct merge : kernel_on<row_block, job> {
    using S = std::conditional_t<AGAIN, state<REDUCE_JS_SUM, M>, state_of<OP, M>>;

    template <class G> static XENT_HD void run(G &g, const job &j) {
        int turn = 0;
        for (int64_t row = g.block(); row < j.rows; row += g.blocks()) {
            row_view<M> v = open_row<OP, M>(j, row, false);
            auto *results = static_cast<result<M> *>(j.results);
            result<M> r;
            S s;
            count_classes<OP>(g, j, &v, &turn);
            if constexpr (AGAIN) {
                r = results[row];
                g.sync(); /* all have read it */
                if (r.again == typename M::real(0))
                    continue;
            }
            if (lane(g) < j.pieces)
                s.unpack(static_cast<const typename S::packed *>(j.states)[row * j.pieces + lane(g)]);
            s.join(g, &turn);
            if constexpr (AGAIN) {
                if (j.mode == MODE_FOLD_GAP)
                    js_finish_gap(s, &r);
                else
                    js_finish(j, s, &r);
            } else {
                r = finish_row<OP, M>(g, j, v, s, &turn);
            }
            if (lane(g) != 0)
                continue;
            if (OP::emits || OP::is_js)
                results[row] = r;
            if (OP::value != VALUE_NONE && (OP::value != VALUE_JS || AGAIN))
                put_value(j, v, row, r.value);
        }
    }
};

} // namespace xent

#endif
