// fourier_features at scattered points: forward and first gradients.
//
// DESIGN
// The angle at a point is a sum of up to four products and a phase, all in float64, since a
// float32 angle is wrong by 3e-4 at 1e4 radians. For float32 it is reduced to an eighth of a turn
// around the nearest quarter turn, still in float64, and its sine and cosine are Taylor sums in
// float32: no slow path for large angles and so no stack frame (sincosf has both). For float64
// sincos(double) runs, stack frame and all: that type is there for gradient checks.
//
// Both kernels cut their work as fourier_features_sums.cuh says, with points as positions. A
// thread keeps the V frequencies that fill 16 bytes of output, and walks over points. The bytes
// are the features, once; the limit is float64 arithmetic, about ten operations a feature pair.
//
// Backward. dtheta = Gs cos theta - Gc sin theta. Its sums over points (by phase, and times the
// coordinates by freq) are running sums in registers, added over the block at its end; its sums
// over frequencies (by coordinates) are shuffles at each point. Partial sums leave the block and
// sums.cuh adds them in float64. Shared memory: 2 * 8 * 32 * V numbers, 16 KiB at most.
//
// Rejected: one thread a point with all its frequencies (no reduction over frequencies, but a
// warp's stores would lie 2F numbers apart); two matrix products on the angles (bmm), which would
// write them, in float64.

#include "fourier_features_at.h"

#include "fourier_features_sums.cuh"
#include "sums.cuh"

namespace digan {
namespace {

constexpr int kDimensions = 4;

struct Points {
  int64_t videos, points, frequencies;
  int dimensions;
};

// ---------------------------------------------------------------- sine and cosine of an angle

__device__ __forceinline__ void sine_cosine(double angle, double* sine, double* cosine) {
  sincos(angle, sine, cosine);
}

constexpr float kEighth = 0.79f;  // of a turn, rounded up

__device__ __forceinline__ void sine_cosine(double angle, float* sine, float* cosine) {
  const double quarters = rint(angle * 0.63661977236758134308);  // 2 / pi
  // pi / 2 as the sum of two float64 numbers.
  const double reduced =
      fma(-quarters, 6.123233995736766e-17, fma(-quarters, 1.5707963267948966, angle));
  float r = static_cast<float>(reduced);
  // Beyond 2^52 the reduction loses the angle; what is left stays within a turn's eighth, and NaN.
  r = r > kEighth ? kEighth : r < -kEighth ? -kEighth : r;
  const float r2 = r * r;
  // |r| <= pi/4: the first terms left out are below 2e-9 and 2e-10.
  const float s =
      r + r * r2 * (-1.0f / 6 + r2 * (1.0f / 120 + r2 * (-1.0f / 5040 + r2 * (1.0f / 362880))));
  const float c =
      1 + r2 * (-1.0f / 2 + r2 * (1.0f / 24 + r2 * (-1.0f / 720 +
                                                    r2 * (1.0f / 40320 + r2 * (-1.0f / 3628800)))));
  // Beyond 2^63 quarter turns an angle has no sine to speak of; the cast saturates.
  const int quadrant = static_cast<int>(static_cast<long long>(quarters) & 3);
  const float first = quadrant & 1 ? c : s;
  const float second = quadrant & 1 ? s : c;
  *sine = quadrant & 2 ? -first : first;
  *cosine = (quadrant + 1) & 2 ? -second : second;
}

// ---------------------------------------------------------------- what both kernels hold

// The frequencies of one thread; zeros beyond the end of either axis.
template <class S, int V>
struct Waves {
  S freq[kDimensions][V];
  S phase[V];
};

template <class S, int V>
__device__ __forceinline__ Waves<S, V> load_waves(Global<const S> freq,   // [B, F, d]
                                                  Global<const S> phase,  // [B, F]
                                                  const Points& points,
                                                  int64_t b,
                                                  int64_t f) {
  Waves<S, V> waves = {};
  if (f < points.frequencies) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int64_t wave = b * points.frequencies + f + v;
      waves.phase[v] = phase[wave];
#pragma unroll
      for (int k = 0; k < kDimensions; ++k) {
        if (k < points.dimensions) {
          waves.freq[k][v] = freq[wave * points.dimensions + k];
        }
      }
    }
  }
  return waves;
}

