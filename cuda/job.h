/* job.h: a request as the kernels get it: checked, batch dimensions coalesced, every size and stride in 64 bits. Plain
 * data, passed by value. */
#ifndef XENT_CUDA_JOB_H
#define XENT_CUDA_JOB_H

#include "../kernels/math/mixture.h"
#include "hd.h"
#include "xent_cuda.h"

namespace xent {

enum { MAX_NDIM = XENT_CUDA_MAX_NDIM };

struct operand {
    char *data; /* null: absent */
    int64_t cs; /* bytes from class to class */
    int64_t rs[MAX_NDIM];
    int dtype, size;
};

/* What one launch of a row kernel does. */
enum mode_kind {
    MODE_ALL,      /* rows, from their classes to their results                                                     */
    MODE_FOLD,     /* pieces of rows, into states in the workspace                                                  */
    MODE_FOLD_JS,  /* Jensen-Shannon's second reduction, of pieces of rows whose results are known                  */
    MODE_FOLD_GAP, /* ... and that of the difference of log sum exp, of rows that are near                          */
    MODE_EMIT,     /* pieces of rows whose results are known                                                        */
    MODE_RESULTS   /* rows, into results in the workspace                                                           */
};

/* The head of the workspace. */
struct note {
    int64_t bad_row; /* INT64_MAX: none */
    operand labels;
    divider shape[MAX_NDIM];
    int ndim;
};

struct job {
    operand x, t, value, out, where, weight, temperature, class_weight, pos_weight;
    int64_t shape[MAX_NDIM], rows, classes;
    int ndim;
    divider by_shape[MAX_NDIM], by_rows, by_tiles; /* the last: of classes, of per_class */

    bool has_labels, has_ignore, smooths;
    bool to_workspace;    /* values are summed later */
    bool weighs_by_label; /* the class weight of a row's label is the row's */
    int64_t ignore_index;
    double label_smoothing, unsmoothed, uniform; /* a, 1 - a and a / classes */
    double grad_scale, tau;
    double divisor; /* where total_weight is null */
    bool weighs;    /* rows' values have weights */
    double js_gap;  /* rows that are near differ by no more in log sum exp */
    xent_mixture mixture;

    mode_kind mode;
    /* A long row is folded piece by piece, and the pieces' states joined, whether one block does them all or (split)
     * each has a block of its own: the number of classes alone decides where pieces end. */
    int64_t pieces, piece;
    bool split;

    /* the workspace, or null */
    note *notes;
    void *states, *results;    /* reals: a piece's state, a row's result */
    void *values;              /* row_sums: a row's value times its weight, or that weight */
    void *total_weight;        /* a row_sum: mean's divisor */
    void *partials;            /* per_class: chunks x classes row_sums */
    const double *class_scale; /* 2^-k and 2^k: class weights are multiplied by the one, rows' weights by the other */
    int64_t chunks, chunk_rows;
};

/* A row's place along each batch dimension. */
struct place_in_batch {
    int64_t at[MAX_NDIM];
};
XENT_HD place_in_batch find_row(const divider *shape, int ndim, int64_t row) {
    place_in_batch p;
    XENT_UNROLL
    for (int d = MAX_NDIM - 1; d > 0; d--) {
        p.at[d] = 0;
        if (d < ndim) {
            const int64_t outer = quotient(row, shape[d]);
            p.at[d] = remainder(row, outer, shape[d]);
            row = outer;
        }
    }
    p.at[0] = row;
    return p;
}
XENT_HD int64_t offset_of(const operand &o, const place_in_batch &p) {
    int64_t off = 0;
    XENT_UNROLL
    for (int d = 0; d < MAX_NDIM; d++)
        off += p.at[d] * o.rs[d];
    return off;
}

/* ---- one element ---- */
template <class S> XENT_HD S load_as(const char *p) {
    return *reinterpret_cast<const S *>(p);
}
template <class R> XENT_HD R load_real(const char *p, int dtype) {
    switch (dtype) {
    case XENT_F16:
        return R(widen(load_as<half_t>(p)));
    case XENT_BF16:
        return R(widen(load_as<bf16_t>(p)));
    case XENT_F32:
        return R(load_as<float>(p));
    default:
        return R(load_as<double>(p));
    }
}
template <class R> XENT_HD void store_real(char *p, int dtype, R v) {
    switch (dtype) {
    case XENT_F16:
        narrow(v, reinterpret_cast<half_t *>(p));
        break;
    case XENT_BF16:
        narrow(v, reinterpret_cast<bf16_t *>(p));
        break;
    case XENT_F32:
        narrow(v, reinterpret_cast<float *>(p));
        break;
    default:
        narrow(v, reinterpret_cast<double *>(p));
        break;
    }
}
/* A weight or temperature. */
XENT_HD double load_weight(const char *p, int dtype) {
    return dtype == XENT_F32 ? double(load_as<float>(p)) : load_as<double>(p);
}
XENT_HD double load_weight(const operand &o, const place_in_batch &p) {
    return load_weight(o.data + offset_of(o, p), o.dtype);
}
XENT_HD int64_t load_label(const char *p, int dtype) {
    switch (dtype) {
    case XENT_I8:
        return load_as<int8_t>(p);
    case XENT_U8:
        return load_as<uint8_t>(p);
    case XENT_I16:
        return load_as<int16_t>(p);
    case XENT_U16:
        return load_as<uint16_t>(p);
    case XENT_I32:
        return load_as<int32_t>(p);
    case XENT_U32:
        return load_as<uint32_t>(p);
    case XENT_U64: {
        const uint64_t v = load_as<uint64_t>(p);
        return v > uint64_t(INT64_MAX) ? INT64_MAX : int64_t(v);
    }
    default:
        return load_as<int64_t>(p);
    }
}

} // namespace xent

#endif
