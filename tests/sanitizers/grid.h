// The inputs that launchers on a space-time grid share.

#pragma once

#include "driver.h"
#include "fourier_features.h"

namespace driver {

struct GridShape {
  int64_t videos, frames, height, width, frequencies;

  int64_t pixels() const { return videos * frames * height * width; }
};

// `wide` is the type of freq, phase, y and x, `tables` that of the workspaces.
inline digan::FourierFeaturesGrid grid_of(
    Call& call, const GridShape& s, Number wide, Number number, Number tables) {
  digan::FourierFeaturesGrid grid;
  grid.wide = wide;
  grid.number = number;
  grid.videos = s.videos;
  grid.frames = s.frames;
  grid.height = s.height;
  grid.width = s.width;
  grid.frequencies = s.frequencies;
  grid.freq = call.in(wide, s.videos * s.frequencies * 2, 3);
  grid.phase = call.in(wide, s.videos * s.frames * s.frequencies, 2);
  grid.y = call.in(wide, s.height, 0.7);
  grid.x = call.in(wide, s.width, 0.7);
  grid.rows = call.work(tables, 2 * s.videos * s.frames * s.height * s.frequencies);
  grid.columns = call.work(tables, 2 * s.videos * s.width * s.frequencies);
  return grid;
}

inline std::string text_of(const GridShape& s) {
  return "B " + std::to_string(s.videos) + " T " + std::to_string(s.frames) + " H " +
         std::to_string(s.height) + " W " + std::to_string(s.width) + " F " +
         std::to_string(s.frequencies);
}

}  // namespace driver