template <class S>
struct Point {
  S at[kDimensions];
};

template <class S>
__device__ __forceinline__ Point<S> load_point(Global<const S> coords,  // [B * N, d]
                                               const Points& points,
                                               int64_t point) {
  Point<S> result = {};
#pragma unroll
  for (int k = 0; k < kDimensions; ++k) {
    if (k < points.dimensions) {
      result.at[k] = coords[point * points.dimensions + k];
    }
  }
  return result;
}

template <class S, int V>
__device__ __forceinline__ void features_of(
    const Waves<S, V>& waves, const Point<S>& point, int dimensions, int v, S* sine, S* cosine) {
  double angle = static_cast<double>(waves.phase[v]);
#pragma unroll
  for (int k = 0; k < kDimensions; ++k) {
    if (k < dimensions) {
      angle = fma(static_cast<double>(waves.freq[k][v]), static_cast<double>(point.at[k]), angle);
    }
  }
  sine_cosine(angle, sine, cosine);
}

// The blocks: frequencies innermost, then points, videos. A block takes `steps` times the points
// that it holds side by side.
struct Cut {
  FeatureLanes frequencies;
  int64_t steps = 16;
  int64_t point_blocks = 0;  // per video
  int64_t blocks = 0;
};

Cut cut_of(const Points& points, int vector) {
  Cut cut;
  cut.frequencies = feature_lanes(points.frequencies, vector);
  const int64_t positions = kFeatureThreads / cut.frequencies.lanes;
  const int64_t side_by_side = points.videos * cut.frequencies.tiles;
  // Enough blocks for a large GPU, but no more partial sums than a thousand a video; the same on
  // every GPU, as it decides the order of the sums.
  while (cut.steps > 1 && side_by_side * ceil_div(points.points, positions * cut.steps) < 1024) {
    cut.steps /= 2;
  }
  while (ceil_div(points.points, positions * cut.steps) > 1024) {
    cut.steps *= 2;
  }
  cut.point_blocks = ceil_div(points.points, positions * cut.steps);
  cut.blocks = side_by_side * cut.point_blocks;
  return cut;
}

// ---------------------------------------------------------------- forward

template <class S, class Out, int V>
__global__ void __launch_bounds__(kFeatureThreads)
    fourier_features_at_kernel(Global<const S> freq,    // [B, F, d]
                               Global<const S> phase,   // [B, F]
                               Global<const S> coords,  // [B, N, d]
                               Global<Out> out,         // [B, N, 2F]
                               Points points,
                               Cut cut) {
  const int thread = static_cast<int>(threadIdx.x);
  const int lanes = cut.frequencies.lanes;
  const int positions = kFeatureThreads / lanes;
  const int64_t block = blockIdx.x;
  const int64_t tile = block % cut.frequencies.tiles;
  const int64_t point_block = block / cut.frequencies.tiles % cut.point_blocks;
  const int64_t b = block / cut.frequencies.tiles / cut.point_blocks;
  const int64_t f = (tile * lanes + thread % lanes) * V;
  if (f >= points.frequencies) {
    return;
  }
  const Waves<S, V> waves = load_waves<S, V>(freq, phase, points, b, f);
  for (int64_t step = 0; step < cut.steps; ++step) {
    const int64_t n = (point_block * cut.steps + step) * positions + thread / lanes;
    if (n >= points.points) {
      return;
    }
    const int64_t index = b * points.points + n;
    const Point<S> point = load_point<S>(coords, points, index);
    Several<Out, V> sines, cosines;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      S sine, cosine;
      features_of<S, V>(waves, point, points.dimensions, v, &sine, &cosine);
      sines.v[v] = narrow<Out>(static_cast<Wide<Out>>(sine));
      cosines.v[v] = narrow<Out>(static_cast<Wide<Out>>(cosine));
    }
    const Global<Out> to = out + (index * 2 * points.frequencies + f);
    store_several(to, sines);
    store_several(to + points.frequencies, cosines);
  }
}

