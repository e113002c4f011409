// PyTorch's side of coord_chain.

#include "coord_chain.h"

#include "binding/grid.h"
#include "binding/ops.h"
#include "binding/pre_activation.h"

namespace digan {
namespace {

// The tensor itself where it lies as the kernel reads it, else a copy that does.
Tensor in_chunks(const Tensor& tensor) {
  const Tensor dense = contiguous(tensor);
  if (reinterpret_cast<uintptr_t>(dense.const_data_ptr()) % 16 == 0) {
    return dense;
  }
  Tensor copy = empty(dense, sizes_of(dense));
  torch::stable::copy_(copy, dense);
  return copy;
}

MaybeTensor in_chunks(const MaybeTensor& tensor) {
  return tensor ? MaybeTensor(in_chunks(*tensor)) : std::nullopt;
}

}  // namespace

std::tuple<Tensor, Tensor> coord_chain(const Tensor& freq,
                                       const Tensor& phase,
                                       const Tensor& y,
                                       const Tensor& x,
                                       const Tensor& weight,
                                       const Tensor& hidden,
                                       const Tensor& bias,
                                       const Tensor& rgb_weight,
                                       const Tensor& rgb_bias,
                                       const MaybeTensor& skip,
                                       const MaybeTensor& image,
                                       const MaybeTensor& onward,
                                       const std::vector<int64_t>& rgb_layers,
                                       double alpha,
                                       const std::optional<double>& clamp) {
  const ScalarType dtype = weight.scalar_type();
  const Number number = number_of("weight", weight);
  check(number == Number::kBF16 || number == Number::kF16,
        "coord_chain: weight must be bfloat16 or float16, got ",
        torch::headeronly::toString(dtype));
  check_dtype("freq", freq, ScalarType::Float);
  const GridInputs grid("coord_chain", freq, phase, y, x, number, ScalarType::Float);
  const FourierFeaturesGrid& g = grid.grid;
  check_rank("weight", weight, 3);
  check_rank("hidden", hidden, 4);
  const int64_t channels = weight.size(1), layers = hidden.size(1) + 1;
  const int64_t pictures = static_cast<int64_t>(rgb_layers.size());
  check_sizes("weight", weight, {g.videos, channels, 2 * g.frequencies});
  check_like("hidden", hidden, {g.videos, layers - 1, channels, channels}, dtype);
  check_sizes("bias", bias, {layers, channels});
  check_like("rgb_weight", rgb_weight, {g.videos, pictures, 3, channels}, dtype);
  check_sizes("rgb_bias", rgb_bias, {pictures, 3});
  check(!clamp || *clamp > 0, "clamp must be positive or None, got ", clamp.value_or(0));
  Sizes below = {g.videos, g.frames, g.height, g.width};
  if (skip) {
    check(g.height % 2 == 0 && g.width % 2 == 0, "a grid with skip must have even sides, got ",
          g.height, " x ", g.width);
    below = {g.videos, g.frames, g.height / 2, g.width / 2};
    Sizes sizes = below;
    sizes.push_back(channels);
    check_like("skip", *skip, sizes, dtype);
  }
  if (image) {
    Sizes sizes = below;
    sizes.push_back(3);
    check_like("image", *image, sizes, ScalarType::Float);
  }
  int64_t outputs = 0;
  if (onward) {
    check_rank("onward", *onward, 3);
    outputs = onward->size(1);
    check_like("onward", *onward, {g.videos, outputs, channels}, dtype);
  }
  CoordChainArguments arguments;
  int64_t before = -1;
  for (const int64_t layer : rgb_layers) {
    check(layer > before && layer < layers && layers <= kMostChainLayers,
          "rgb_layers must be rising numbers of at most ", kMostChainLayers, " layers");
    arguments.rgb_layers |= uint32_t{1} << layer;
    before = layer;
  }
  check(channels <= kMostChainChannels && outputs <= kMostChainChannels &&
            g.frequencies <= kMostChainFrequencies && channels % 8 == 0 && outputs % 8 == 0 &&
            g.frequencies % 8 == 0 && channels > 0 && g.frequencies > 0,
        "coord_chain: the kernel takes up to ", kMostChainChannels, " channels and ",
        kMostChainFrequencies, " frequencies, in eights");

  const Tensor first = in_chunks(weight), others = in_chunks(hidden);
  const Tensor wide = contiguous(to_dtype(bias, ScalarType::Float));
  const Tensor colours = in_chunks(rgb_weight);
  const Tensor wide_rgb = contiguous(to_dtype(rgb_bias, ScalarType::Float));
  const MaybeTensor low = in_chunks(skip), before_it = in_chunks(image), last = in_chunks(onward);
  const Tensor picture = empty(freq, grid.sizes(3));
  const Tensor next = empty(weight, outputs > 0 ? grid.sizes(outputs) : Sizes{0});

  Launch launch("coord_chain", grid.freq);
  arguments.grid = grid.given_to(launch);
  arguments.channels = channels;
  arguments.layers = layers;
  arguments.outputs = outputs;
  arguments.weight = launch.in("weight", first);
  arguments.hidden = launch.in("hidden", others);
  arguments.onward = launch.in("onward", last);
  arguments.rgb_weight = launch.in("rgb_weight", colours);
  arguments.bias = launch.in("bias", wide);
  arguments.rgb_bias = launch.in("rgb_bias", wide_rgb);
  arguments.skip = launch.in("skip", low);
  arguments.image = launch.in("image", before_it);
  arguments.alpha = alpha;
  arguments.clamps = clamp.has_value();
  arguments.clamp = clamp.value_or(0);
  arguments.picture = launch.out("picture", picture);
  arguments.next = outputs > 0 ? launch.out("next", next) : nullptr;
  launch.check(launch_coord_chain(arguments, launch.stream()));
  return {picture, next};
}

}  // namespace digan
