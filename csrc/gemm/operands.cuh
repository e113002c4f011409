// Operands as they lie in memory: matrices whose slices are copied into shared memory.
//
//   KeptRows      [kept, K]: the reduced axis is contiguous, as x and the weights of a layer have
//   it KeptColumns   [K, kept]: the kept axis is, as in the products of a backward pass Sloped
//   either, times the activation's slope, which the saved output tells
//
// What the rows and columns of memory mean is told by small maps (maps.cuh). kWhole: every chunk
// of 16 bytes lies inside the matrix or outside, and begins at a multiple of 16, so that chunks are
// copied asynchronously; else they are read number by number. kMatrices: so many matrices of one
// layout are copied alike, their slices one behind the other.

#pragma once

#include "gemm/maps.cuh"
#include "gemm/slope.cuh"
#include "gemm/tile.cuh"
#include "ptx.cuh"

namespace digan::gemm {

// What a thread copies of a slice: one chunk of several rows.
template <class T, class Shape, class Slice>
struct Share {
  static constexpr int kRowsAtOnce = Shape::kThreads / Slice::kChunks;
  static constexpr int kCopies = Slice::kRows / kRowsAtOnce;
  static_assert(Shape::kThreads % Slice::kChunks == 0 && Slice::kRows % kRowsAtOnce == 0);
  static_assert(Slice::swizzles_alike(kRowsAtOnce), "a thread's chunks lie a constant apart");

  __device__ __forceinline__ static int chunk() {
    return static_cast<int>(threadIdx.x) % Slice::kChunks;
  }
  __device__ __forceinline__ static int row(int copy) {
    return static_cast<int>(threadIdx.x) / Slice::kChunks + copy * kRowsAtOnce;
  }
  __device__ __forceinline__ static int offset(int copy) {
    return Slice::offset(row(0), chunk()) + copy * kRowsAtOnce * Slice::kChunks * kChunk<T>;
  }
};

// The first `count` numbers of a chunk, zeros behind them.
template <bool kWhole, class T>
__device__ __forceinline__ void copy_chunk(Shared<T> to, Global<const T> from, int count) {
  if constexpr (kWhole) {
    cp_async_16(to, from, count > 0);
  } else {
    Vec16<T> chunk;
#pragma unroll
    for (int i = 0; i < kChunk<T>; ++i) {
      chunk.v[i] = i < count ? from[i] : narrow<T>(Wide<T>(0));
    }
    store16(to, chunk);
  }
}

template <class T, class Shape, int kExtent, class Columns, bool kWhole, int kMatrices = 1>
class KeptRows {
 public:
  using Number = T;
  using Slice = gemm::Slice<T, kExtent, true>;
  using Share = gemm::Share<T, Shape, Slice>;
  static constexpr int kNumbers = kMatrices * Slice::kNumbers;
  static constexpr bool kPrepares = false;

  // Rows: row of the tile -> row of memory, `pitch` numbers long.
  template <class Rows>
  __device__ __forceinline__ KeptRows(const Global<const T> (&matrices)[kMatrices],
                                      int pitch,
                                      const Rows& rows,
                                      const Columns& columns)
      : left_(columns.extent - columns.index(Share::chunk() * kChunk<T>)) {
#pragma unroll
    for (int i = 0; i < Share::kCopies; ++i) {
      const int64_t row = rows(Share::row(i));
      const int64_t begin = row * pitch + columns.at(Share::chunk() * kChunk<T>);
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
        next_[m][i] = matrices[m] + begin;
      }
    }
  }

  // Of the first `matrices`.
  __device__ __forceinline__ void copy(Shared<T> stage, int matrices = kMatrices) const {
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
      if (m < matrices) {
#pragma unroll
        for (int i = 0; i < Share::kCopies; ++i) {
          copy_chunk<kWhole>(stage + (m * Slice::kNumbers + Share::offset(i)), next_[m][i], left_);
        }
      }
    }
  }
  __device__ __forceinline__ void advance() {
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
      for (int i = 0; i < Share::kCopies; ++i) {
        next_[m][i] += Columns::template kAdvance<T>;
      }
    }
    left_ -= Columns::template kAdvance<T>;
  }
  __device__ __forceinline__ void prepare(Shared<T>) const {}
  __device__ __forceinline__ void use(Shared<T>, int) const {}

 private:
  Global<const T> next_[kMatrices][Share::kCopies];
  int left_;  // numbers of the reduced axis from the next slice's on
};

template <class T,
          class Shape,
          int kExtent,
          class Rows,
          class Columns,
          bool kWhole,
          int kMatrices = 1>
