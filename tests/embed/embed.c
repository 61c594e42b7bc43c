/* embed.c: libxent in a C program that knows nothing of Python. Everything goes through xent.h, on every instruction
 * set that runs here; a line for each group of checks, and a non-zero status at the first that fails.
 *
 * Results lie in malloc'd arrays of the exact size, so that a build with -fsanitize=address sees any access beyond
 * them. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "xent.h"

static const char *isa = "";

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "embed.c:%d: [%s] %s: ", __LINE__, isa, #condition);                                       \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static void ok(const char *what) {
    printf("ok %s: %s\n", isa, what);
    fflush(stdout); /* or the forked child would print it again */
}

/* ---- arrays ---- */
typedef struct array { /* float or double, C order */
    int dtype;
    size_t count;
    void *data;
} array;

static void *allocate(size_t size) {
    void *p = malloc(size ? size : 1);
    CHECK(p, "out of memory");
    return p;
}

static ptrdiff_t item_size(int dtype) {
    return dtype == XENT_F64 ? (ptrdiff_t)sizeof(double) : (ptrdiff_t)sizeof(float);
}

static double get(const array *a, ptrdiff_t i) {
    return a->dtype == XENT_F64 ? ((const double *)a->data)[i] : (double)((const float *)a->data)[i];
}

static void put(array *a, ptrdiff_t i, double v) {
    if (a->dtype == XENT_F64)
        ((double *)a->data)[i] = v;
    else
        ((float *)a->data)[i] = (float)v;
}

static size_t bytes(const array *a) {
    return a->count * (size_t)item_size(a->dtype);
}

/* Filled with a pattern that no result has, so that what a call leaves alone can be told. */
static array array_new(int dtype, ptrdiff_t count) {
    array a = {dtype, (size_t)count, NULL};
    a.data = allocate(bytes(&a));
    memset(a.data, 0xa5, bytes(&a));
    return a;
}

static array array_of(int dtype, ptrdiff_t count, const double *values) {
    array a = array_new(dtype, count);
    for (ptrdiff_t i = 0; i < count; i++)
        put(&a, i, values[i]);
    return a;
}

static bool untouched(const array *a) {
    const unsigned char *p = a->data;
    for (size_t i = 0; i < bytes(a); i++)
        if (p[i] != 0xa5)
            return false;
    return true;
}

static uint64_t seed;

static double uniform(void) { /* xorshift64*, in (0, 1) */
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return ((double)((seed * 0x2545f4914f6cdd1dULL) >> 12) + 0.5) * 0x1p-52;
}

static double normal(void) { /* near enough */
    return sqrt(3.0) * (uniform() + uniform() + uniform() + uniform() - 2.0);
}

/* ---- a call: rows x classes, one batch dimension ---- */
typedef struct call {
    xent_request req;
    ptrdiff_t shape[1], x[1], t[1], value[1], out[1], where[1], weight[1], temperature[1];
} call;

static xent_view view(const void *data, int dtype, const ptrdiff_t *strides, ptrdiff_t class_stride) {
    xent_view v;
    memset(&v, 0, sizeof v);
    v.data = (void *)(uintptr_t)data; /* inputs are only read */
    v.strides = strides;
    v.class_stride = class_stride;
    v.dtype = (uint8_t)dtype;
    return v;
}

static const xent_op_info *info_of(int op) {
    return &xent_ops(NULL)[op];
}

/* Rows of contiguous classes. t: an array or, for labels, int64_t; results may be NULL where the operation has none. */
static void call_init(call *c, int op, int dtype, ptrdiff_t rows, ptrdiff_t classes, const array *x, const void *t,
                      array *value, array *out) {
    const ptrdiff_t size = item_size(dtype);
    const xent_target target = info_of(op)->target;
    memset(c, 0, sizeof *c);
    xent_request_init(&c->req);
    c->shape[0] = rows;
    c->x[0] = c->t[0] = c->out[0] = classes * size;
    c->value[0] = size;
    c->where[0] = classes;
    c->weight[0] = c->temperature[0] = (ptrdiff_t)sizeof(double);
    c->req.op = op;
    c->req.compute = dtype;
    c->req.ndim = 1;
    c->req.shape = c->shape;
    c->req.classes = classes;
    c->req.logits = view(x->data, dtype, c->x, size);
    if (target == XENT_TARGET_LABELS) {
        c->t[0] = (ptrdiff_t)sizeof(int64_t);
        c->req.target = view(t, XENT_I64, c->t, 0);
    } else if (target != XENT_TARGET_NONE) {
        c->req.target = view(((const array *)t)->data, dtype, c->t, size);
    }
    if (value)
        c->req.value = view(value->data, dtype, c->value, 0);
    if (out)
        c->req.out = view(out->data, dtype, c->out, size);
}

static int op_named(const char *name) {
    int op = xent_find_op(name);
    CHECK(op >= 0, "no operation %s", name);
    CHECK(strcmp(info_of(op)->name, name) == 0, "%s is called %s", name, info_of(op)->name);
    return op;
}

static xent_status run(call *c) {
    enum { ERRNO = 4711 };
    size_t size = 0;
    xent_status status = xent_scratch_size(&c->req, &size);
    void *scratch = NULL;
    if (status == XENT_OK && size > 0)
        scratch = allocate(size);
    c->req.scratch = scratch;
    c->req.scratch_size = size;
    errno = ERRNO;
    status = xent_run(&c->req);
    CHECK(errno == ERRNO, "errno became %d", errno);
    c->req.scratch = NULL;
    free(scratch);
    return status;
}

static void must_run(call *c) {
    xent_status status = run(c);
    CHECK(status == XENT_OK, "%s: %s", info_of(c->req.op)->name, xent_strerror(status));
}

/* Both arrays of results by name, for one call with plain options. */
static void apply(const char *name, int dtype, ptrdiff_t rows, ptrdiff_t classes, const array *x, const void *t,
                  array *value, array *out) {
    call c;
    call_init(&c, op_named(name), dtype, rows, classes, x, t, value, out);
    must_run(&c);
}

static void near(double got, double want, double tolerance, const char *what) {
    if (want - want != 0.0)
        CHECK(want != want ? got != got : got == want, "%s: %.17g, not %.17g", what, got, want);
    else
        CHECK(fabs(got - want) <= tolerance, "%s: %.17g, not %.17g", what, got, want);
}

/* ---- examples worked by hand, six decimals ---- */
static void check_worked(int dtype) {
    static const double logits[] = {1.2, 0.3, -0.8, 0.2, 2.5, -0.3}, probs[] = {0.8, 0.1, 0.1, 0.1, 0.7, 0.2};
    static const double terms[] = {0.167900, -0.096957, 0.013043, 0.014676, -0.145134, 0.267981};
    static const double one[] = {0.1, 0.2, 0.4, 0.3}, teacher[] = {0.7, 0.1, 0.1, 0.1};
    static const double one_terms[] = {0.215128, -0.027099, -0.068575, -0.047837};
    static const int64_t labels[] = {0, 1};
    const double e = 1e-6;
    array x = array_of(dtype, 6, logits), t = array_of(dtype, 6, probs), v = array_new(dtype, 2),
          o = array_new(dtype, 6);
    array x1 = array_of(dtype, 4, one), y1 = array_of(dtype, 4, teacher), o1 = array_new(dtype, 4);
    call c;

    apply("cross_entropy_with_labels", dtype, 2, 3, &x, labels, &v, NULL);
    near(get(&v, 0), 0.433019, e, "cross-entropy, row 0");
    near(get(&v, 1), 0.149341, e, "cross-entropy, row 1");
    call_init(&c, op_named("cross_entropy_with_labels"), dtype, 2, 3, &x, labels, &v, NULL);
    c.req.reduction = XENT_MEAN;
    must_run(&c);
    near(get(&v, 0), 0.291180, e, "cross-entropy, mean");

    apply("kl_div_terms", dtype, 2, 3, &x, &t, NULL, &o);
    for (int i = 0; i < 6; i++)
        near(get(&o, i), terms[i], e, "KL terms");
    call_init(&c, op_named("kl_div_terms"), dtype, 2, 3, &x, &t, NULL, &o);
    c.req.reduction = XENT_PER_CLASS;
    must_run(&c);
    for (int i = 0; i < 3; i++)
        near(get(&o, i), terms[i] + terms[i + 3], 2 * e, "KL per class");
    call_init(&c, op_named("kl_div"), dtype, 2, 3, &x, &t, &v, NULL);
    c.req.reduction = XENT_SUM;
    must_run(&c);
    near(get(&v, 0), 0.221509, e, "KL, sum");
    c.req.reduction = XENT_MEAN;
    must_run(&c);
    near(get(&v, 0), 0.110755, e, "KL, mean");

    apply("kl_div_with_logits_terms", dtype, 1, 4, &x1, &y1, NULL, &o1);
    for (int i = 0; i < 4; i++)
        near(get(&o1, i), one_terms[i], e, "KL terms of two logit rows");
    apply("kl_div_with_logits", dtype, 1, 4, &x1, &y1, &v, NULL);
    near(get(&v, 0), 0.071616, e, "KL of two logit rows");
    apply("softmax", dtype, 1, 4, &y1, NULL, NULL, &o1);
    apply("kl_div", dtype, 1, 4, &x1, &o1, &v, NULL);
    near(get(&v, 0), 0.071616, e, "KL against softmax");

    free(x.data), free(t.data), free(v.data), free(o.data), free(x1.data), free(y1.data), free(o1.data);
}

