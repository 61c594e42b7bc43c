/* isa_baseline.c: all operations for any processor. */
#include "isa.h"
#include "storage.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("schedule-insns", "sched-pressure") /* a run's bodies are interleaved */
#endif

#define XENT_ISA_NAME baseline
#define XENT_ISA_VEC "simd/vec_baseline.h"
#define XENT_REAL 64
#include "isa_body.h"
#define XENT_REAL 32
#include "isa_body.h"

const isa_entry xent_isa_baseline_entry = {"baseline", &kernels_baseline_f32, &kernels_baseline_f64, merge_baseline_f64,
                                           finish_baseline_f64};
