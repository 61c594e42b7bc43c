/* state.h: what a row is folded into, the list of its fields, and its constants, which cuda/ shares.
 *
 * A sum of exponentials is held against a reference that is a power of two, not exp(max): with
 *     E(x) = exp(x - c) 2^-k,   k = rint(m / ln 2), c = 0     where |m| <= XENT_PLAIN   (m the largest x so far)
 *                               k = 0,              c = m     elsewhere
 * nothing is rounded before the exponential's own argument reduction: c = 0 needs no subtraction, and where c = m every
 * x that can matter lies within a factor of two of m, so that x - m is exact. Changing the reference multiplies by a
 * power of two, which is exact as well. The classic exp(x - m) loses up to |x - m| / 2 ULP here, in every element.
 *
 *   x     the logits: m, how many elements equal it (n), and r = sum of E over the others. log sum exp is m + log1p of
 *         r and n - 1 maxima over one of them: right also where the rest of a row is tiny beside its maximum
 *   y     the same of target logits
 *   t     sum t
 *   b     CE: sum t (m - x);  PAIR: sum t (log t + m - x);  PAIR_LOGS: sum E(y) ((y - m_y) - (x - m_x));
 *         SENT: sum E(x) (m - x);  ENT: -sum p log p;  BCE, JS_SUM: the sum of the terms (JS: with sum p log(p/m) in t)
 *   w u a with u = x - log t - c:  W = sum t, U = sum t u, A = sum t (exp(u) - 1 - u), whose terms are never negative, so
 *         that nothing cancels however near the two rows are. c, in two parts (a divergence of 1e-30 between confident
 *         rows is the square of what one part rounds), may be any number; the nearer to the mean of x - log t under t,
 *         the smaller U. KL(t/W, softmax x) = A/W + log1p(z) - z with z = (A + U)/W.
 *         Held against y's reference, or 1 for target probabilities.
 *
 * States merge: each is raised to the larger maximum, shifted to the common c, and added.
 */
#ifndef XENT_STATE_H
#define XENT_STATE_H

#include <stddef.h>
#include <string.h>

#include "ops.h"

#define XENT_PLAIN 2048.0
#define XENT_LOG2E 1.4426950408889634074
/* ln 2 in two parts; the first has 40 bits, so that its product with |k| < 2^13 is exact. */
#define XENT_LN2_A 0x1.62e42fefa2000p-1
#define XENT_LN2_B 0x1.9ef35793c7673p-41
#define KL_SLIGHT 0x1p-960 /* with less of a target, t exp(u) about its mean has no digits */
#define KL_FAINT 0x1p-1040 /* what weighs less beside the rest of a target adds nothing to KL */
#define XENT_KL_LIFT 32.0  /* target logits: t is held 2^32 larger, so that t u is normal wherever the result is */
#define XENT_KL_UNLIFT 0x1p-32

/* The fields, by the part of the state (ops.h) that they belong to. KEPT: all partial states of a row have the same, once they
 * are raised to one maximum. REFERENCE: kept, too, and follows from m: cuda/ has none of its own. ADDED: numbers that add up.
 * SUM: pairs of a sum and what its additions rounded away. */
#define XENT_STATE_FIELDS(KEPT, REFERENCE, ADDED, SUM)                                                                 \
    KEPT(X, x.m)                                                                                                       \
    ADDED(X, x.n)                                                                                                      \
    REFERENCE(X, x.ref.c)                                                                                              \
    REFERENCE(X, x.ref.k)                                                                                              \
    SUM(X, x.r)                                                                                                        \
    KEPT(Y, y.m)                                                                                                       \
    ADDED(Y_SUM, y.n)                                                                                                  \
    REFERENCE(Y, y.ref.c)                                                                                              \
    REFERENCE(Y, y.ref.k)                                                                                              \
    SUM(Y_SUM, y.r)                                                                                                    \
    SUM(TB, t)                                                                                                         \
    SUM(TB, b)                                                                                                         \
    KEPT(KL, kl.c)                                                                                                     \
    KEPT(KL, kl.c_lo)                                                                                                  \
    SUM(KL, kl.w)                                                                                                      \
    SUM(KL, kl.u)                                                                                                      \
    SUM(KL, kl.a)