// ---------------------------------------------------------------- backward

template <class S, class G, int V>
__global__ void __launch_bounds__(kFeatureThreads) fourier_features_at_backward_kernel(
    Global<const G> grad,       // [B, N, 2F]
    Global<const S> freq,       // [B, F, d]
    Global<const S> phase,      // [B, F]
    Global<const S> coords,     // [B, N, d]
    Global<S> frequency_parts,  // [d + 1, B, point blocks, F], that by phase first
    Global<S> coords_parts,     // [frequency tiles, B, N, d]
    Points points,
    Cut cut) {
  DIGAN_SHARED(S, shared, 2 * kFeatureWarps * 32 * V);
  const int thread = static_cast<int>(threadIdx.x);
  const int lanes = cut.frequencies.lanes;
  const int lane = thread % lanes;
  const int positions = kFeatureThreads / lanes;
  const int64_t block = blockIdx.x;
  const int64_t tile = block % cut.frequencies.tiles;
  const int64_t point_block = block / cut.frequencies.tiles % cut.point_blocks;
  const int64_t b = block / cut.frequencies.tiles / cut.point_blocks;
  const int64_t f = (tile * lanes + lane) * V;
  const Waves<S, V> waves = load_waves<S, V>(freq, phase, points, b, f);

  S by_phase[V] = {};
  S by_freq[kDimensions][V] = {};
  for (int64_t step = 0; step < cut.steps; ++step) {
    const int64_t n = (point_block * cut.steps + step) * positions + thread / lanes;
    const int64_t index = b * points.points + n;
    Point<S> by_point = {};
    if (n < points.points && f < points.frequencies) {
      const Point<S> point = load_point<S>(coords, points, index);
      const Global<const G> from = grad + (index * 2 * points.frequencies + f);
      const Several<G, V> grad_s = load_several<V>(from);
      const Several<G, V> grad_c = load_several<V>(from + points.frequencies);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        S sine, cosine;
        features_of<S, V>(waves, point, points.dimensions, v, &sine, &cosine);
        const S dtheta =
            static_cast<S>(widen(grad_s.v[v])) * cosine - static_cast<S>(widen(grad_c.v[v])) * sine;
        by_phase[v] += dtheta;
#pragma unroll
        for (int k = 0; k < kDimensions; ++k) {
          by_freq[k][v] += dtheta * point.at[k];
          by_point.at[k] += dtheta * waves.freq[k][v];
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kDimensions; ++k) {
      if (k < points.dimensions) {
        for (int offset = 1; offset < lanes; offset *= 2) {
          by_point.at[k] += __shfl_xor_sync(0xffffffffu, by_point.at[k], offset);
        }
        if (lane == 0 && n < points.points) {
          const int64_t row = tile * points.videos * points.points + index;
          coords_parts[row * points.dimensions + k] = by_point.at[k];
        }
      }
    }
  }

  const int64_t own_f = f + thread / lanes;
  const bool owns = thread < lanes * V && own_f < points.frequencies;
  const int64_t part = (b * cut.point_blocks + point_block) * points.frequencies + own_f;
  const int64_t part_count = points.videos * cut.point_blocks * points.frequencies;
  const S phase_total = sum_over_positions<S, V>(by_phase, lanes, shared, 0);
  if (owns) {
    frequency_parts[part] = phase_total;
  }
#pragma unroll
  for (int k = 0; k < kDimensions; ++k) {
    if (k < points.dimensions) {
      const S total = sum_over_positions<S, V>(by_freq[k], lanes, shared, (k + 1) % 2);
      if (owns) {
        frequency_parts[(k + 1) * part_count + part] = total;
      }
    }
  }
}

Points points_of(const FourierFeaturesPoints& a) {
  return {a.videos, a.points, a.frequencies, static_cast<int>(a.dimensions)};
}

}  // namespace