/* ---- every operation against the definitions, in long double ---- */
typedef enum { INPUT_LOGITS, INPUT_PROBS, INPUT_LOG_PROBS, INPUT_KINDS } input_kind;

/* What the first operand holds. */
static input_kind kind_of_x(int op) {
    const char *name = info_of(op)->name;
    return strcmp(name, "entropy") == 0 || strcmp(name, "rel_entr") == 0 ? INPUT_PROBS
           : strcmp(name, "kl_pointwise") == 0                           ? INPUT_LOG_PROBS
                                                                         : INPUT_LOGITS;
}

static input_kind kind_of_t(int op) {
    const xent_target target = info_of(op)->target;
    return target == XENT_TARGET_LOGITS      ? INPUT_LOGITS
           : target == XENT_TARGET_LOG_PROBS ? INPUT_LOG_PROBS
                                             : INPUT_PROBS;
}

static void fill(array *a, ptrdiff_t rows, ptrdiff_t classes, input_kind kind) {
    for (ptrdiff_t r = 0; r < rows; r++) {
        double sum = 0.0;
        for (ptrdiff_t j = 0; j < classes; j++) {
            double v = 3.0 * normal();
            put(a, r * classes + j, v);
            sum += exp(get(a, r * classes + j));
        }
        for (ptrdiff_t j = 0; kind != INPUT_LOGITS && j < classes; j++) {
            double log_p = get(a, r * classes + j) - log(sum);
            put(a, r * classes + j, kind == INPUT_PROBS ? exp(log_p) : log_p);
        }
    }
}

