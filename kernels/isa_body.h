/* isa_body.h: everything an instruction set does, for the XENT_REAL at hand. An isa_*.c includes it twice. */
#include "vec.h"
#include XENT_ISA_VEC
#undef TILE_VECTORS
#undef TILE_REALS
#undef RUN
#define TILE_VECTORS (4096 / (ptrdiff_t)sizeof(V)) /* 4 KB: x, t, log t and an output stay in L1 together */
#define TILE_REALS (TILE_VECTORS * VN)
#define RUN 4 /* vectors added up plainly before the rounding error is kept */
#include "vmath.h"
#include "state.h"
#include "emit.h"
#include "pack.h"
#include "walk.h"
#if XENT_REAL == 64
#include "finish.h"
#endif
#undef XENT_REAL
