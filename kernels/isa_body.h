/* isa_body.h: everything an instruction set does, for the XENT_REAL at hand. An isa_*.c includes it twice,
 * for double first, which holds what both do with rows' states. */
#include "simd/vec.h"
#include XENT_ISA_VEC
#undef TILE_VECTORS
#undef TILE_REALS
#undef RUN
#define TILE_VECTORS (TILE_BYTES / (ptrdiff_t)sizeof(V))
#define TILE_REALS (TILE_VECTORS * VN)
#define RUN 4 /* vectors added up plainly before the rounding error is kept */
#include "math/coefficients.h"
#include "simd/vmath.h"
#include "walk/tile.h"
/* The families, on what they share. */
#include "math/state.h"
#include "math/result.h"
#include "math/lse.h"
#include "math/entropy.h"
#include "math/ce.h"
#include "math/bce.h"
#include "math/kl.h"
#include "math/js.h"
#include "math/point.h"
/* From storage to results. */
#include "walk/finish.h"
#include "walk/transpose.h"
#include "walk/convert.h"
#include "walk/load.h"
#include "walk/few.h"
#include "walk/rows.h"
#undef XENT_REAL
