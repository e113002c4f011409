#include "fourier_features_axes.h"

#include "grid.h"

namespace driver {
namespace {

void run(Draw& draw) {
  for (const GridShape& s : {GridShape{1, 1, 1, 1, 1}, {2, 3, 5, 4, 33}, {1, 2, 0, 3, 8}}) {
    for (const Number wide : kWideNumbers) {
      for (const Number tables : kWideNumbers) {
        Call call(draw, std::string("fourier_features_axes ") + name_of(wide) + " " + text_of(s));
        digan::FourierFeaturesGrid grid = grid_of(call, s, wide, wide, tables);
        grid.rows = call.out(tables, 2 * s.videos * s.frames * s.height * s.frequencies);
        grid.columns = call.out(tables, 2 * s.videos * s.width * s.frequencies);
        call.done(launch_fourier_features_axes(grid, tables, nullptr));
      }
    }
  }
}

const Entry entry("fourier_features_axes", run);

}  // namespace
}  // namespace driver
