/* result.h: from a row's state to its value and to the factors of its emit, rows a lane each: what the families are given and
 * what they give. In double for whatever rows a group holds, in the tile's own real for rows of few classes (few.h). */

/* ---- log sum exp, 1 / sum, and what else follows from x's or y's sums (lse.h) ---- */
typedef struct FN(lse) {
    V lse, lse_lo; /* log sum exp x                                            */
    V log1;        /* lse - m, accurate also where it is tiny                  */
    V inv, inv_lo; /* E(x) (inv + inv_lo) = softmax(x)                         */
    V rest;        /* the sum's share that is not the maximum: 1 - max p       */
    V low;         /* what log1 rounds away, for double results                */
} FN(lse);

/* What a row is finished with besides its state: as in row_group. */
typedef struct FN(row) {
    V weight, scale, known, x_label;
} FN(row);

/* What values and factors are made from. The operation is given apart from the job, so that a caller that knows it has it
 * compiled for that alone. */
typedef struct FN(ending) {
    const xent_job *job;
    reduce_kind kind;
    xent_target target;
    bool rough; /* a float row's state in double, whose last bits do not matter */
    const FN(state) * s;
    const FN(row) * row;
    FN(lse) x, y;
    V total; /* sum of the target */
    V py;    /* what E(y) is multiplied by to give the target, where that is in log space */
    M again; /* out: the state left its range */
    V value; /* the row's, without its weight: for factors */
} FN(ending);

/* group_result, a lane a row. */
typedef struct FN(finished) {
    V value;
    M again;
#define ONE(field) V field;
    XENT_FACTORS(ONE)
#undef ONE
} FN(finished);

/* xent_weigh */
INLINE V FN(weigh)(V v, V weight) {
    return vif(mor(mne(weight, vset((R)0)), mne(v, v)), vmul(v, weight));
}

/* Every value is INLINE V FN(value_NAME)(FN(ending) *), every emit INLINE void FN(factors_NAME)(const FN(ending) *, FN(finished) *)
 * and INLINE void FN(emit_NAME)(const FN(writing) *): ops.h's lists call them by their names. */

/* Of an emit that needs none of its own. */
#undef NO_FACTORS
#define NO_FACTORS(name)                                                                                               \
    INLINE void FN(factors_##name)(const FN(ending) * e, FN(finished) * f) {                                           \
        (void)e, (void)f;                                                                                              \
    }

/* ---- the second walk: one value a class ---- */
typedef struct FN(writing) {
    const xent_job *job;
    xent_target target;
    const FN(tile) * T;
    const group_result *r; /* of rows `at` and following; NULL: */
    const FN(finished) * f;
    int at;
    char *out;
    ptrdiff_t os; /* bytes from one vector to the next */
    bool stream;
    bool kept; /* E are in keep */
    const R *keep;
} FN(writing);

/* BODY PUTs a vector; a run's vectors are written together: see RUNS. */
#undef PUT
#undef WRITE
#define PUT(v) put[j] = (v)
#define WRITE(w, ...)                                                                                                  \
    do {                                                                                                               \
        V put[RUN];                                                                                                    \
        RUNS((w)->T, BLOCK(__VA_ARGS__), BLOCK({                                                                       \
                 UNROLL for (int q = 0; q < run; q++) {                                                                \
                     if (part)                                                                                         \
                         vstoren((w)->out + (i0 + q) * (w)->os, part, put[q]);                                         \
                     else if ((w)->stream)                                                                             \
                         vstream((w)->out + (i0 + q) * (w)->os, put[q]);                                               \
                     else                                                                                              \
                         vstore((w)->out + (i0 + q) * (w)->os, put[q]);                                                \
                 }                                                                                                     \
             }));                                                                                                      \
    } while (0)

/* A number a row as a vector, and E's reference. */
#undef ROW
#undef REF
#define ROW(w, field) ((w)->r ? FN(spread)((w)->r->field + (w)->at, (w)->T->across) : (w)->f->field)
#define REF(w, name, which)                                                                                            \
    const FN(vref) name = {ROW(w, which##c), ROW(w, which##k), vsub(ROW(w, which##d), vset((R)EXP_LOW))}

/* E(x) and E(y), as the reduction kept them or anew. */
#undef EXP_X
#undef EXP_Y
#undef PAIRS
#define PAIRS(w) xent_is_log((w)->target)
#define EXP_X(w, fx) ((w)->kept ? vload(KEPT((w)->keep, i, PAIRS(w), 0)) : FN(vexp_ref_near)(GET_X((w)->T), fx))
#define EXP_Y(w, fy) ((w)->kept ? vload(KEPT((w)->keep, i, PAIRS(w), 1)) : FN(vexp_ref_near)(GET_T((w)->T, -INF), fy))
