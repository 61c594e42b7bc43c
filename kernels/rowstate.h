/* rowstate.h: what a row is folded into, and the constants of it that every part shares.
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
 *   b     CE: sum t (m - x);  PAIR: sum t (log t + m - x);  with a log target sum E(y) ((y - m_y) - (x - m_x));
 *         SENT: sum E(x) (m - x);  ENT: -sum p log p;  BCE, JS: the sum of the terms (JS: with sum p log(p/m) in t)
 *   w u a with u = x - log t - c:  W = sum t, U = sum t u, A = sum t (exp(u) - 1 - u), whose terms are never negative, so
 *         that nothing cancels however near the two rows are. c, in two parts (a divergence of 1e-30 between confident
 *         rows is the square of what one part rounds), may be any number; the nearer to the mean of x - log t under t,
 *         the smaller U. KL(t/W, softmax x) = A/W + log1p(z) - z with z = (A + U)/W.
 *
 * States merge: each is raised to the larger maximum, shifted to the common c, and added (rows.h).
 */
#ifndef XENT_ROWSTATE_H
#define XENT_ROWSTATE_H

#define XENT_PLAIN 2048.0
#define XENT_LOG2E 1.4426950408889634074
/* ln 2 in two parts; the first has 40 bits, so that its product with |k| < 2^13 is exact. */
#define XENT_LN2_A 0x1.62e42fefa2000p-1
#define XENT_LN2_B 0x1.9ef35793c7673p-41
#define KL_SLIGHT 0x1p-960 /* with less of a target, t exp(u) about its mean has no digits */
#define KL_FAINT 0x1p-1040 /* what weighs less beside the rest of a target adds nothing to KL */
#define XENT_KL_LIFT 32.0  /* target logits: t is held 2^32 larger, so that t u is normal wherever the result is */
#define XENT_KL_UNLIFT 0x1p-32

enum {
    MAX_VECTOR = 16,    /* lanes of the widest vector */
    MAX_ROWS_ALONG = 8, /* short rows along that are worked on together: what fits a vector of states */
    GROUP_LANES = 32,   /* rows across whose states are finished together */
    MAX_LANES = 48      /* ... where class axes that are not last are written: see reduce.c's rows_across */
};

/* One number a row of the group, or of a vector of rows. */
typedef double lanes[MAX_LANES];
typedef double vector_lanes[MAX_VECTOR];
/* Sums, and what their additions rounded away. */
typedef struct lane_sums {
    lanes s, e;
} lane_sums;

typedef struct lane_top {
    lanes m, n, c, k;
    lane_sums r;
} lane_top;

/* Only the fields of the operation's reduction are used. */
typedef struct group_state {
    lane_top x, y;
    lane_sums t, b;
    lanes c, c_lo;
    lane_sums w, u, a; /* held against y's reference, or 1 for target probabilities */
} group_state;

enum { STATE_FIELDS = sizeof(group_state) / sizeof(lanes) };

#endif
