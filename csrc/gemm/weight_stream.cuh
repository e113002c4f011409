// The weights of a chain's layers as one stream of slices, which flows on from layer to layer.
//
// A layer takes its outputs in parts of kN, and a part its inputs in rounds of kStages slices, the
// last of which may be zeros: so every part begins at the ring's first stage, and where it begins
// the first slices are there already. Rows and columns beyond a matrix are zeros, not its last
// ones: what is made of them is then zero, and is multiplied by the next layer without harm.

#pragma once

#include "gemm/operands.cuh"

namespace digan::gemm {

// What a chain's layers multiply by.
template <class T>
struct ChainWeights {
  Global<const T> first;   // [B, C, 2F], sines before cosines
  Global<const T> hidden;  // [B, layers - 1, C, C]
  Global<const T> onward;  // [B, outputs, C]
  int frequencies, channels, layers, outputs;

  // Of the layers and the one onward.
  __device__ __forceinline__ int count() const { return layers + (outputs > 0 ? 1 : 0); }
  __device__ __forceinline__ int inputs(int layer) const {
    return layer == 0 ? 2 * frequencies : channels;
  }
  __device__ __forceinline__ int outputs_of(int layer) const {
    return layer < layers ? channels : outputs;
  }
  __device__ __forceinline__ Global<const T> matrix(int video, int layer) const {
    return layer == 0 ? first + rows_of(video * channels, 2 * frequencies)
           : layer < layers
               ? hidden + rows_of((video * (layers - 1) + layer - 1) * channels, channels)
               : onward + rows_of(video * outputs, channels);
  }
  template <class Shape>
  __device__ __forceinline__ int parts(int layer) const {
    return (outputs_of(layer) + Shape::kN - 1) / Shape::kN;
  }
  // Of kStages slices each.
  template <int kStages>
  __device__ __forceinline__ int rounds(int layer) const {
    return (inputs(layer) + kStages * kDepth<T> - 1) / (kStages * kDepth<T>);
  }
};

template <class T, class Shape, int kStages>
class WeightStream {
 public:
  using Slice = gemm::Slice<T, Shape::kN, true>;
  using Share = gemm::Share<T, Shape, Slice>;

  __device__ __forceinline__ WeightStream(const ChainWeights<T>& weights, int video)
      : weights_(weights), video_(video), layer_(0), part_(0) {
    begin();
  }

  // Starts the copies of slice `ahead` of the round.
  __device__ __forceinline__ void copy(Shared<T> stage, int ahead) const {
    const int pitch = weights_.inputs(layer_);
    const bool has_columns = left_ > ahead * step_;
#pragma unroll
    for (int i = 0; i < Share::kCopies; ++i) {
      const bool has = has_columns && rows_ > i * Share::kRowsAtOnce;
      cp_async_16(stage + Share::offset(i),
                  next_ + (rows_of(i * Share::kRowsAtOnce, pitch) + ahead * step_), has);
    }
  }

  // Goes on to the next round, which may be the next part's, or behind the last one, zeros.
  __device__ __forceinline__ void next_round() {
    next_ += kStages * step_;
    left_ -= kStages * step_;
    if (--rounds_ > 0) {
      return;
    }
    if (++part_ == weights_.template parts<Shape>(layer_)) {
      part_ = 0;
      ++layer_;
    }
    if (layer_ < weights_.count()) {
      begin();
    } else {
      left_ = 0;
    }
  }

 private:
  __device__ __forceinline__ void begin() {
    const int chunk = Share::chunk() * kChunk<T>;
    const int row = part_ * Shape::kN + Share::row(0);
    rounds_ = weights_.template rounds<kStages>(layer_);
    const int pitch = weights_.inputs(layer_);
    rows_ = weights_.outputs_of(layer_) - row;
    int column = chunk;
    if (layer_ == 0) {
      const PairedColumns<kDepth<T>> columns{weights_.frequencies};
      step_ = PairedColumns<kDepth<T>>::template kAdvance<T>;
      left_ = weights_.frequencies - columns.index(chunk);
      column = columns.at(chunk);
    } else {
      step_ = kDepth<T>;
      left_ = pitch - chunk;
    }
    next_ = weights_.matrix(video_, layer_) + (rows_of(row, pitch) + column);
  }

  const ChainWeights<T>& weights_;
  int video_;
  int layer_, part_, rounds_;  // where the round stands, and how many its part has from it on
  Global<const T> next_;       // the thread's first row of the round
  int step_;                   // what a slice further adds
  int left_, rows_;            // of the reduced axis, and rows of the matrix, from there on
};

}  // namespace digan::gemm
