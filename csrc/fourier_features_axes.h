// The tables that both directions of fourier_features rotate: sines and cosines of the axes.

#pragma once

#include "fourier_features.h"

namespace digan {

// Extents as the kernels take them.
struct FeatureGrid {
  int64_t videos, frames, height, width, frequencies;

  explicit FeatureGrid(const FourierFeaturesGrid& a)
      : videos(a.videos),
        frames(a.frames),
        height(a.height),
        width(a.width),
        frequencies(a.frequencies) {}
};

// Fills `rows` and `columns`, of type `tables`: sines first, then cosines.
cudaError_t launch_fourier_features_axes(const FourierFeaturesGrid& arguments,
                                         Number tables,
                                         cudaStream_t stream);

}  // namespace digan
