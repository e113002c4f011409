// The inputs that ops on a space-time grid share.

#pragma once

#include "binding/torch.h"
#include "fourier_features.h"

namespace digan {

// freq, phase, y and x, checked and contiguous, and room for the tables of the axes.
struct GridInputs {
  Tensor freq, phase, y, x, rows, columns;
  FourierFeaturesGrid grid;

  GridInputs(const char* op,
             const Tensor& freq,
             const Tensor& phase,
             const Tensor& y,
             const Tensor& x,
             Number number,
             ScalarType tables)
      : freq(contiguous(freq)), phase(contiguous(phase)), y(contiguous(y)), x(contiguous(x)) {
    grid.wide = wide_number_of(op, "freq", freq);
    grid.number = number;
    check_rank("freq", freq, 3);
    check_rank("phase", phase, 3);
    check_rank("y", y, 1);
    check_rank("x", x, 1);
    grid.videos = freq.size(0);
    grid.frequencies = freq.size(1);
    grid.frames = phase.size(1);
    grid.height = y.size(0);
    grid.width = x.size(0);
    const ScalarType dtype = freq.scalar_type();
    check_sizes("freq", freq, {grid.videos, grid.frequencies, 2});
    check_like("phase", phase, {grid.videos, grid.frames, grid.frequencies}, dtype);
    check_dtype("y", y, dtype);
    check_dtype("x", x, dtype);
    rows = empty(freq, {2, grid.videos, grid.frames, grid.height, grid.frequencies}, tables);
    columns = empty(freq, {2, grid.videos, grid.width, grid.frequencies}, tables);
  }

  // [B, T, H, W, channels]
  Sizes sizes(int64_t channels) const {
    return {grid.videos, grid.frames, grid.height, grid.width, channels};
  }

  FourierFeaturesGrid given_to(Launch& launch) const {
    FourierFeaturesGrid given = grid;
    given.freq = launch.in("freq", freq);
    given.phase = launch.in("phase", phase);
    given.y = launch.in("y", y);
    given.x = launch.in("x", x);
    given.rows = launch.out("rows", rows);
    given.columns = launch.out("columns", columns);
    return given;
  }
};

}  // namespace digan