static bool has_prefix(const char *name, const char *prefix) {
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* One row by the definitions. Returns false for an operation that this file does not know. */
static bool reference(int op, const array *x, const array *t, ptrdiff_t at, ptrdiff_t n, int64_t label,
                      long double *value, long double *out) {
    const xent_op_info *info = info_of(op);
    const char *name = info->name;
    const bool grad = strstr(name, "_value_and_grad") != NULL, hess = strstr(name, "_value_and_hess") != NULL;
    const bool target_grad = strstr(name, "_value_and_target_grad") != NULL;
    const bool kl = has_prefix(name, "kl_div"), ce = has_prefix(name, "cross_entropy");
    long double m = -INFINITY, s = 0.0L, my = -INFINITY, sy = 0.0L, total = 0.0L, lse, lse_y = 0.0L;
    *value = 0.0L;
    for (ptrdiff_t j = 0; j < n; j++) {
        m = fmaxl(m, get(x, at + j));
        my = fmaxl(my, info->target == XENT_TARGET_LOGITS ? (long double)get(t, at + j) : 0.0L);
    }
    for (ptrdiff_t j = 0; j < n; j++) {
        s += expl(get(x, at + j) - m);
        sy += info->target == XENT_TARGET_LOGITS ? expl(get(t, at + j) - my) : 0.0L;
    }
    lse = m + logl(s);
    lse_y = my + logl(sy);
    for (ptrdiff_t j = 0; j < n; j++) {
        const long double v = get(x, at + j), log_p = v - lse, p = expl(log_p);
        const long double w = info->target == XENT_TARGET_NONE     ? 0.0L
                              : info->target == XENT_TARGET_LABELS ? (long double)(j == label)
                                                                   : (long double)get(t, at + j);
        const long double tj = info->target == XENT_TARGET_LOGITS      ? expl(w - lse_y)
                               : info->target == XENT_TARGET_LOG_PROBS ? expl(w)
                                                                       : w;
        const long double term = kl ? tj * (logl(tj) - log_p) : tj == 0.0L ? 0.0L : -tj * log_p;
        total += tj;
        if (strcmp(name, "log_softmax") == 0)
            out[j] = log_p;
        else if (strcmp(name, "softmax") == 0)
            out[j] = p;
        else if (strcmp(name, "entropy") == 0)
            *value -= v * logl(v);
        else if (strcmp(name, "softmax_entropy") == 0)
            *value -= p * log_p;
        else if (strcmp(name, "kl_pointwise") == 0)
            out[j] = w * (logl(w) - v);
        else if (strcmp(name, "rel_entr") == 0)
            out[j] = v * logl(v / w);
        else if (kl || ce) {
            *value += term;
            out[j] = grad ? p : hess ? p * (1.0L - p) : term;
        } else if (strcmp(name, "logsumexp") != 0)
            return false;
    }
    if (strcmp(name, "logsumexp") == 0)
        *value = lse;
    for (ptrdiff_t j = 0; grad && j < n; j++) {
        const long double w =
            info->target == XENT_TARGET_LABELS ? (long double)(j == label) : (long double)get(t, at + j);
        out[j] = total * out[j] - (info->target == XENT_TARGET_LOGITS      ? expl(w - lse_y)
                                   : info->target == XENT_TARGET_LOG_PROBS ? expl(w)
                                                                           : w);
    }
    for (ptrdiff_t j = 0; (hess || target_grad) && j < n; j++)
        out[j] = hess ? total * out[j] : out[j] - expl((long double)get(t, at + j) - lse_y) * *value;
    return true;
}

/* `across`: the class axis is the slow one. */
static void check_definition(int op, int dtype, ptrdiff_t rows, ptrdiff_t n, bool across) {
    const xent_op_info *info = info_of(op);
    const ptrdiff_t size = item_size(dtype);
    const double eps = dtype == XENT_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
    array x = array_new(dtype, rows * n), t = array_new(dtype, rows * n), xt = array_new(dtype, rows * n);
    array tt = array_new(dtype, rows * n), v = array_new(dtype, rows), o = array_new(dtype, rows * n);
    int64_t *labels = allocate((size_t)rows * sizeof *labels);
    long double *want = allocate((size_t)n * sizeof *want), value;
    const bool is_labels = info->target == XENT_TARGET_LABELS;
    call c;

    fill(&x, rows, n, kind_of_x(op));
    fill(&t, rows, n, kind_of_t(op));
    for (ptrdiff_t r = 0; r < rows; r++) {
        labels[r] = (int64_t)(uniform() * (double)n);
        for (ptrdiff_t j = 0; j < n; j++) {
            put(&xt, j * rows + r, get(&x, r * n + j));
            put(&tt, j * rows + r, get(&t, r * n + j));
        }
    }
    call_init(&c, op, dtype, rows, n, across ? &xt : &x, is_labels ? (void *)labels : across ? &tt : &t, &v, &o);
    if (across) {
        c.x[0] = c.out[0] = size;
        c.req.logits.class_stride = c.req.out.class_stride = rows * size;
        if (!is_labels) {
            c.t[0] = size;
            c.req.target.class_stride = rows * size;
        }
    }
    must_run(&c);
    CHECK(info->has_value || untouched(&v), "%s wrote a value", info->name);
    CHECK(info->has_emit || untouched(&o), "%s wrote classes", info->name);
    for (ptrdiff_t r = 0; r < rows; r++) {
        if (!reference(op, &x, &t, r * n, n, labels[r], &value, want))
            break; /* newer than this file: it ran, and the sanitizers watched */
        if (info->has_value)
            near(get(&v, r), (double)value, 8.0 * eps * (2.0 + fabs((double)value)), info->name);
        for (ptrdiff_t j = 0; info->has_emit && j < n; j++)
            near(get(&o, across ? j * rows + r : r * n + j), (double)want[j], 8.0 * eps * (2.0 + fabs((double)want[j])),
                 info->name);
    }
    free(x.data), free(t.data), free(xt.data), free(tt.data), free(v.data), free(o.data), free(labels), free(want);
}

static void check_definitions(int dtype) {
    static const ptrdiff_t classes[] = {1, 2, 3, 5, 10, 33, 100, 1100};
    int ops;
    xent_ops(&ops);
    CHECK(ops > 0, "no operations");
    for (int op = 0; op < ops; op++)
        for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
            for (int across = 0; across < 2; across++)
                check_definition(op, dtype, classes[i] > 40 ? 2 : 19, classes[i], across != 0);
}

/* ---- the values that matter most at the edges ---- */
static void check_edges(int dtype) {
    const double inf = INFINITY, eps = dtype == XENT_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
    const int64_t zero = 0, two = 2, label_of_four[] = {0, 1, 0, 1};
    array v = array_new(dtype, 4), o = array_new(dtype, 12);
    call c;

    { /* 0 log 0 is 0, also where the logit is -inf */
        array x = array_of(dtype, 3, (double[]){0.0, -inf, 0.0}), t = array_of(dtype, 3, (double[]){0.5, 0.0, 0.5});
        apply("cross_entropy", dtype, 1, 3, &x, &t, &v, NULL);
        near(get(&v, 0), log(2.0), 4 * eps, "CE with 0 log 0");
        apply("kl_div", dtype, 1, 3, &x, &t, &v, NULL);
        near(get(&v, 0), 0.0, 4 * eps, "KL with 0 log 0");
        apply("kl_div_with_logits", dtype, 1, 3, &x, &x, &v, NULL);
        near(get(&v, 0), 0.0, 0.0, "KL of a row with itself");
        apply("cross_entropy_terms", dtype, 1, 3, &x, &t, NULL, &o);
        near(get(&o, 1), 0.0, 0.0, "CE term with 0 log 0");
        apply("kl_div_terms", dtype, 1, 3, &x, &t, NULL, &o);
        near(get(&o, 1), 0.0, 0.0, "KL term with 0 log 0");
        apply("cross_entropy_value_and_grad", dtype, 1, 3, &x, &t, &v, &o);
        for (int j = 0; j < 3; j++)
            near(get(&o, j), 0.0, 4 * eps, "CE gradient with 0 log 0");
        apply("log_softmax", dtype, 1, 3, &x, NULL, NULL, &o);
        near(get(&o, 1), -inf, 0.0, "log_softmax of -inf");
        /* ... and infinite where the target is not */
        put(&t, 1, 0.25);
        apply("cross_entropy", dtype, 1, 3, &x, &t, &v, NULL);
        near(get(&v, 0), inf, 0.0, "CE of an impossible class");
        apply("kl_div", dtype, 1, 3, &x, &t, &v, NULL);
        near(get(&v, 0), inf, 0.0, "KL of an impossible class");
        free(x.data), free(t.data);
    }
    { /* NaN stays in its row; rows without any finite logit */
        array x = array_of(dtype, 12, (double[]){1.0, NAN, 2.0, 1.0, 1.0, 1.0, -inf, -inf, -inf, 0.0, inf, 1.0});
        apply("logsumexp", dtype, 4, 3, &x, NULL, &v, NULL);
        near(get(&v, 0), NAN, 0.0, "logsumexp of NaN");
        near(get(&v, 1), 1.0 + log(3.0), 4 * eps, "logsumexp beside NaN");
        near(get(&v, 2), -inf, 0.0, "logsumexp of -inf alone");
        near(get(&v, 3), inf, 0.0, "logsumexp with +inf");
        apply("softmax", dtype, 4, 3, &x, NULL, NULL, &o);
        for (int j = 0; j < 3; j++) {
            near(get(&o, j), NAN, 0.0, "softmax of NaN");
            near(get(&o, 3 + j), 1.0 / 3.0, eps, "softmax beside NaN");
            near(get(&o, 6 + j), NAN, 0.0, "softmax of -inf alone");
            near(get(&o, 9 + j), j == 1 ? NAN : 0.0, 0.0, "softmax with +inf");
        }
        apply("cross_entropy_with_labels", dtype, 4, 3, &x, label_of_four, &v, NULL);
        near(get(&v, 1), log(3.0), 4 * eps, "CE beside NaN");
        near(get(&v, 2), NAN, 0.0, "CE of -inf alone");
        free(x.data);
    }
    { /* tiny beside the maximum */
        array x = array_of(dtype, 2, (double[]){0.0, -50.0});
        apply("logsumexp", dtype, 1, 2, &x, NULL, &v, NULL);
        near(get(&v, 0), 1.9287498479639178e-22, 4 * eps * 1.93e-22, "logsumexp near 0");
        apply("log_softmax", dtype, 1, 2, &x, NULL, NULL, &o);
        near(get(&o, 0), -1.9287498479639178e-22, 4 * eps * 1.93e-22, "log_softmax of a certain class");
        apply("cross_entropy_with_labels", dtype, 1, 2, &x, &zero, &v, NULL);
        near(get(&v, 0), 1.9287498479639178e-22, 4 * eps * 1.93e-22, "CE of a certain class");
        free(x.data);
    }
    { /* a large common offset costs nothing */
        array x = array_of(dtype, 3, (double[]){10000.0, 10001.0, 10002.0});
        apply("cross_entropy_with_labels", dtype, 1, 3, &x, &two, &v, NULL);
        near(get(&v, 0), 0.40760596444438030, 4 * eps, "CE at a large offset");
        free(x.data);
    }
    { /* no classes, no rows */
        array x = array_new(dtype, 0);
        apply("logsumexp", dtype, 2, 0, &x, NULL, &v, NULL);
        near(get(&v, 1), -inf, 0.0, "logsumexp of nothing");
        apply("kl_div", dtype, 2, 0, &x, &x, &v, NULL);
        near(get(&v, 1), 0.0, 0.0, "KL of nothing");
        call_init(&c, op_named("cross_entropy_with_labels"), dtype, 0, 3, &x, label_of_four, &v, NULL);
        c.req.reduction = XENT_MEAN;
        must_run(&c);
        near(get(&v, 0), NAN, 0.0, "mean of no rows");
        c.req.reduction = XENT_SUM;
        must_run(&c);
        near(get(&v, 0), 0.0, 0.0, "sum of no rows");
        free(x.data);
    }
    free(v.data), free(o.data);
}

/* Two logit rows 1e-4 apart: positive, and right although the terms cancel to 1 part in 10^5 and more. */
static void check_near_equal(int dtype) {
    enum { N = 200, ROWS = 20 };
    array x = array_new(dtype, ROWS * N), y = array_new(dtype, ROWS * N), t = array_new(dtype, ROWS * N);
    array v = array_new(dtype, ROWS), w = array_new(dtype, ROWS);
    for (int i = 0; i < ROWS * N; i++) {
        put(&x, i, normal());
        put(&y, i, get(&x, i) + 1e-4 * normal());
    }
    apply("kl_div_with_logits", dtype, ROWS, N, &x, &y, &v, NULL);
    apply("softmax", dtype, ROWS, N, &y, NULL, NULL, &t);
    apply("kl_div", dtype, ROWS, N, &x, &t, &w, NULL);
    for (int r = 0; r < ROWS; r++) {
        long double sx = 0.0L, sy = 0.0L, kl = 0.0L, shift;
        for (int j = 0; j < N; j++) {
            sx += expl(get(&x, r * N + j));
            sy += expl(get(&y, r * N + j));
        }
        shift = logl(sx / sy);
        for (int j = 0; j < N; j++) { /* sum q (exp(d) - 1 - d): no term is negative */
            long double a = get(&x, r * N + j), b = get(&y, r * N + j), d = (a - b) - shift;
            kl += expl(b) / sy * (expm1l(d) - d);
        }
        CHECK(get(&v, r) > 0.0, "KL %.17g of rows that differ", get(&v, r));
        near(get(&v, r), (double)kl, 1e-6 * (double)kl, "KL of near-equal logits");
        CHECK(get(&w, r) >= 0.0, "KL %.17g of near-equal probabilities", get(&w, r));
    }
    apply("kl_div_with_logits", dtype, ROWS, N, &x, &x, &v, NULL);
    for (int r = 0; r < ROWS; r++)
        near(get(&v, r), 0.0, 0.0, "KL of equal rows");
    free(x.data), free(y.data), free(t.data), free(v.data), free(w.data);
}

/* ---- labels out of range: named, and nothing is written ---- */
static void check_bad_labels(int dtype) {
    enum { ROWS = 40, N = 7 };
    static const char *const names[] = {"cross_entropy_with_labels", "cross_entropy_with_labels_value_and_grad"};
    static const int64_t bad[] = {-1, N, INT64_MIN, INT64_MAX};
    array x = array_new(dtype, ROWS * N), v = array_new(dtype, ROWS), o = array_new(dtype, ROWS * N);
    int64_t labels[ROWS];
    uint8_t small[ROWS];
    uint64_t large[ROWS];
    call c;
    fill(&x, ROWS, N, INPUT_LOGITS);
    for (int i = 0; i < ROWS; i++) {
        labels[i] = i % N;
        small[i] = (uint8_t)(i % N);
        large[i] = (uint64_t)(i % N);
    }
    for (int which = 0; which < 2; which++)
        for (int b = 0; b < 4; b++)
            for (int reduction = XENT_NONE; reduction <= XENT_MEAN; reduction++) {
                call_init(&c, op_named(names[which]), dtype, ROWS, N, &x, labels, &v, &o);
                c.req.reduction = reduction;
                labels[23] = bad[b];
                labels[31] = -5; /* only the first is named */
                CHECK(run(&c) == XENT_ERR_LABEL, "label %lld passed", (long long)bad[b]);
                CHECK(c.req.bad_row == 23 && c.req.bad_label == bad[b], "row %td, label %lld", c.req.bad_row,
                      (long long)c.req.bad_label);
                CHECK(untouched(&v) && untouched(&o), "written in spite of a bad label");
                labels[23] = 2;
                labels[31] = 3;
            }
    /* two batch dimensions, the second reversed in memory: rows are counted in C order all the same */
    {
        const ptrdiff_t shape[] = {4, 10}, xs[] = {10 * N * item_size(dtype), N * item_size(dtype)};
        const ptrdiff_t ts[] = {10 * 8, -8}, vs[] = {10 * item_size(dtype), item_size(dtype)};
        call_init(&c, op_named(names[0]), dtype, ROWS, N, &x, labels, &v, NULL);
        c.req.ndim = 2;
        c.req.shape = shape;
        c.req.logits.strides = xs;
        c.req.target.strides = ts;
        c.req.target.data = labels + 9;
        c.req.value.strides = vs;
        labels[12] = N + 1;
        CHECK(run(&c) == XENT_ERR_LABEL && c.req.bad_row == 17 && c.req.bad_label == N + 1, "row %td", c.req.bad_row);
        labels[12] = 12 % N;
    }
    /* other label types, and the largest label that one can hold */
    small[5] = 255;
    call_init(&c, op_named(names[0]), dtype, ROWS, N, &x, labels, &v, NULL);
    c.req.target = view(small, XENT_U8, c.t, 0);
    c.t[0] = 1;
    CHECK(run(&c) == XENT_ERR_LABEL && c.req.bad_row == 5 && c.req.bad_label == 255, "uint8 255");
    large[9] = UINT64_MAX;
    c.req.target = view(large, XENT_U64, c.t, 0);
    c.t[0] = 8;
    CHECK(run(&c) == XENT_ERR_LABEL && c.req.bad_row == 9 && c.req.bad_label == INT64_MAX, "uint64 max");
    CHECK(untouched(&v), "written in spite of a bad label");
    /* ... which may be told to be ignored: its row leaves the mean */
    large[9] = 3;
    large[11] = 255;
    call_init(&c, op_named(names[1]), dtype, ROWS, N, &x, labels, &v, &o);
    c.req.target = view(large, XENT_U64, c.t, 0);
    c.req.has_ignore_index = 1;
    c.req.ignore_index = 255;
    must_run(&c);
    near(get(&v, 11), 0.0, 0.0, "an ignored row");
    {
        double sum = 0.0;
        for (int i = 0; i < ROWS; i++)
            sum += get(&v, i);
        for (int j = 0; j < N; j++)
            near(get(&o, 11 * N + j), 0.0, 0.0, "the gradient of an ignored row");
        c.req.reduction = XENT_MEAN;
        must_run(&c);
        near(get(&v, 0), sum / (ROWS - 1), 1e-5, "mean without the ignored row");
    }
    free(x.data), free(v.data), free(o.data);
}

/* ---- requests that make no sense ---- */
static void check_statuses(void) {
    array x = array_of(XENT_F64, 6, (double[]){1, 2, 3, 4, 5, 6}), v = array_new(XENT_F64, 2),
          o = array_new(XENT_F64, 6);
    call c;
    size_t size = 0;
    for (int s = XENT_OK; s <= XENT_ERR_DEVICE; s++)
        CHECK(xent_strerror((xent_status)s) && *xent_strerror((xent_status)s), "status %d has no text", s);
    CHECK(xent_find_op("no such operation") == -1 && xent_find_op(NULL) == -1, "found what is not there");
    CHECK(xent_abi_version() == XENT_ABI_VERSION, "header and library differ");
    CHECK(xent_set_isa("no such processor") == XENT_ERR_ISA, "an unknown instruction set was taken");
    CHECK(strcmp(xent_get_isa(), isa) == 0, "a refused instruction set was taken");
    CHECK(!xent_isa_name(-1) && !xent_isa_name(INT_MIN) && !xent_isa_name(INT_MAX), "no end of instruction sets");
    CHECK(xent_set_num_threads(-1) == XENT_ERR_OPTION, "-1 threads");

#define REFUSED(status, change)                                                                                        \
    do {                                                                                                               \
        call_init(&c, op_named("logsumexp"), XENT_F64, 2, 3, &x, NULL, &v, &o);                                        \
        change;                                                                                                        \
        CHECK(run(&c) == status, #change);                                                                             \
        CHECK(untouched(&v) && untouched(&o), "a refused request wrote: " #change);                                    \
    } while (0)
    REFUSED(XENT_ERR_REQUEST, c.req.struct_size = 0);
    REFUSED(XENT_ERR_OP, c.req.op = -1);
    REFUSED(XENT_ERR_OP, c.req.op = 10000);
    REFUSED(XENT_ERR_DTYPE, c.req.compute = XENT_F16);
    REFUSED(XENT_ERR_DTYPE, c.req.logits.dtype = XENT_I32);
    REFUSED(XENT_ERR_DTYPE, c.req.value.dtype = XENT_NO_DTYPE);
    REFUSED(XENT_ERR_NULL, c.req.logits.data = NULL);
    REFUSED(XENT_ERR_NULL, c.req.value.data = NULL);
    REFUSED(XENT_ERR_NULL, c.req.op = op_named("kl_div"); c.req.target.dtype = XENT_F64);
    REFUSED(XENT_ERR_SHAPE, c.req.classes = -1);
    REFUSED(XENT_ERR_SHAPE, c.shape[0] = -1);
    REFUSED(XENT_ERR_SHAPE, c.req.ndim = XENT_MAX_NDIM + 1);
    REFUSED(XENT_ERR_SHAPE, c.req.shape = NULL);
    REFUSED(XENT_ERR_SHAPE, c.req.classes = PTRDIFF_MAX);
    REFUSED(XENT_ERR_SHAPE, c.shape[0] = PTRDIFF_MAX / 2; c.x[0] = c.value[0] = 0);
    REFUSED(XENT_ERR_SHAPE, c.shape[0] = c.req.classes = (ptrdiff_t)1 << (sizeof(ptrdiff_t) * 4); c.x[0] = 0);
    REFUSED(XENT_ERR_SHAPE, c.shape[0] = 0; c.req.classes = PTRDIFF_MAX);
    REFUSED(XENT_ERR_NULL, c.req.logits.strides = NULL);
    REFUSED(XENT_ERR_REDUCTION, c.req.reduction = XENT_PER_CLASS);
    REFUSED(XENT_ERR_REDUCTION, c.req.reduction = 17);
    REFUSED(XENT_ERR_REDUCTION, c.req.op = op_named("softmax"); c.req.reduction = XENT_SUM);
    REFUSED(XENT_ERR_OPTION, c.req.label_smoothing = 0.1);
    REFUSED(XENT_ERR_OPTION, c.req.label_smoothing = NAN);
    REFUSED(XENT_ERR_OPTION, c.req.has_ignore_index = 1);
    REFUSED(XENT_ERR_OPTION, c.req.threads = -1);
#undef REFUSED

    xent_request_init(NULL);
    CHECK(xent_run(NULL) == XENT_ERR_REQUEST && xent_scratch_size(NULL, &size) == XENT_ERR_REQUEST, "no request");
    CHECK(xent_state_update(NULL, 0, o.data) == XENT_ERR_REQUEST, "no piece");
    call_init(&c, op_named("logsumexp"), XENT_F64, 2, 3, &x, NULL, &v, NULL);
    CHECK(xent_scratch_size(&c.req, NULL) == XENT_ERR_NULL, "no place for a size");
    c.req.classes = -1;
    size = 4711;
    CHECK(xent_scratch_size(&c.req, &size) == XENT_ERR_SHAPE && size == 4711, "an error with a size");
    size = 0;
    {
        /* what a program that was built with another header may have: not all of it may be read */
        size_t *small = allocate(sizeof *small);
        *small = sizeof *small;
        CHECK(xent_run((xent_request *)(void *)small) == XENT_ERR_REQUEST, "a request of one field");
        CHECK(xent_scratch_size((xent_request *)(void *)small, &size) == XENT_ERR_REQUEST, "a request of one field");
        CHECK(xent_state_update((xent_request *)(void *)small, 0, o.data) == XENT_ERR_REQUEST, "a piece of one field");
        free(small);
    }

    call_init(&c, op_named("cross_entropy_terms"), XENT_F64, 2, 3, &x, &x, NULL, &o);
    c.req.reduction = XENT_PER_CLASS;
    CHECK(xent_scratch_size(&c.req, &size) == XENT_OK && size > 0, "per_class asks for no scratch");
    CHECK(xent_run(&c.req) == XENT_ERR_SCRATCH && untouched(&o), "ran without its scratch");
    free(x.data), free(v.data), free(o.data);
}

/* ---- gradients against central differences, with all the options that reach them ---- */
static void check_gradient(int op, int reduction, bool options) {
    enum { ROWS = 5, N = 6 };
    const xent_op_info *info = info_of(op);
    const bool labels = info->target == XENT_TARGET_LABELS,
               soft_ce = strcmp(info->name, "cross_entropy_value_and_grad") == 0;
    const double h = 1e-5;
    array x = array_new(XENT_F64, ROWS * N), t = array_new(XENT_F64, ROWS * N), v = array_new(XENT_F64, ROWS);
    array o = array_new(XENT_F64, ROWS * N);
    int64_t y[ROWS] = {0, 5, 2, 2, 1};
    const double sample_weight[ROWS] = {1.0, 0.5, 2.0, 1.5, 0.25}, class_weight[N] = {1.0, 2.0, 0.5, 1.5, 3.0, 0.75};
    const double temperature[ROWS] = {1.0, 2.0, 0.5, 4.0, 1.5};
    uint8_t where[ROWS * N];
    double grad[ROWS * N];
    array *const of = strstr(info->name, "_target_grad") != NULL ? &t : &x;
    call c;
    fill(&x, ROWS, N, INPUT_LOGITS);
    fill(&t, ROWS, N, kind_of_t(op));
    memset(where, 1, sizeof where);
    where[3] = where[N + 1] = 0;
    call_init(&c, op, XENT_F64, ROWS, N, &x, labels ? (void *)y : &t, &v, &o);
    c.req.reduction = reduction;
    if (options) {
        c.req.sample_weight = view(sample_weight, XENT_F64, c.weight, 0);
        if (strcmp(info->name, "nll_value_and_grad") != 0) /* which takes log-probabilities as they are */
            c.req.temperature = view(temperature, XENT_F64, c.temperature, 0);
        c.req.where = view(where, XENT_BOOL, c.where, 1);
        if (labels || soft_ce)
            c.req.class_weight = view(class_weight, XENT_F64, NULL, (ptrdiff_t)sizeof(double));
        if (soft_ce)
            c.req.label_smoothing = 0.1;
        if (labels) {
            c.req.has_ignore_index = 1;
            c.req.ignore_index = 5;
        }
    }
    must_run(&c);
    memcpy(grad, o.data, sizeof grad);
    for (int i = 0; i < ROWS * N; i++) {
        const int at = reduction == XENT_NONE ? i / N : 0;
        const double keep = get(of, i);
        double up, down;
        put(of, i, keep + h);
        must_run(&c);
        up = get(&v, at);
        put(of, i, keep - h);
        must_run(&c);
        down = get(&v, at);
        put(of, i, keep);
        near(grad[i], (up - down) / (2 * h), 2e-8, info->name);
    }
    c.req.grad_scale = -2.5;
    must_run(&c);
    for (int i = 0; i < ROWS * N; i++)
        near(get(&o, i), -2.5 * grad[i], 1e-14, "grad_scale");
    free(x.data), free(t.data), free(v.data), free(o.data);
}

static void check_gradients(void) {
    int ops;
    xent_ops(&ops);
    for (int op = 0; op < ops; op++)
        if (info_of(op)->has_value && strstr(info_of(op)->name, "_grad") != NULL)
            for (int reduction = XENT_NONE; reduction <= XENT_MEAN; reduction++)
                for (int options = 0; options < 2; options++)
                    check_gradient(op, reduction, options != 0);
}

/* ---- storage: alignment and byte order change no bit, float16 is rounded once ---- */
static void check_storage(int dtype) {
    enum { ROWS = 5, N = 77 };
    const ptrdiff_t size = item_size(dtype);
    array x = array_new(dtype, ROWS * N), t = array_new(dtype, ROWS * N), v = array_new(dtype, ROWS),
          o = array_new(dtype, ROWS * N);
    array v2 = array_new(dtype, ROWS), o2 = array_new(dtype, ROWS * N);
    unsigned char *odd_x = allocate(bytes(&x) + 1), *odd_o = allocate(bytes(&x) + 1), *swapped = allocate(bytes(&t));
    const uint16_t halves[] = {0x3c00, 0x3c00, 0x3c00, 0x3c00}; /* 1.0 */
    uint16_t half = 0;
    call c;
    fill(&x, ROWS, N, INPUT_LOGITS);
    fill(&t, ROWS, N, INPUT_PROBS);
    call_init(&c, op_named("kl_div_value_and_grad"), dtype, ROWS, N, &x, &t, &v, &o);
    must_run(&c);
    memcpy(odd_x + 1, x.data, bytes(&x));
    for (size_t i = 0; i < bytes(&t); i++)
        swapped[i] = ((unsigned char *)t.data)[i - i % (size_t)size + (size_t)size - 1 - i % (size_t)size];
    call_init(&c, op_named("kl_div_value_and_grad"), dtype, ROWS, N, &x, &t, &v2, &o2);
    c.req.logits.data = odd_x + 1;
    c.req.target.data = swapped;
    c.req.target.swapped = 1;
    c.req.out.data = odd_o + 1;
    must_run(&c);
    CHECK(memcmp(v.data, v2.data, bytes(&v)) == 0, "alignment changes a value");
    CHECK(memcmp(o.data, odd_o + 1, bytes(&o)) == 0, "alignment changes a gradient");

    call_init(&c, op_named("logsumexp"), XENT_F32, 1, 4, &x, NULL, &v, NULL);
    c.req.logits = view(halves, XENT_F16, c.x, 2);
    c.req.value = view(&half, XENT_F16, c.value, 0);
    must_run(&c);
    CHECK(half == 0x40c6, "float16 1 + log 4 is %#x", half); /* 2.386294 -> 2.38671875 */
    free(x.data), free(t.data), free(v.data), free(o.data), free(v2.data), free(o2.data);
    free(odd_x), free(odd_o), free(swapped);
}

/* ---- 16-bit floats: every value read, and every rounding there is, against their definition ---- */
static int digits_of(int dtype) {
    return dtype == XENT_F16 ? 10 : 7;
}

/* Of a pattern without sign; one past the largest finite number it goes on as if exponents did not end. */
static double value16(int dtype, unsigned h) {
    const int digits = digits_of(dtype), bias = dtype == XENT_F16 ? 15 : 127;
    const int exponent = (int)(h >> digits), fraction = (int)(h & ((1u << digits) - 1));
    return exponent == 0 ? ldexp(fraction, 1 - bias - digits)
                         : ldexp(fraction + (1 << digits), exponent - bias - digits);
}

static unsigned infinity16(int dtype) {
    return 0x7fffu >> digits_of(dtype) << digits_of(dtype);
}

/* -x, as the term of a target that is 1; `apart` elements from one to the next. */
static void negate(int compute, const void *x, int x_dtype, void *out, int out_dtype, ptrdiff_t n, ptrdiff_t apart,
                   bool swapped) {
    const ptrdiff_t x_size = x_dtype == XENT_F32 ? 4 : 2, out_size = out_dtype == XENT_F32 ? 4 : 2;
    static const float one = 1.0f;
    call c;
    memset(&c, 0, sizeof c);
    xent_request_init(&c.req);
    c.req.op = op_named("kl_pointwise");
    c.req.compute = compute;
    c.req.classes = n;
    c.req.logits = view(x, x_dtype, NULL, apart * x_size);
    c.req.target = view(&one, XENT_F32, NULL, 0);
    c.req.out = view(out, out_dtype, NULL, apart * out_size);
    c.req.logits.swapped = swapped && x_size == 2;
    c.req.out.swapped = swapped && out_size == 2;
    must_run(&c);
}

static uint16_t swap16(uint16_t h, bool swapped) {
    return swapped ? (uint16_t)(h >> 8 | h << 8) : h;
}

static void check_reading16(int compute, int dtype, ptrdiff_t apart, bool swapped) {
    enum { N = 65536 };
    uint16_t *h = allocate((size_t)(N * apart) * sizeof *h);
    float *got = allocate((size_t)(N * apart) * sizeof *got);
    for (unsigned i = 0; i < N; i++)
        h[i * (size_t)apart] = swap16((uint16_t)i, swapped);
    negate(compute, h, dtype, got, XENT_F32, N, apart, swapped);
    for (unsigned i = 0; i < N; i++) {
        const unsigned magnitude = i & 0x7fffu, inf = infinity16(dtype);
        const double v = magnitude > inf ? NAN : magnitude == inf ? INFINITY : value16(dtype, magnitude);
        near(got[i * (size_t)apart], i & 0x8000u ? v : -v, 0.0, "a 16-bit float read");
    }
    free(h), free(got);
}

/* Between each two neighbours: the lower, the middle, and what lies on either side of it; both signs. */
static void check_rounding16(int compute, int dtype, ptrdiff_t apart, bool swapped) {
    const unsigned inf = infinity16(dtype);
    const ptrdiff_t n = 8 * (ptrdiff_t)inf;
    float *x = allocate((size_t)(n * apart) * sizeof *x);
    uint16_t *got = allocate((size_t)(n * apart) * sizeof *got), *want = allocate((size_t)n * sizeof *want);
    ptrdiff_t at = 0;
    for (unsigned h = 0; h < inf; h++) {
        const float low = (float)value16(dtype, h);
        const float middle = (float)(0.5 * (value16(dtype, h) + value16(dtype, h + 1)));
        const float from[] = {low, nextafterf(middle, 0.0f), middle, nextafterf(middle, INFINITY)};
        const unsigned to[] = {h, h, h + (h & 1), h + 1};
        for (int k = 0; k < 8; k++, at++) {
            const bool negative = k >= 4 && from[k % 4] != 0.0f; /* 0 - 0 is +0 either way */
            x[at * apart] = negative ? from[k % 4] : -from[k % 4];
            want[at] = (uint16_t)(to[k % 4] | (negative ? 0x8000u : 0));
        }
    }
    negate(compute, x, XENT_F32, got, dtype, n, apart, swapped);
    for (ptrdiff_t i = 0; i < n; i++)
        CHECK(swap16(got[i * apart], swapped) == want[i], "%.9g became %#x, not %#x", (double)-x[i * apart],
              swap16(got[i * apart], swapped), want[i]);
    free(x), free(got), free(want);
}

/* Rows of every length, in arrays of no byte more; and what is no number or out of range. */
static void check_ends16(int compute, int dtype) {
    const unsigned inf = infinity16(dtype), quiet = inf | 1u << (digits_of(dtype) - 1);
    const float beyond = (float)(1.5 * value16(dtype, inf)), x[] = {-INFINITY, INFINITY, -FLT_MAX, FLT_MAX, -beyond};
    const unsigned want[] = {inf, inf | 0x8000u, inf, inf | 0x8000u, inf};
    const uint32_t all_ones = 0x7fffffffu; /* a NaN that rounding up as a number would make -0 */
    float nan;
    uint16_t got[5];
    for (int n = 1; n <= 65; n++) {
        uint16_t *in = allocate((size_t)n * sizeof *in), *out = allocate((size_t)n * sizeof *out);
        for (int i = 0; i < n; i++)
            in[i] = (uint16_t)(inf / 2 + 37 * (unsigned)i);
        negate(compute, in, dtype, out, dtype, n, 1, false);
        for (int i = 0; i < n; i++)
            CHECK(out[i] == (in[i] | 0x8000u), "element %d of %d: %#x became %#x", i, n, in[i], out[i]);
        free(in), free(out);
    }
    negate(compute, x, XENT_F32, got, dtype, 5, 1, false);
    for (int i = 0; i < 5; i++)
        CHECK(got[i] == want[i], "%g became %#x, not %#x", -(double)x[i], got[i], want[i]);
    memcpy(&nan, &all_ones, sizeof nan);
    negate(compute, &nan, XENT_F32, got, dtype, 1, 1, false);
    CHECK((got[0] & quiet) == quiet, "NaN became %#x", got[0]);
}

static void check_16_bits(int compute) {
    static const int dtypes[] = {XENT_F16, XENT_BF16};
    for (int d = 0; d < 2; d++) {
        for (int swapped = 0; swapped < 2; swapped++)
            for (int apart = 1; apart < 4; apart += 2) {
                check_reading16(compute, dtypes[d], apart, swapped != 0);
                check_rounding16(compute, dtypes[d], apart, swapped != 0);
            }
        check_ends16(compute, dtypes[d]);
    }
}

/* ---- threads: 1, 2 and 8 give the same bits, whether rows or pieces of a row are shared out ---- */
typedef struct batch { /* each kind of each operand, for all operations */
    ptrdiff_t rows, classes;
    array x[INPUT_KINDS], t[INPUT_KINDS];
    int64_t *labels;
} batch;

static batch batch_new(int dtype, ptrdiff_t rows, ptrdiff_t classes) {
    batch b;
    b.rows = rows;
    b.classes = classes;
    for (int kind = 0; kind < INPUT_KINDS; kind++) {
        b.x[kind] = array_new(dtype, rows * classes);
        b.t[kind] = array_new(dtype, rows * classes);
        fill(&b.x[kind], rows, classes, (input_kind)kind);
        fill(&b.t[kind], rows, classes, (input_kind)kind);
    }
    b.labels = allocate((size_t)rows * sizeof *b.labels);
    for (ptrdiff_t r = 0; r < rows; r++)
        b.labels[r] = (int64_t)(uniform() * (double)classes);
    return b;
}

static void batch_free(batch *b) {
    for (int kind = 0; kind < INPUT_KINDS; kind++)
        free(b->x[kind].data), free(b->t[kind].data);
    free(b->labels);
}

static void batch_call(call *c, const batch *b, int op, array *value, array *out) {
    const void *t = info_of(op)->target == XENT_TARGET_LABELS ? (const void *)b->labels : &b->t[kind_of_t(op)];
    call_init(c, op, b->x[0].dtype, b->rows, b->classes, &b->x[kind_of_x(op)], t, value, out);
}

static void check_op_threads(const batch *b, int op, int reduction) {
    static const int threads[] = {1, 2, 8};
    const char *name = info_of(op)->name;
    array v[2], o[2];
    call c;
    for (int k = 0; k < 2; k++) {
        v[k] = array_new(b->x[0].dtype, b->rows);
        o[k] = array_new(b->x[0].dtype, b->rows * b->classes);
    }
    for (int k = 0; k < 3; k++) {
        const int to = k > 0;
        memset(v[to].data, 0xa5, bytes(&v[to]));
        memset(o[to].data, 0xa5, bytes(&o[to]));
        batch_call(&c, b, op, &v[to], &o[to]);
        c.req.reduction = reduction;
        CHECK(xent_set_num_threads(threads[k]) == XENT_OK, "%d threads", threads[k]);
        must_run(&c);
        if (k > 0) {
            CHECK(memcmp(v[0].data, v[1].data, bytes(&v[0])) == 0, "%s: a value, %d threads", name, threads[k]);
            CHECK(memcmp(o[0].data, o[1].data, bytes(&o[0])) == 0, "%s: a class, %d threads", name, threads[k]);
        }
    }
    CHECK(xent_set_num_threads(0) == XENT_OK, "default threads");
    for (int k = 0; k < 2; k++)
        free(v[k].data), free(o[k].data);
}

static void check_threads(int dtype) {
    batch rows = batch_new(dtype, 3600, 19), pieces = batch_new(dtype, 1, 66000); /* two units of each, and a rest */
    int ops;
    xent_ops(&ops);
    for (int op = 0; op < ops; op++) {
        const xent_op_info *info = info_of(op);
        check_op_threads(&rows, op, XENT_NONE);
        check_op_threads(&pieces, op, XENT_NONE);
        if (info->has_value)
            check_op_threads(&rows, op, XENT_MEAN);
        else if (strstr(info->name, "_terms"))
            check_op_threads(&rows, op, XENT_PER_CLASS);
    }
    batch_free(&rows);
    batch_free(&pieces);
}

/* ---- fork after a parallel call, its threads idle: parent and child go on, with several threads each ---- */
static void check_fork(void) {
    batch b = batch_new(XENT_F32, 4200, 40);
    array before = array_new(XENT_F32, b.rows * b.classes), after = array_new(XENT_F32, b.rows * b.classes);
    const int op = op_named("softmax");
    call c;
    int status = -1;
    pid_t pid;
    CHECK(xent_set_num_threads(4) == XENT_OK, "4 threads");
    batch_call(&c, &b, op, NULL, &before);
    must_run(&c);
    batch_call(&c, &b, op, NULL, &after);
    pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        alarm(60); /* ends a child that waits for threads it does not have */
        _exit(run(&c) == XENT_OK && memcmp(before.data, after.data, bytes(&after)) == 0 ? 0 : 7);
    }
    CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child's status is %#x", (unsigned)status);
    must_run(&c);
    CHECK(memcmp(before.data, after.data, bytes(&after)) == 0, "the parent's result changed by a fork");
    CHECK(xent_set_num_threads(0) == XENT_OK, "default threads");
    free(before.data), free(after.data);
    batch_free(&b);
}

/* ---- rows in pieces: what merged states say is what the whole row says ---- */
/* Classes [from, to) of a call. */
static xent_status update(const call *whole, ptrdiff_t from, ptrdiff_t to, void *states) {
    call c = *whole;
    const xent_view *views[] = {&whole->req.logits, &whole->req.target, &whole->req.where, &whole->req.class_weight,
                                &whole->req.pos_weight};
    xent_view *mine[] = {&c.req.logits, &c.req.target, &c.req.where, &c.req.class_weight, &c.req.pos_weight};
    for (int i = 0; i < 5; i++)
        if (views[i]->data)
            mine[i]->data = (char *)views[i]->data + from * views[i]->class_stride; /* 0 of labels */
    c.req.classes = to - from;
    c.req.value.data = NULL;
    return xent_state_update(&c.req, from, states);
}

static void *start(int op, int compute, ptrdiff_t rows) {
    void *states = allocate(xent_state_size(op) * (size_t)rows);
    CHECK(xent_state_start(op, compute, (size_t)rows, states) == XENT_OK, "%s", info_of(op)->name);
    return states;
}

static void check_pieces(int op, int dtype, ptrdiff_t rows, ptrdiff_t n, bool options, bool exact) {
    const char *name = info_of(op)->name;
    const bool labels = info_of(op)->target == XENT_TARGET_LABELS, weighs = strstr(name, "cross_entropy") || labels;
    /* pieces: [a, b), [0, a), [b, n); exact: [0, a), [a, n) */
    const ptrdiff_t a = !exact ? n / 3 : n < 65536 ? n : 65536, b = exact ? n : n - n / 4;
    const double tolerance = dtype == XENT_F64 ? 1e-14 : 2e-6;
    array x = array_new(dtype, rows * n), t = array_new(dtype, rows * n), v = array_new(dtype, rows);
    array w = array_new(dtype, rows), none = array_new(dtype, rows);
    double *class_weight = allocate((size_t)n * sizeof *class_weight);
    double *temperature = allocate((size_t)rows * sizeof *temperature);
    int64_t *y = allocate((size_t)rows * sizeof *y);
    uint8_t *where = allocate((size_t)(rows * n));
    void *one = start(op, dtype, rows), *two = start(op, dtype, rows);
    size_t bad = 0;
    call c;
    fill(&x, rows, n, kind_of_x(op));
    fill(&t, rows, n, kind_of_t(op));
    for (ptrdiff_t i = 0; i < n; i++)
        class_weight[i] = 0.5 + uniform();
    for (ptrdiff_t i = 0; i < rows * n; i++)
        where[i] = uniform() < 0.7;
    for (ptrdiff_t r = 0; r < rows; r++) {
        y[r] = (int64_t)(uniform() * (double)n);
        temperature[r] = 0.5 + uniform();
        for (ptrdiff_t j = 0; r % 5 == 1 && j < n; j++) /* the row counts in its last piece alone, or in none */
            where[r * n + j] = r % 2 == 0 && j >= b;
    }
    for (ptrdiff_t i = 0; !options && !exact && i < rows * n; i++) /* what has no finite value, or no value */
        if ((i / n % 7 == 3 && i % 3 == 0) || (i / n % 7 == 5 && i % n == n / 2) || (i / n % 7 == 6 && i % n == 1))
            put(&x, i, i / n % 7 == 3 ? -INFINITY : i / n % 7 == 5 ? INFINITY : NAN);
    y[rows - 1] = n - 1; /* in the last piece */
    call_init(&c, op, dtype, rows, n, &x, labels ? (const void *)y : &t, &v, NULL);
    if (options) {
        c.req.where = view(where, XENT_BOOL, c.where, 1);
        if (strcmp(name, "nll") != 0 && strcmp(name, "entropy") != 0)
            c.req.temperature = view(temperature, XENT_F64, c.temperature, 0);
        if (weighs)
            c.req.class_weight = view(class_weight, XENT_F64, NULL, (ptrdiff_t)sizeof(double));
        if (strcmp(name, "binary_cross_entropy") == 0)
            c.req.pos_weight = view(class_weight, XENT_F64, NULL, (ptrdiff_t)sizeof(double));
        if (labels) {
            y[0] = c.req.ignore_index = -100;
            c.req.has_ignore_index = 1;
        }
    }
    must_run(&c);

    if (exact) {
        CHECK(update(&c, 0, a, one) == XENT_OK && update(&c, a, n, one) == XENT_OK, "%s", name);
    } else {
        CHECK(update(&c, a, b, one) == XENT_OK, "%s", name);
        CHECK(update(&c, 0, a, two) == XENT_OK, "%s", name);
        if (labels && !options) {
            CHECK(xent_state_finish((size_t)rows, one, dtype, none.data, &bad) == XENT_ERR_LABEL && untouched(&none),
                  "%s: labels that no piece has held", name);
            CHECK(bad < (size_t)rows && (y[bad] < a || y[bad] >= b), "%s: row %zu", name, bad);
        }
        CHECK(update(&c, b, n, two) == XENT_OK, "%s", name);
        CHECK(xent_state_merge((size_t)rows, one, two) == XENT_OK, "%s", name);
    }
    CHECK(xent_state_finish((size_t)rows, one, dtype, w.data, NULL) == XENT_OK, "%s", name);
    for (ptrdiff_t r = 0; r < rows; r++)
        near(get(&w, r), get(&v, r), exact ? 0.0 : tolerance * (4.0 + fabs(get(&v, r))), name);

    free(x.data), free(t.data), free(v.data), free(w.data), free(none.data);
    free(class_weight), free(temperature), free(y), free(where), free(one), free(two);
}

/* Pieces without classes, rows that no piece has reached, and classes that are all -inf: states merged in either order. */
static void check_empty_states(int dtype) {
    enum { ROWS = 3, N = 40 };
    array x = array_new(dtype, ROWS * N), none = array_new(dtype, ROWS * N), v = array_new(dtype, ROWS);
    array whole = array_new(dtype, ROWS);
    int ops;
    xent_ops(&ops);
    fill(&x, ROWS, N, INPUT_LOGITS);
    for (ptrdiff_t i = 0; i < ROWS * N; i++)
        put(&none, i, -INFINITY);
    for (int op = 0; op < ops; op++) {
        const char *name = info_of(op)->name;
        if (xent_state_size(op) == 0 || info_of(op)->target != XENT_TARGET_NONE || strcmp(name, "entropy") == 0)
            continue;
        for (int order = 0; order < 2; order++) {
            void *some = start(op, dtype, ROWS), *nothing = start(op, dtype, ROWS), *infinite = start(op, dtype, ROWS);
            call c;
            call_init(&c, op, dtype, ROWS, N, &x, NULL, &whole, NULL);
            must_run(&c);
            CHECK(update(&c, 0, N, some) == XENT_OK && update(&c, 0, 0, nothing) == XENT_OK, "%s", name);
            CHECK(xent_state_merge(ROWS, order ? some : nothing, order ? nothing : some) == XENT_OK, "%s", name);
            CHECK(xent_state_finish(ROWS, order ? some : nothing, dtype, v.data, NULL) == XENT_OK, "%s", name);
            CHECK(memcmp(v.data, whole.data, bytes(&v)) == 0, "%s: nothing merged with something", name);

            call_init(&c, op, dtype, ROWS, N, &none, NULL, &whole, NULL);
            CHECK(update(&c, 0, N, infinite) == XENT_OK, "%s", name);
            CHECK(xent_state_finish(ROWS, infinite, dtype, v.data, NULL) == XENT_OK, "%s", name);
            must_run(&c);
            for (ptrdiff_t r = 0; r < ROWS; r++)
                near(get(&v, r), get(&whole, r), 0.0, name);
            if (strcmp(name, "logsumexp") == 0) { /* -inf adds nothing */
                CHECK(xent_state_finish(ROWS, some, dtype, whole.data, NULL) == XENT_OK, "%s", name);
                CHECK(xent_state_merge(ROWS, order ? some : infinite, order ? infinite : some) == XENT_OK, "%s", name);
                CHECK(xent_state_finish(ROWS, order ? some : infinite, dtype, v.data, NULL) == XENT_OK, "%s", name);
                CHECK(memcmp(v.data, whole.data, bytes(&v)) == 0, "-inf merged with something");
            }
            free(some), free(nothing), free(infinite);
        }
    }
    free(x.data), free(none.data), free(v.data), free(whole.data);
}

static void check_states(int dtype) {
    const int lse = op_named("logsumexp"), kl = op_named("kl_div"), labels = op_named("cross_entropy_with_labels");
    const int64_t bad[] = {2, -1};
    array x = array_of(dtype, 6, (double[]){1, 2, 3, 4, 5, 6}), v = array_new(dtype, 2);
    unsigned char garbage[512], untold[512];
    int ops;
    call c;
    xent_ops(&ops);
    for (int op = 0; op < ops; op++) {
        const xent_op_info *info = info_of(op);
        if (xent_state_size(op) == 0) {
            CHECK(!info->has_value || info->has_emit || strcmp(info->name, "js_div") == 0, "%s: no states", info->name);
            CHECK(xent_state_start(op, dtype, 1, garbage) == XENT_ERR_OP, "%s", info->name);
            continue;
        }
        for (int options = 0; options < 2; options++) {
            check_pieces(op, dtype, 67, 29, options != 0, false);
            check_pieces(op, dtype, 11, 700, options != 0, false);
        }
        /* pieces of 65536 classes, the last one smaller: the same bits */
        if (strcmp(info->name, "kl_div_with_log_probs") != 0)
            for (int n = 0; n < 4; n++)
                check_pieces(op, dtype, 2, (const ptrdiff_t[]){33, 1000, 100000, 131072}[n], false, true);
    }

    memset(garbage, 0xa5, sizeof garbage);
    call_init(&c, lse, dtype, 2, 3, &x, NULL, &v, NULL);
    CHECK(xent_state_size(-1) == 0 && xent_state_size(ops) == 0, "states of no operation");
    CHECK(xent_state_start(lse, XENT_F16, 2, garbage) == XENT_ERR_DTYPE, "states in float16");
    CHECK(xent_state_start(lse, dtype, SIZE_MAX / 8, garbage) == XENT_ERR_SHAPE, "more states than memory");
    CHECK(xent_state_update(&c.req, 0, garbage) == XENT_ERR_STATE, "garbage updated");
    CHECK(xent_state_merge(2, garbage, garbage + 256) == XENT_ERR_STATE, "garbage merged");
    CHECK(xent_state_finish(2, garbage, dtype, v.data, NULL) == XENT_ERR_STATE && untouched(&v), "garbage finished");
    for (size_t i = 0; i < sizeof garbage; i++)
        CHECK(garbage[i] == 0xa5, "garbage written at %zu", i);

    CHECK(xent_state_start(kl, dtype, 2, garbage) == XENT_OK, "start");
    memcpy(untold, garbage, sizeof untold);
    CHECK(xent_state_update(&c.req, 0, garbage) == XENT_ERR_STATE, "states of another operation");
    CHECK(xent_state_start(labels, dtype, 2, garbage) == XENT_OK, "start");
    memcpy(untold, garbage, sizeof untold);
    call_init(&c, labels, dtype, 2, 3, &x, bad, &v, NULL);
    CHECK(xent_state_update(&c.req, 0, garbage) == XENT_ERR_LABEL && c.req.bad_row == 1 && c.req.bad_label == -1, "-1");
    c.req.target.data = (void *)(uintptr_t)(bad + 0);
    c.req.sample_weight = view(x.data, XENT_F64, c.weight, 0);
    CHECK(xent_state_update(&c.req, 0, garbage) == XENT_ERR_OPTION, "sample weights");
    c.req.sample_weight.data = NULL;
    CHECK(xent_state_update(&c.req, -1, garbage) == XENT_ERR_SHAPE, "classes from -1 on");
    c.req.struct_size = 8;
    CHECK(xent_state_update(&c.req, 0, garbage) == XENT_ERR_REQUEST, "a request of another version");
    CHECK(memcmp(garbage, untold, sizeof untold) == 0, "written in spite of an error");
    CHECK(xent_state_merge(2, garbage, garbage + 256) == XENT_ERR_STATE, "states merged with garbage");
    CHECK(xent_state_finish(2, garbage, XENT_I32, v.data, NULL) == XENT_ERR_DTYPE, "values of int32");
    CHECK(xent_state_start(lse, dtype, 2, NULL) == XENT_ERR_NULL, "no states to start");
    CHECK(xent_state_merge(2, garbage, NULL) == XENT_ERR_NULL, "no states to merge");
    CHECK(xent_state_merge(2, NULL, garbage) == XENT_ERR_NULL, "no states to merge into");
    CHECK(xent_state_finish(2, NULL, dtype, v.data, NULL) == XENT_ERR_NULL, "no states to finish");
    CHECK(xent_state_finish(2, garbage, dtype, NULL, NULL) == XENT_ERR_NULL, "no place for values");
    CHECK(xent_state_start(lse, dtype, 0, NULL) == XENT_OK && xent_state_merge(0, NULL, NULL) == XENT_OK &&
              xent_state_finish(0, NULL, dtype, NULL, NULL) == XENT_OK,
          "no rows");
    call_init(&c, lse, dtype, 2, 3, &x, NULL, NULL, NULL);
    CHECK(xent_state_update(&c.req, 0, NULL) == XENT_ERR_NULL, "no states to update");
    CHECK(xent_state_start(lse, dtype, 2, garbage) == XENT_OK, "start");
    CHECK(xent_state_finish(SIZE_MAX, garbage, dtype, v.data, NULL) == XENT_ERR_SHAPE, "more states than memory");
    CHECK(xent_state_merge(SIZE_MAX, garbage, garbage) == XENT_ERR_SHAPE, "more states than memory");

    /* nothing at all: no classes */
    CHECK(xent_state_start(lse, dtype, 2, garbage) == XENT_OK, "start");
    CHECK(xent_state_finish(2, garbage, dtype, v.data, NULL) == XENT_OK, "finish");
    near(get(&v, 0), -INFINITY, 0.0, "logsumexp of nothing");
    check_empty_states(dtype);
    free(x.data), free(v.data);
}

/* ---- the functions of contiguous rows: those of two operands and two results, in place, and their errors; that each of
 * them is the operation of its name is compared from Python ---- */
static void check_simple(void) {
    enum { N = 200000 };
    float x[6] = {1.2f, 0.3f, -0.8f, 0.2f, 2.5f, -0.3f}, t[6] = {0.8f, 0.1f, 0.1f, 0.1f, 0.7f, 0.2f}, v[2], p[6];
    double pairs[3] = {-1.0, -2.0, -0.5}, probs[3] = {0.5, 0.0, 0.25}, d[3], y;
    const int64_t labels[2] = {0, 1}, bad[2] = {0, 3};
    uint16_t half[3] = {0x3c00, 0x3c00, 0x3c00}, sum = 0; /* 1.0 */
    double *row = allocate(N * sizeof *row), *probabilities = allocate(N * sizeof *row);
    CHECK(xent_cross_entropy_with_labels_f32(x, labels, 2, 3, v) == XENT_OK, "labels");
    near(v[0], 0.433019, 1e-6, "cross-entropy, row 0");
    near(v[1], 0.149341, 1e-6, "cross-entropy, row 1");
    v[0] = v[1] = 9.0f;
    CHECK(xent_cross_entropy_with_labels_f32(x, bad, 2, 3, v) == XENT_ERR_LABEL && v[0] == 9.0f, "label 3 of 3");
    CHECK(xent_kl_div_value_and_grad_f32(x, t, 2, 3, v, p) == XENT_OK, "value and gradient");
    near(v[0], 0.167900 - 0.096957 + 0.013043, 3e-6, "KL");
    near(p[0] + p[1] + p[2], 0.0, 1e-6, "a gradient's sum");
    CHECK(xent_kl_div_value_and_grad_f32(x, t, 2, 3, v, t) == XENT_OK && memcmp(t, p, sizeof p) == 0, "in place of t");
    CHECK(xent_softmax_f32(x, 2, 3, p) == XENT_OK && xent_softmax_f32(x, 2, 3, x) == XENT_OK, "in place");
    CHECK(memcmp(x, p, sizeof p) == 0, "in place, other bits");
    CHECK(xent_kl_pointwise_f64(pairs, probs, 3, d) == XENT_OK, "pairs");
    near(d[0], 0.5 * (log(0.5) + 1.0), 1e-15, "a pair");
    near(d[1], 0.0, 0.0, "a pair of a probability of 0");
    CHECK(xent_logsumexp_f16(half, 1, 3, &sum) == XENT_OK && sum == 0x4032, "float16 1 + log 3 is %#x", sum);
    CHECK(xent_logsumexp_f32(NULL, 2, 3, v) == XENT_ERR_NULL, "no x");
    CHECK(xent_logsumexp_f32(x, 2, 3, NULL) == XENT_ERR_NULL, "no result");
    CHECK(xent_logsumexp_f32(x, SIZE_MAX, 3, v) == XENT_ERR_SHAPE, "SIZE_MAX rows");
    CHECK(xent_logsumexp_f32(x, SIZE_MAX / 4, SIZE_MAX / 4, v) == XENT_ERR_SHAPE, "more than memory");
    CHECK(xent_logsumexp_f32(x, 0, 3, NULL) == XENT_OK && xent_softmax_f32(x, 3, 0, NULL) == XENT_OK, "nothing");
    CHECK(xent_logsumexp_f32(NULL, 2, 0, v) == XENT_OK && v[1] == -INFINITY, "no classes");

    for (int i = 0; i < N; i++)
        row[i] = normal();
    CHECK(xent_set_num_threads(4) == XENT_OK, "4 threads"); /* that share the row, without scratch from the caller */
    CHECK(xent_logsumexp_f64(row, 1, N, &y) == XENT_OK && xent_softmax_f64(row, 1, N, probabilities) == XENT_OK,
          "long");
    CHECK(xent_set_num_threads(INT_MAX) == XENT_OK, "as many threads as can be said");
    CHECK(xent_logsumexp_f64(row, 1, N, d) == XENT_OK && d[0] == y, "a long row and too many threads, other bits");
    CHECK(xent_logsumexp_f64(row, N / 10, 10, probabilities) == XENT_OK, "short rows and too many threads");
    CHECK(xent_softmax_f64(row, 1, N, probabilities) == XENT_OK, "long");
    CHECK(xent_set_num_threads(1) == XENT_OK, "1 thread");
    CHECK(xent_logsumexp_f64(row, 1, N, d) == XENT_OK && d[0] == y, "a long row, other bits");
    CHECK(xent_set_num_threads(0) == XENT_OK, "default threads");
    for (int i = 0; i < N; i++)
        probabilities[0] += i ? probabilities[i] : 0.0;
    near(probabilities[0], 1.0, 1e-13, "the sum of a softmax");
    free(row), free(probabilities);
}

static void check_isa(void) {
    static const int dtypes[] = {XENT_F32, XENT_F64};
    CHECK(xent_set_isa(isa) == XENT_OK && strcmp(xent_get_isa(), isa) == 0, "not taken");
    seed = 20240229; /* the same data for each */
#define BOTH(check)                                                                                                    \
    for (int d = 0; d < 2; d++)                                                                                        \
    check(dtypes[d])
    BOTH(check_worked);
    ok("worked examples");
    BOTH(check_definitions);
    ok("every operation against its definition");
    BOTH(check_edges);
    ok("edge values");
    BOTH(check_near_equal);
    ok("near-equal rows");
    BOTH(check_bad_labels);
    ok("labels out of range");
    check_statuses();
    ok("refused requests");
    check_gradients();
    ok("gradients");
    BOTH(check_storage);
    ok("storage");
    BOTH(check_16_bits);
    ok("16-bit floats");
    BOTH(check_threads);
    ok("threads");
    BOTH(check_states);
    ok("rows in pieces");
    check_simple();
    ok("contiguous rows");
    check_fork();
    ok("fork");
#undef BOTH
}

int main(void) {
    const char *name;
    int count = 0;
    for (; (name = xent_isa_name(count)) != NULL; count++) {
        isa = name;
        check_isa();
    }
    isa = "all";
    CHECK(count > 0 && strcmp(xent_isa_name(count - 1), "baseline") == 0, "baseline is not the last resort");
    CHECK(xent_set_isa(NULL) == XENT_OK && strcmp(xent_get_isa(), xent_isa_name(0)) == 0, "the best is not the first");
    printf("ok all: %d instruction sets, OpenMP %s\n", count, xent_has_openmp() ? "on" : "off");
    return 0;
}