#define XENT_STATE(KEPT, ADDED, SUM) XENT_STATE_FIELDS(KEPT, KEPT, ADDED, SUM)

/* What follows from a row's state: the factors of its emit. REFERENCE: as above.
 *   x_hi x_lo y_hi y_lo  log sum exp of x and of y, in two parts; of Jensen-Shannon x_hi and y_hi are the maxima, x_lo and y_lo the
 *                        difference of log sum exp(x - x_hi) and log sum exp(y - y_hi), in two parts; of the gradient of KL's
 *                        target x_hi and x_lo are the mean of x - y under t
 *   xc xk xd yc yk yd    their references, and how far from c the maximum is
 *   px px_lo py g        factors of E(x) (two parts), E(y), t; of a Hessian g is the row's
 *   rest                 1 - max p
 *   poison               NaN where the row's terms are all NaN, else 0
 *   patch                what belongs at the label
 *   gain                 Jensen-Shannon: sum p log(p/m)
 */
#define XENT_FACTOR_FIELDS(F, REFERENCE)                                                                               \
    F(x_hi)                                                                                                            \
    F(x_lo)                                                                                                            \
    F(y_hi)                                                                                                            \
    F(y_lo)                                                                                                            \
    REFERENCE(xc)                                                                                                      \
    REFERENCE(xk)                                                                                                      \
    REFERENCE(xd)                                                                                                      \
    REFERENCE(yc)                                                                                                      \
    REFERENCE(yk)                                                                                                      \
    REFERENCE(yd)                                                                                                      \
    F(px)                                                                                                              \
    F(px_lo)                                                                                                           \
    F(py)                                                                                                              \
    F(g)                                                                                                               \
    F(rest)                                                                                                            \
    F(poison)                                                                                                          \
    F(patch)                                                                                                           \
    F(gain)
#define XENT_FACTORS(F) XENT_FACTOR_FIELDS(F, F)

/* ---- states of several rows ---- */
enum {
    MAX_VECTOR = 16,    /* lanes of the widest vector */
    MAX_ROWS_ALONG = 8, /* short rows along that are worked on together: what fits a vector of states */
    GROUP_ROWS = 32,    /* rows across whose states are finished together */
    MAX_GROUP_ROWS = 48 /* ... where class axes that are not last are written: see run.c's rows_across */
};

/* One number a row of a group. */
typedef double per_row[MAX_GROUP_ROWS];

typedef struct row_sums {
    per_row s, e;
} row_sums;

typedef struct row_tops {
    per_row m, n;
    struct {
        per_row c, k;
    } ref;
    row_sums r;
} row_tops;

/* Only the parts of the operation's reduction are used. */
typedef struct group_state {
    row_tops x, y;
    row_sums t, b;
    struct {
        per_row c, c_lo;
        row_sums w, u, a;
    } kl;
} group_state;

enum { STATE_FIELDS = sizeof(group_state) / sizeof(per_row) };

/* The numbers of the fields that these parts have, in order; returns how many. */
static inline int xent_state_fields(int parts, int at[STATE_FIELDS]) {
    int n = 0;
#define ONE(part, field)                                                                                               \
    if (parts & PART_##part)                                                                                           \
        at[n++] = (int)(offsetof(group_state, field) / sizeof(per_row));
#define TWO(part, field) ONE(part, field.s) ONE(part, field.e)
    XENT_STATE(ONE, ONE, TWO)
#undef ONE
#undef TWO
    return n;
}

/* Vectors of rows are merged and finished whole: what lies beside the group's rows must be numbers, too. */
static inline void xent_clear_states(group_state *s, int rows) {
    enum { SOME = 8 }; /* doubles in the widest vector: a size that needs no call */
    for (int f = 0; f < STATE_FIELDS; f++)
        for (int l = 0; l < rows; l += SOME)
            memset(*((per_row *)s + f) + l, 0, SOME * sizeof(double));
}

#endif
