/* isa_body.h: everything an instruction set does, for the XENT_REAL at hand. An isa_*.c includes it twice,
 * for double first, which holds what both do with rows' states. */
#include "vec.h"
#include XENT_ISA_VEC
#undef TILE_VECTORS
#undef TILE_REALS
#undef RUN
#define TILE_VECTORS (TILE_BYTES / (ptrdiff_t)sizeof(V))
#define TILE_REALS (TILE_VECTORS * VN)
#define RUN 4 /* vectors added up plainly before the rounding error is kept */
#undef UNROLL
#define UNROLL _Pragma("GCC unroll 16")
#include "vmath.h"
#include "state.h"
#include "finish.h"
#if XENT_REAL == 64
#include "rows.h"
#endif
#include "bce.h"
#include "js.h"
#include "kl.h"
#include "emit.h"
#include "transpose.h"
#include "convert.h"
#include "pack.h"
#include "few.h"
#include "walk.h"
#undef XENT_REAL
