// coord_linear on cards of 9.0: TMA, wgmma, persistent blocks. Off unless it is asked for.
//
// For the calls that the launchers of coord_linear.h have large tiles for, in 16 bits and with at
// least one frequency; those launchers ask here, and go their own way where the driver has no TMA,
// which is cudaErrorNotSupported. The tables of the grid's axes are made already.

#pragma once

#include "coord_linear.h"
#include "gemm/hopper/card.h"

namespace digan {

cudaError_t launch_coord_linear_hopper(const CoordLinearArguments& arguments, cudaStream_t stream);

// dskip, and the partial sums of phases, frequencies and axes as large tiles of the other path
// leave them in their workspaces.
cudaError_t launch_coord_linear_dphase_hopper(const CoordLinearBackwardArguments& arguments,
                                              cudaStream_t stream);

}  // namespace digan
