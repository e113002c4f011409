// The second stage of gradients by what a grid's angles are made of: frequencies, phases and axes.

#pragma once

#include "fourier_features.h"
#include "sums.cuh"

namespace digan {

// How many partial sums there are; all zero where the grid is empty, whose gradients are zeros.
struct AngleParts {
  int64_t frequencies = 0;  // of a frame: those of phase, freq_x and freq_y
  int64_t y = 0, x = 0;     // in all
};

// `a` has the partial sums and the gradients under the names of FourierFeaturesBackwardArguments,
// all of type S.
template <class S, class Arguments>
cudaError_t sum_angle_parts(const Arguments& a,
                            const FourierFeaturesGrid& grid,
                            const AngleParts& parts,
                            cudaStream_t stream) {
  const int64_t B = grid.videos, T = grid.frames, F = grid.frequencies;
  S* const dfreq = static_cast<S*>(a.dfreq);
  S* const dfreq_y = B * F > 0 ? dfreq + 1 : dfreq;
  const SumTask<S, S> tasks[] = {
      {static_cast<const S*>(a.phase_parts), static_cast<S*>(a.dphase), B * T, parts.frequencies, F,
       F, 1},
      {static_cast<const S*>(a.freq_x_parts), dfreq, B, T * parts.frequencies, F, 2 * F, 2},
      {static_cast<const S*>(a.freq_y_parts), dfreq_y, B, T * parts.frequencies, F, 2 * F, 2},
      {static_cast<const S*>(a.y_parts), static_cast<S*>(a.dy), 1, parts.y, grid.height, 0, 1},
      {static_cast<const S*>(a.x_parts), static_cast<S*>(a.dx), 1, parts.x, grid.width, 0, 1},
  };
  return sum_parts(tasks, stream);
}

}  // namespace digan
