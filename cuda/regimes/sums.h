/* sums.h: what is done with one number a row: values and weights summed in a fixed tree, which the number of rows alone
 * decides; with one number a class; and the note of the first label that is out of range. */
#ifndef XENT_CUDA_SUMS_H
#define XENT_CUDA_SUMS_H

#include "tiles.h"

namespace xent {

using sum_block = team<256, 256>;
enum { SUM_BLOCKS = 256 };

struct sum_args {
    const void *from; /* row_sums */
    int64_t count;
    void *to;            /* row_sums, one a block; or, with a dtype, the result */
    int dtype;           /* XENT_NO_DTYPE: to is a partial sum */
    const void *divisor; /* a row_sum, or null */
    double by;           /* where divisor is null */
};

/* Each block sums what is its own; block b takes every blocks-th run of 256. */
template <class R> struct add_up : kernel_on<sum_block, sum_args> {
    using W = row_sum<R>;

    template <class G> static XENT_HD void run(G &g, const sum_args &a) {
        int turn = 0;
        W sum;
        for (int64_t i = g.block() * G::lanes + lane(g); i < a.count; i += g.blocks() * G::lanes)
            add_to(sum, get_sum<R>(a.from, i));
        sum = across_all(g, sum, &turn, [](W a, W b) {
            add_to(a, b);
            return a;
        });
        if (lane(g) != 0)
            return;
        if (a.dtype == XENT_NO_DTYPE) {
            put_sum<R>(a.to, g.block(), sum);
            return;
        }
        const W by = a.divisor ? get_sum<R>(a.divisor, 0) : W(a.by);
        W v = finite(sum.hi) ? settled(sum) / settled(by) : W(sum.hi / by.hi);
        if (by.value() == 0.0) /* a mean of nothing, whatever its sum is */
            v = fp<double>::nan;
        store_real(static_cast<char *>(a.to), a.dtype, v.value());
    }
};

/* The weight with which each row counts in a mean, 0 where it does not. */
template <class M> struct weigh_rows : kernel_on<team<WARP, 256>, job> {
    using R = typename M::real;

    template <class G> static XENT_HD void run(G &g, const job &j) {
        for (int64_t first = g.block() * G::groups; first < j.rows; first += g.blocks() * G::groups) {
            const int64_t row = first + G::group_of(g.thread());
            if (row >= j.rows)
                continue;
            const place_in_batch at = find_row(j.by_shape, j.ndim, row);
            double w = j.weight.data ? load_weight(j.weight, at) : 1.0;
            bool counts = true;
            if (j.has_labels) {
                const int64_t y = load_label(j.t.data + offset_of(j.t, at), j.t.dtype);
                counts = !(j.has_ignore && y == j.ignore_index);
                if (counts && j.class_weight.data && j.weighs_by_label && y >= 0 && y < j.classes)
                    w *= load_weight(j.class_weight.data + y * j.class_weight.cs, j.class_weight.dtype);
            }
            if (j.where.data && j.classes > 0) {
                const char *where = j.where.data + offset_of(j.where, at);
                int n = 0;
                for (int64_t c = lane(g); c < j.classes; c += G::lanes)
                    n |= where[c * j.where.cs] ? 1 : 0;
                n = across<G::lanes>(g, n, [](int a, int b) { return a | b; });
                counts = counts && n;
            }
            if (lane(g) == 0)
                put_sum<R>(j.values, row, counts ? w : 0.0);
        }
    }
};

/* Weights of classes that floats do not hold are halved or doubled as often as it takes for the largest to be about 1. */
struct scale_classes : kernel_on<sum_block, job> {
    template <class G> static XENT_HD void run(G &g, const job &j) {
        int turn = 0;
        double most = 0.0;
        for (int64_t c = lane(g); c < j.classes; c += G::lanes)
            most = larger(most, abs(load_weight(j.class_weight.data + c * j.class_weight.cs, j.class_weight.dtype)));
        most = across_all(g, most, &turn, [](double a, double b) { return larger(a, b); });
        const double k = fits_float(most) ? 0.0 : exponent_of(most);
        double *to = const_cast<double *>(j.class_scale);
        if (lane(g) == 0)
            to[0] = pow2(-k);
        if (lane(g) == 1)
            to[1] = pow2(k);
    }
};

/* Before the kernels that read labels. */
struct start_note : kernel_on<team<WARP, WARP>, job> {
    template <class G> static XENT_HD void run(G &g, const job &j) {
        if (lane(g) != 0)
            return;
        j.notes->bad_row = INT64_MAX;
        j.notes->labels = j.t;
        j.notes->ndim = j.ndim;
        for (int d = 0; d < MAX_NDIM; d++)
            j.notes->shape[d] = j.by_shape[d];
    }
};

} // namespace xent

#endif
