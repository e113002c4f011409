// Memory layouts: the order of a tensor's axes in memory, and copies that lie densely.

#pragma once

#include "binding/torch.h"

namespace digan {

// The axes from the outermost in memory to the innermost, as PyTorch's pointwise operations lay
// out the result of operands with these strides: the first operand that has an opinion on two
// axes decides, and a broadcast axis (stride 0) has none.
inline Sizes outermost_first(const Sizes& sizes, const std::vector<Sizes>& strides) {
  // 1: a lies outside of b, -1: inside, 0: nobody cares.
  const auto compare = [&](int64_t a, int64_t b) {
    for (const Sizes& operand : strides) {
      if (operand[a] == 0 || operand[b] == 0) {
        continue;
      }
      if (operand[a] != operand[b]) {
        return operand[a] > operand[b] ? 1 : -1;
      }
      if (sizes[a] > sizes[b]) {
        return 1;
      }
    }
    return 0;
  };
  // An insertion sort from the innermost on, which as PyTorch's goes past axes without order.
  Sizes inner_first;
  for (int64_t axis = static_cast<int64_t>(sizes.size()) - 1; axis >= 0; --axis) {
    inner_first.push_back(axis);
  }
  for (size_t i = 1; i < inner_first.size(); ++i) {
    size_t at = i;
    for (size_t below = i; below-- > 0;) {
      const int order = compare(inner_first[below], inner_first[at]);
      if (order > 0) {
        std::swap(inner_first[below], inner_first[at]);
        at = below;
      } else if (order < 0) {
        break;
      }
    }
  }
  return Sizes(inner_first.rbegin(), inner_first.rend());
}

// The strides of a dense tensor with its axes in that order.
inline Sizes dense_strides(const Sizes& sizes, const Sizes& outermost_first) {
  Sizes strides(sizes.size());
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    const int64_t axis = outermost_first[i];
    strides[axis] = stride;
    stride *= sizes[axis] > 1 ? sizes[axis] : 1;
  }
  return strides;
}

// The tensor itself where its elements lie as those of `like`, else a copy that does.
inline Tensor laid_out_as(const Tensor& tensor, const Tensor& like) {
  bool same = true;
  for (int64_t axis = 0; axis < tensor.dim(); ++axis) {
    same = same && (tensor.size(axis) == 1 || tensor.stride(axis) == like.stride(axis));
  }
  if (same || tensor.numel() == 0) {
    return tensor;
  }
  Tensor copy = empty_strided(like, sizes_of(tensor), strides_of(like), tensor.scalar_type());
  torch::stable::copy_(copy, tensor);
  return copy;
}

}  // namespace digan
