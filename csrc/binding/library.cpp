// Registers every op's kernels, and tells Python what this library is.
//
// Schemas, fake functions and autograd formulas are Python's (digan/ops/*.py), so loading this
// library only adds implementations to ops that are there, or that Python defines later.

#include "binding/ops.h"

#include <torch/csrc/stable/library.h>

// The names must be replaced before the registering macro makes strings of them.
#define DIGAN_REGISTER(space, key, m) STABLE_TORCH_LIBRARY_IMPL(space, key, m)

DIGAN_REGISTER(DIGAN_NAMESPACE, DIGAN_DISPATCH_KEY, m) {
  m.impl("fourier_features", TORCH_BOX(&digan::fourier_features));
  m.impl("fourier_features_backward", TORCH_BOX(&digan::fourier_features_backward));
  m.impl("fourier_features_at", TORCH_BOX(&digan::fourier_features_at));
  m.impl("fourier_features_at_backward", TORCH_BOX(&digan::fourier_features_at_backward));
  m.impl("factorized_modulation", TORCH_BOX(&digan::factorized_modulation));
  m.impl("factorized_modulation_backward", TORCH_BOX(&digan::factorized_modulation_backward));
  m.impl("modulated_linear", TORCH_BOX(&digan::modulated_linear));
  m.impl("modulated_linear_backward", TORCH_BOX(&digan::modulated_linear_backward));
  m.impl("coord_linear", TORCH_BOX(&digan::coord_linear));
  m.impl("coord_linear_backward", TORCH_BOX(&digan::coord_linear_backward));
  m.impl("coord_chain", TORCH_BOX(&digan::coord_chain));
  m.impl("bias_act", TORCH_BOX(&digan::bias_act));
  m.impl("bias_act_backward", TORCH_BOX(&digan::bias_act_backward));
  m.impl("fir_resample", TORCH_BOX(&digan::fir_resample));
  m.impl("frames_to_uint8", TORCH_BOX(&digan::frames_to_uint8));
}

#ifndef DIGAN_EMULATED

// digan/native.py finds these words in the file before it loads it, since loading registers.
#define DIGAN_TEXT(x) #x
#define DIGAN_NUMBER(x) DIGAN_TEXT(x)
#define DIGAN_EXPORT extern "C" __attribute__((visibility("default")))
DIGAN_EXPORT const char digan_description[];
const char digan_description[] =
    "digan native library: version " DIGAN_VERSION "; for " DIGAN_ARCHITECTURES
    "; cuda " DIGAN_NUMBER(CUDART_VERSION) ";";

// The newest CUDA that the driver serves, 1000 * major + 10 * minor; 0 where there is no driver.
DIGAN_EXPORT int digan_cuda_driver() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

#endif  // DIGAN_EMULATED
