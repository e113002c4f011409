// cudaStream_t and cudaError_t for the launchers' headers, alike under nvcc and the emulator.

#pragma once

#ifdef DIGAN_EMULATED
#include "emulator.h"
#else
#include <cuda_runtime_api.h>
#endif
