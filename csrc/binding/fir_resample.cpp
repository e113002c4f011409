// PyTorch's side of fir_resample.

#include "fir_resample.h"

#include "binding/ops.h"

namespace digan {
namespace {

FirStrides strides_for(const Tensor& images) {
  return {images.stride(0), images.stride(1), images.stride(2), images.stride(3)};
}

FirAxis axis_of(const char* name,
                int64_t in,
                int64_t up,
                int64_t down,
                int64_t before,
                int64_t behind,
                int64_t taps) {
  FirAxis axis;
  axis.in = in;
  axis.up = up;
  axis.down = down;
  axis.pad = before;
  axis.taps = taps;
  const int64_t room = in * up + before + behind - taps;
  check(room >= 0, "the filter must fit in the padded image, got ", taps, " taps for ", room + taps,
        " samples along ", name);
  axis.out = room / down + 1;
  return axis;
}

}  // namespace

Tensor fir_resample(const Tensor& x,
                    const MaybeTensor& filter,
                    const std::vector<int64_t>& up,
                    const std::vector<int64_t>& down,
                    const std::vector<int64_t>& padding,
                    bool flip_filter,
                    double gain) {
  FirResampleArguments arguments;
  arguments.number = number_of("x", x);
  check_rank("x", x, 4);
  for (const auto* factors : {&up, &down}) {
    const char* name = factors == &up ? "up" : "down";
    check(factors->size() == 2, name, " must be [x, y], got ", text(*factors));
    for (const int64_t factor : *factors) {
      check(factor >= 1 && factor <= kMostFirFactor, name, " must be 1 to ", kMostFirFactor,
            ", got ", text(*factors));
    }
  }
  check(padding.size() == 4, "padding must be [x0, x1, y0, y1], got ", text(padding));

  FirTaps& taps = arguments.taps;
  taps.y = taps.x = 1;
  taps.flip = flip_filter;
  taps.gain = gain;
  MaybeTensor read = filter;
  if (filter) {
    number_of("filter", *filter);
    const int64_t rank = filter->dim();
    check(rank == 1 || rank == 2, "filter must be [K] or [Ky, Kx], got ", text(sizes_of(*filter)));
    const int64_t taps_y = filter->size(0);
    const int64_t taps_x = filter->size(rank - 1);
    check(taps_y >= 1 && taps_x >= 1 && taps_y <= kMostFirTaps / taps_x, "filter must have 1 to ",
          kMostFirTaps, " taps, got ", text(sizes_of(*filter)));
    taps.y = static_cast<int>(taps_y);
    taps.x = static_cast<int>(taps_x);
    taps.separable = rank == 1;
    // Read as they are in float32, and in float64 for images in float64.
    const bool both_are_double =
        filter->scalar_type() == ScalarType::Double && x.scalar_type() == ScalarType::Double;
    read = both_are_double ? *filter : to_dtype(*filter, ScalarType::Float);
    arguments.filter_number = number_of("filter", *read);
    taps.stride_y = rank == 2 ? read->stride(0) : 0;
    taps.stride_x = read->stride(rank - 1);
  }

  arguments.images = x.size(0);
  arguments.channels = x.size(1);
  arguments.y = axis_of("y", x.size(2), up[1], down[1], padding[2], padding[3], taps.y);
  arguments.x_axis = axis_of("x", x.size(3), up[0], down[0], padding[0], padding[1], taps.x);
  const Sizes sizes = {arguments.images, arguments.channels, arguments.y.out, arguments.x_axis.out};
  const bool channels_last = is_channels_last(x) && !x.is_contiguous();
  const Tensor out = channels_last ? empty_channels_last(x, sizes) : empty(x, sizes);

  Launch launch("fir_resample", x);
  arguments.x_stride = strides_for(x);
  arguments.out_stride = strides_for(out);
  arguments.x = launch.in("x", x);
  arguments.filter = launch.in("filter", read);
  arguments.out = launch.out("out", out);
  launch.check(launch_fir_resample(arguments, launch.stream()));
  return out;
}

}  // namespace digan
