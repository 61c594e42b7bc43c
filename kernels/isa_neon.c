/* isa_neon.c: all operations for 64-bit Arm. */
#include "isa.h"
#include "storage.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define XENT_ISA_NAME neon
#define XENT_ISA_VEC "simd/vec_neon.h"
#define XENT_REAL 64
#include "isa_body.h"
#define XENT_REAL 32
#include "isa_body.h"

const isa_entry xent_isa_neon_entry = {"neon", &kernels_neon_f32, &kernels_neon_f64, merge_neon_f64, finish_neon_f64};
#endif
