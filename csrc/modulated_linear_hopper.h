// modulated_linear on cards of 9.0: TMA, wgmma, persistent blocks. Off unless it is asked for.
//
// For the calls that the launchers of modulated_linear.h have large tiles for, in 16 bits and
// with at least one number along the reduced axis; those launchers ask here.

#pragma once

#include "gemm/hopper/card.h"
#include "modulated_linear.h"

namespace digan {

constexpr int kHopperDepth = 64;  // rows of a slice of dweight

cudaError_t launch_modulated_linear_hopper(const ModulatedLinearArguments& arguments,
                                           cudaStream_t stream);

cudaError_t launch_modulated_linear_dx_hopper(const ModulatedLinearBackwardArguments& arguments,
                                              cudaStream_t stream);

// dweight, and the sums of rows for dbias, in `parts` parts of `slices` slices of 64 rows each
// video; the parts' sums stand in the workspaces as those of the other path.
cudaError_t launch_modulated_linear_dweight_hopper(
    const ModulatedLinearBackwardArguments& arguments, int parts, int slices, cudaStream_t stream);

}  // namespace digan