class KeptColumns {
 public:
  using Number = T;
  using Slice = gemm::Slice<T, kExtent, false>;
  using Share = gemm::Share<T, Shape, Slice>;
  static constexpr int kNumbers = kMatrices * Slice::kNumbers;
  static constexpr bool kPrepares = false;

  // Rows stand on the first slice; `first` is the tile's place on the kept axis.
  __device__ __forceinline__ KeptColumns(const Global<const T> (&matrices)[kMatrices],
                                         int pitch,
                                         const Rows& rows,
                                         const Columns& columns,
                                         int first)
      : rows_(walk_of(matrices, pitch, rows, columns.at(place_of(columns, first)))),
        count_(at_most(columns.extent - columns.index(place_of(columns, first)), kChunk<T>)) {}

  // Of the first `matrices`.
  __device__ __forceinline__ void copy(Shared<T> stage, int matrices = kMatrices) const {
#pragma unroll
    for (int i = 0; i < Share::kCopies; ++i) {
      const int count = !rows_.has(i) ? 0 : kWhole ? kChunk<T> : count_;
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
        if (m < matrices) {
          copy_chunk<kWhole>(stage + (m * Slice::kNumbers + Share::offset(i)), rows_.from(m, i),
                             count);
        }
      }
    }
  }
  __device__ __forceinline__ void advance() { rows_.advance(); }
  __device__ __forceinline__ void prepare(Shared<T>) const {}
  __device__ __forceinline__ void use(Shared<T>, int) const {}

 private:
  using Walk = typename Rows::template Walk<Share, kMatrices>;
  using Pointers = Global<const T>[kMatrices];

  // The thread's place on the kept axis; one beyond its end stands on the tile's first.
  __device__ __forceinline__ static int place_of(const Columns& columns, int first) {
    const int place = first + Share::chunk() * kChunk<T>;
    return columns.index(place) < columns.extent ? place : first;
  }
  __device__ __forceinline__ static Walk walk_of(const Pointers& matrices,
                                                 int pitch,
                                                 const Rows& rows,
                                                 int column) {
    Pointers columns;
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
      columns[m] = matrices[m] + column;
    }
    return Walk(rows, pitch, columns);
  }

  Walk rows_;
  int count_;  // numbers of the thread's chunk
};

// The gradient of pre-activations: that of outputs, times the slope. `Base` copies gradients and
// outputs; each thread finishes the chunks that it copied itself. kSums: their sums along the
// reduced axis are wanted too.
template <class Base, bool kClamps, bool kSums = false>
class Sloped {
 public:
  using T = typename Base::Number;
  using Number = T;
  using Slice = typename Base::Slice;
  using Share = typename Base::Share;
  static constexpr int kNumbers = Base::kNumbers;
  static constexpr bool kPrepares = true;

  // Not `sloped`: the gradients are those of pre-activations already.
  __device__ __forceinline__ Sloped(const Base& base, const Slope<T, kClamps>& slope, bool sloped)
      : base_(base), slope_(slope), sloped_(sloped) {}

  __device__ __forceinline__ void copy(Shared<T> stage) const {
    base_.copy(stage, sloped_ ? 2 : 1);
  }
  __device__ __forceinline__ void advance() { base_.advance(); }

  __device__ __forceinline__ void prepare(Shared<T> stage) {
    if (sloped_) {
#pragma unroll
      for (int i = 0; i < Share::kCopies; ++i) {
        const Shared<T> at = stage + Share::offset(i);
        const Vec16<T> chunk = slope_(load16(at), load16(at + Slice::kNumbers));
        store16(at, chunk);
        add(chunk);
      }
    } else if (kSums) {
#pragma unroll
      for (int i = 0; i < Share::kCopies; ++i) {
        add(load16(stage + Share::offset(i)));
      }
    }
  }

  __device__ __forceinline__ void use(Shared<T>, int) const {}

  // Of kept column j of this thread's chunk, over the reduced rows that it copied.
  __device__ __forceinline__ Wide<T> sum(int j) const { return sum_[j]; }

 private:
  __device__ __forceinline__ void add(const Vec16<T>& chunk) {
    if (kSums) {
#pragma unroll
      for (int j = 0; j < kChunk<T>; ++j) {
        sum_[j] += widen(chunk.v[j]);
      }
    }
  }

  Base base_;
  Slope<T, kClamps> slope_;
  bool sloped_;
  Wide<T> sum_[kChunk<T>] = {};
};

}  // namespace digan::gemm