cudaError_t launch_fourier_features_at(const FourierFeaturesAtArguments& a, cudaStream_t stream) {
  const Points points = points_of(a);
  if (points.dimensions < 1 || points.dimensions > kDimensions) {
    return cudaErrorInvalidValue;
  }
  const int vector = feature_vector(a.wide, a.number, points.frequencies, a.out);
  const Cut cut = cut_of(points, vector);
  if (cut.blocks == 0) {
    return cudaSuccess;
  }
  if (cut.blocks > kMaxBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  return with_features(a.wide, a.number, vector, [&](auto s, auto out, auto v) {
    using S = decltype(s);
    using Out = decltype(out);
    return DIGAN_LAUNCH((fourier_features_at_kernel<S, Out, decltype(v)::value>),
                        static_cast<unsigned>(cut.blocks), kFeatureThreads, stream,
                        static_cast<const S*>(a.freq), static_cast<const S*>(a.phase),
                        static_cast<const S*>(a.coords), static_cast<Out*>(a.out), points, cut);
  });
}

FourierFeaturesAtBackwardSizes fourier_features_at_backward_sizes(
    const FourierFeaturesAtBackwardArguments& a) {
  const Points points = points_of(a);
  const Cut cut = cut_of(points, feature_vector(a.wide, a.number, points.frequencies, a.grad));
  FourierFeaturesAtBackwardSizes sizes;
  sizes.frequency_parts =
      (points.dimensions + 1) * points.videos * cut.point_blocks * points.frequencies;
  sizes.coords_parts = cut.frequencies.tiles * points.videos * points.points * points.dimensions;
  return sizes;
}

cudaError_t launch_fourier_features_at_backward(const FourierFeaturesAtBackwardArguments& a,
                                                cudaStream_t stream) {
  const Points points = points_of(a);
  if (points.dimensions < 1 || points.dimensions > kDimensions) {
    return cudaErrorInvalidValue;
  }
  const int vector = feature_vector(a.wide, a.number, points.frequencies, a.grad);
  const Cut cut = cut_of(points, vector);
  if (cut.blocks > kMaxBlocks) {
    return cudaErrorInvalidConfiguration;
  }
  return with_features(a.wide, a.number, vector, [&](auto s, auto g, auto v) {
    using S = decltype(s);
    using G = decltype(g);
    if (cut.blocks > 0) {
      const cudaError_t error = DIGAN_LAUNCH(
          (fourier_features_at_backward_kernel<S, G, decltype(v)::value>),
          static_cast<unsigned>(cut.blocks), kFeatureThreads, stream, static_cast<const G*>(a.grad),
          static_cast<const S*>(a.freq), static_cast<const S*>(a.phase),
          static_cast<const S*>(a.coords), static_cast<S*>(a.frequency_parts),
          static_cast<S*>(a.coords_parts), points, cut);
      if (error != cudaSuccess) {
        return error;
      }
    }
    // Without points, or without frequencies, the gradients are zeros.
    const int64_t B = points.videos, F = points.frequencies, d = points.dimensions;
    const int64_t part_count = B * cut.point_blocks * F;
    const S* const parts = static_cast<const S*>(a.frequency_parts);
    S* const dfreq = static_cast<S*>(a.dfreq);
    SumTask<S, S> tasks[kDimensions + 2] = {};
    tasks[0] = {parts, static_cast<S*>(a.dphase), B, cut.point_blocks, F, F, 1};
    tasks[1] = {static_cast<const S*>(a.coords_parts),
                static_cast<S*>(a.dcoords),
                1,
                cut.frequencies.tiles,
                B * points.points * d,
                0,
                1};
    for (int64_t k = 0; k < d && B * F > 0; ++k) {
      const S* const own = part_count > 0 ? parts + (k + 1) * part_count : parts;
      tasks[k + 2] = {own, dfreq + k, B, cut.point_blocks, F, d * F, d};
    }
    return sum_parts(tasks, stream);
  });
}

}  // namespace digan
