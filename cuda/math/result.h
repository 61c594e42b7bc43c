/* result.h: from a row's state to its result, and from that to what a class is given. Every family has functions that finish.h
 * calls by their names in the lists; what is missing does not compile:
 *   term_NAME(state, tile, i)    what a class adds to b, of every reduction that has one; what it adds to the sums of exponentials
 *                                is state.h's matter, and to the centred sums kl.h's
 *   value_NAME(ending)           a row's value
 *   factors_NAME(ending, result) the factors of a row's emit
 *   emit_NAME(writing, i)        what a class is given */
#ifndef XENT_CUDA_RESULT_H
#define XENT_CUDA_RESULT_H

#include "../job.h"
#include "../ops.h"
#include "../state.h"

namespace xent {

template <class OP, class M> using state_of = state<OP::reduce, M>;

/* What the options make of one row. */
template <class M> struct row_facts {
    using R = typename M::real;
    int64_t label = -1;               /* -1: none, ignored, or its class is masked */
    bool dead = false;                /* does not count: value and outputs are 0 */
    bool bad = false;                 /* its label or temperature is invalid: value and outputs are NaN */
    R x_label = R(0), uniform = R(0); /* the logit at the label; label smoothing's share of each class */
    double weight = 1.0, temperature = 1.0;
};

/* What follows from a row's state, also in the workspace: its value without the row's weight, the list's factors, and more. */
template <class M> struct result {
    using R = typename M::real;
    wide<R, !M::quick> value;
#define XENT_NONE(field)
#define XENT_ONE(field) R field;
    XENT_FACTOR_FIELDS(XENT_ONE, XENT_NONE)
#undef XENT_ONE
#undef XENT_NONE
    R mx, my;  /* the maxima, which E's references follow from */
    R uniform; /* label smoothing's share of each class */
    R after;   /* outputs are 2^after as large, which R may not hold */
    R again;   /* Jensen-Shannon: not 0 where the terms are to be added up, or once more */
};

/* Log sum exp, 1 / sum, and what else follows from x's or y's sums (lse.h). */
template <class M> struct lse_facts {
    using R = typename M::real;
    using W = wide<R, !M::quick>;
    W lse;  /* log sum exp x                                     */
    W log1; /* lse - m, accurate also where it is tiny           */
    W inv;  /* E(x) inv = softmax(x)                             */
    W sum;  /* of E(x)                                           */
    R rest; /* its share that is not the maximum: 1 - max p      */
};

/* What values and factors are made from. */
template <class OPERATION, class STATE> struct ending {
    using OP = OPERATION;
    using S = STATE;
    using M = typename S::M;
    using R = typename S::R;
    using W = typename S::W;
    const job &j;
    const row_facts<M> &row;
    const S &s;
    lse_facts<M> x, y;
    W t, b;     /* the state's, settled */
    W total;    /* sum of the target */
    R py;       /* what E(y) is multiplied by to give the target, where that is in log space */
    W scale;    /* what the row's outputs are multiplied by */
    bool again; /* out: the state left its range, and the row is to be folded again (reductions.def) */
};

/* What a class's number is made from. */
template <class OPERATION, class ARITHMETIC, int N> struct writing {
    using OP = OPERATION;
    using M = ARITHMETIC;
    using R = typename M::real;
    const job &j;
    const result<M> &r;
    const tile<R, N> &v;
};

} // namespace xent

#endif
